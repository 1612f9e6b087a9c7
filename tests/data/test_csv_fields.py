"""The csv module's limit, raised for one reader at a time and put back."""

from __future__ import annotations

import csv
import threading

import pytest

from quincunx.data.csv_fields import long_fields


def test_fields_of_any_length_are_read_within_and_the_limit_is_put_back():
    before, line = csv.field_size_limit(), "x" * 200_000
    assert before < len(line)
    with long_fields():
        assert next(csv.reader([line])) == [line]
    with pytest.raises(csv.Error, match="field larger"):
        next(csv.reader([line]))
    with pytest.raises(ValueError, match="stopped"), long_fields():
        raise ValueError("stopped")
    assert csv.field_size_limit() == before


def test_a_second_reader_waits_so_that_the_limit_it_puts_back_is_the_first():
    before, entered = csv.field_size_limit(), threading.Event()

    def read() -> None:
        with long_fields():
            entered.set()

    with long_fields():
        other = threading.Thread(target=read)
        other.start()
        assert not entered.wait(0.05)
    other.join()
    assert entered.is_set() and csv.field_size_limit() == before
