"""Prepared sets in the cache: the same small or mapped from the file, damage noticed in either."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from quincunx.recipes.long_range.data import Examples, cache
from quincunx.recipes.long_range.data.cache import Kept, kept


def made() -> tuple[dict[str, Examples], dict[str, object]]:
    generator = np.random.Generator(np.random.Philox(1))
    parts = {
        name: Examples.of_images(
            generator.integers(0, 256, (count, 64), dtype=np.uint8), generator.integers(0, 2, count, dtype=np.uint8)
        )
        for name, count in (("train", 50), ("dev", 5), ("test", 7))
    }
    return parts, {"found": [1, "two"]}


def get(folder: Path, request: object = 1) -> Kept:
    return kept("set", {"asked": request}, folder, made, first_id=1)


def same(one: Kept, other: Kept) -> bool:
    return all(one.splits[name].fingerprint() == other.splits[name].fingerprint() for name in one.splits)


@pytest.mark.parametrize("mapped_from", [1, 1 << 26], ids=["mapped", "read"])
def test_what_comes_back_is_what_was_made(tmp_path, monkeypatch, mapped_from):
    monkeypatch.setattr(cache, "_MAPPED_FROM", mapped_from)
    first, again = get(tmp_path), get(tmp_path)
    assert (first.made, again.made) == (True, False)
    assert first.about == again.about == {"found": [1, "two"]}
    assert same(first, again)
    assert again.splits["train"].tokens(3).min() >= 1, "first_id is kept"
    assert isinstance(again.splits["train"].flat, np.memmap) == (mapped_from == 1)
    assert get(tmp_path, request=2).path != first.path


@pytest.mark.parametrize("mapped_from", [1, 1 << 26], ids=["mapped", "read"])
def test_a_flipped_bit_is_noticed_and_the_set_made_anew(tmp_path, monkeypatch, mapped_from):
    monkeypatch.setattr(cache, "_MAPPED_FROM", mapped_from)
    first = get(tmp_path)
    data = bytearray(first.path.read_bytes())
    data[data.index(np.asarray(first.splits["train"].flat).tobytes()) + 1000] ^= 4
    first.path.write_bytes(data)
    again = get(tmp_path)
    assert again.made and same(first, again)
    assert again.notes == [f"{first.path} is damaged; it is made anew."]


def test_an_array_that_is_no_plain_one_counts_as_damage(tmp_path):
    first = get(tmp_path)
    with zipfile.ZipFile(first.path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(first.path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content[:-1] if name.startswith("dev_tokens") else content)
    assert get(tmp_path).made
