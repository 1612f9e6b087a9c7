"""The Markdown and the CSV of a sweep: nothing in a name or a value breaks them, and the words say what holds."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.report.comparison import Estimate
from quincunx.sweep.records import SweepRecord
from quincunx.sweep.report import RangeFact
from quincunx.sweep.report.importance import importance
from quincunx.sweep.report.results import table
from quincunx.sweep.report.texts import COLUMNS, csv_text, markdown, remarks, standing, verdict
from quincunx.sweep.report.values import Facts, label, sensible, short_names, spelt, with_interval
from sweep_results_made import facts, realistic, realistic_facts, sweep, trial


def rows_of(record: SweepRecord, known: Facts) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(table(record, known.goal), known))))


def written(record: SweepRecord, known: Facts) -> str:
    results = table(record, known.goal)
    return markdown(record, results, known, importance(record, results, known.ranges))


def cells(line: str) -> int:
    """Return the cells of a line of a Markdown table."""
    return line.replace("\\\\", "").replace("\\|", "").count("|") - 1


def test_csv_holds_the_numbers_in_full() -> None:
    record = sweep(trial(0, [0.1, 0.2, 0.4]), trial(1, [1 / 3, 0.5, 0.9]))
    results = table(record, "max")
    first, second = rows_of(record, facts())
    best, other = results.rows
    assert best.estimate and other.difference
    assert float(first["value"]) == best.estimate.value and float(first["interval_high"]) == best.estimate.high
    assert float(second["difference_low"]) == other.difference.low
    assert [float(each) for each in first["values"].split()] == [1 / 3, 0.5, 0.9]
    assert first["seeds"] == "1 2 3" and first["folders"] == "toy_3 toy_4 toy_5"
    assert (first["rank"], first["trial"], first["against_best"], first["lr"]) == ("1", "1", "best", "0.2")
    assert second["memory_bytes"] == str(100 << 20) and second["seconds"] == "60.0"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@sum", "'@sum"),
        ("-x", "'-x"),
        (-3, "-3"),
        (-0.5, "-0.5"),
        ('say "a,b"\nand', 'say "a,b"\nand'),
        ("\r=1\x00", "\\r=1\\x00"),
        (None, "null"),
        (True, "true"),
        ("", '""'),
        ([1, "a"], '[1, "a"]'),
        ({"b": 1, "a": None}, '{"a": null, "b": 1}'),
    ],
)
def test_csv_of_any_value(value: Any, cell: str) -> None:
    assert rows_of(sweep(trial(0, [0.5], {"lr": value})), facts())[0]["lr"] == cell


def test_csv_of_values_that_are_no_numbers_and_settings_that_do_not_act() -> None:
    record = sweep(trial(0, [math.nan], {"value": "a"}), trial(1, [None], {"=x": 2}, state="failed", reason="=cmd"))
    found = {row["trial"]: row for row in rows_of(record, facts())}
    assert found["0"]["value"] == "nan" and found["1"]["value"] == ""
    assert found["0"]["settings.value"] == "a" and found["1"]["settings.value"] == ""
    assert found["1"]["'=x"] == "2" and found["1"]["reason"] == "'=cmd"
    assert csv_text(table(sweep(), "max"), facts()) == ",".join(COLUMNS) + "\n"


def test_markdown_tables_keep_their_columns_whatever_is_in_them() -> None:
    nasty = ["a|b", "`x`|", "\\|", "<b>\n|", "[a](b)", "*x*", "__y__", "-"]
    record = sweep(*(trial(number, [0.1 * number, 0.2], {"k|y": value}) for number, value in enumerate(nasty)))
    text = written(record, facts(name="# <i>|name`", ranges=(RangeFact("k|y", ("k|y",)),)))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(nasty) and len({cells(line) for line in lines if "---" not in line}) == 1
    assert "<b>" not in text and "<i>" not in text and "\\*x\\*" in text and "[a\\](b)" in text
    assert "d_model" in written(sweep(trial(0, [0.5], {"d_model": "a_b"})), facts())
    fenced = written(sweep(trial(0, [0.5], folder="```")), facts()).splitlines()
    assert fenced.count("````sh") == 2, "the fence is longer than what is in the command"


def test_the_sentences_state_comparisons_and_what_they_do_not_correct() -> None:
    record = realistic(30, 3)
    results = table(record, "max")
    said = " ".join(remarks(results, realistic_facts()))
    count = len(results.distinct) - 1
    assert f"{count} configurations, each by the 95 % interval" in said
    assert "not corrected for being several, nor for the best having been chosen" in said
    assert f"all {math.comb(count + 1, 2):,} pairs at once" in said
    assert "seeds that took no part in the choice" in said
    assert "Pruned" in said and "a seed failed" in said
    even = sum(row.verdict == "even" for row in results.ranked)
    assert verdict(results) == f"{even} of {count} others are not told apart from it."


def test_equal_differences_are_not_taken_for_certainty() -> None:
    record = sweep(trial(0, [0.3, 0.3 + 1 / 30]), trial(1, [0.3 - 4 / 30, 0.3 - 3 / 30]))
    results = table(record, "max")
    assert "worse: -0.1333 [-0.1333, -0.1333]" in written(record, facts())
    assert any("the same for every seed" in line for line in remarks(results, facts()))
    other = table(sweep(trial(0, [0.3, 0.4]), trial(1, [0.1, 0.15])), "max")
    assert not any("the same for every seed" in line for line in remarks(other, facts()))


def test_why_a_run_failed_is_told_by_its_first_line() -> None:
    text = written(sweep(trial(0, [None], state="failed", reason="no such file:\n    a\n    b\n")), facts())
    assert "- trial 0 (failed): no such file\n" in text


def test_one_seed_is_said_to_tell_nothing() -> None:
    record = sweep(trial(0, [0.5]), trial(1, [0.6]))
    results = table(record, "max")
    said = " ".join(remarks(results, facts()))
    assert (
        "set sweep.n_seeds to 3 or more" in said and "Held against the best" not in said and "interval of" not in said
    )
    assert "nothing tells a better configuration from a luckier one" in verdict(results)


def test_what_is_said_of_a_young_sweep() -> None:
    assert standing(sweep(), table(sweep(), "max")) == "No configuration has been begun yet."
    assert verdict(table(sweep(), "max")) == "No configuration has a value yet."
    young = sweep(trial(0, [0.25], state="pruned", update=40), trial(1, [None], state="running", update=90))
    results = table(young, "max")
    assert standing(young, results) == (
        "2 configurations: 1 pruned, 1 not finished; 2 runs, 130 updates, 30 min 0 s at work."
    )
    assert "Trial 0 leads those that came furthest, with 0.25 at update 40" in verdict(results)
    assert verdict(table(sweep(trial(0, [0.5, 0.6])), "max")).startswith("It is the only configuration")
    assert verdict(table(sweep(trial(0, [0.5, 0.6]), trial(1, [0.1, 0.2])), "max")) == (
        "The other one is told apart from it."
    )
    for record in (sweep(), young):
        assert written(record, facts()).endswith("Written today.\n")


def test_copies_count_nowhere() -> None:
    copy = trial(1, [0.5])
    record = sweep(trial(0, [0.5]), replace(copy, runs=[replace(run, same_as=0) for run in copy.runs]))
    assert "; 1 run, 100 updates" in standing(record, table(record, "max"))
    assert "same as trial 0" in written(record, facts())


def test_a_long_table_is_cut_and_says_so() -> None:
    text = written(sweep(*(trial(number, [0.001 * number]) for number in range(60))), facts())
    assert "10 more are in results.csv." in text


def test_labels_tell_values_apart() -> None:
    values: list[Any] = [1, 1.0, True, "1", "1.0", "true", None, "null", "", " ", "not set", "a", [1], "[1]", {"a": 1}]
    values += [1e-5, "1e-05", math.nan, math.inf, "nan"]
    assert len({label(value) for value in values}) == len(values) - 1, "only nan and the word are alike"
    assert label("softmax") == "softmax" and label(1e-5) == "1e-05" and label("a\x1b[0m") == "a\\x1b[0m"
    assert spelt({"lr": 0.1, "kind": "x"}) == "lr 0.1, kind x"


def test_names_are_as_short_as_tells_them_apart() -> None:
    assert short_names(["optimizer.lr", "a.depth", "b.depth", "attention.kind", "seed"]) == {
        "optimizer.lr": "lr",
        "a.depth": "a.depth",
        "b.depth": "b.depth",
        "attention.kind": "attention.kind",
        "seed": "seed",
    }
    assert short_names(["depth", "a.depth"]) == {"depth": "depth", "a.depth": "a.depth"}


def test_estimates_in_words() -> None:
    assert with_interval(None) == "-" and with_interval(Estimate(0.5)) == "0.5"
    assert with_interval(Estimate(0.12345, 0.10345, 0.14345)) == "0.123 [0.103, 0.143]"
    near = with_interval(Estimate(-0.036, -0.0719, -0.0001), signed=True)
    assert near == "-0.0360 [-0.0719, -0.0001]", "an interval without 0 does not read as if it held it"
    assert with_interval(Estimate(0.01, -0.01, 0.03), signed=True) == "+0.010 [-0.010, +0.030]"


def test_a_picture_leaves_out_a_few_bad_values_only() -> None:
    assert sensible([0.1, 0.2, 0.3], "min") == (0.1, 0.3)
    low, high = sensible([*(0.1 + 0.01 * each for each in range(20)), 50.0], "min")
    assert low == 0.1 and 0.29 < high < 1
    low, high = sensible([*(0.9 - 0.01 * each for each in range(20)), -50.0], "max")
    assert high == 0.9 and -1 < low < 0.71
    assert sensible([], "max") == (0.0, 1.0)
    low, high = sensible([0.5, 0.5], "max")
    assert low < 0.5 < high


texts = st.text(max_size=12)
anything = st.one_of(texts, st.none(), st.booleans(), st.floats(), st.integers(), st.lists(texts, max_size=2))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.dictionaries(texts, anything, max_size=3), st.floats()), max_size=5), texts)
def test_any_settings_can_be_written(found: list[tuple[dict[str, Any], float]], name: str) -> None:
    record = sweep(*(trial(number, [value], each) for number, (each, value) in enumerate(found)))
    known = facts(name=name, ranges=tuple(RangeFact(key, (key,)) for each, _ in found for key in each))
    rows = list(csv.reader(io.StringIO(csv_text(table(record, "max"), known))))
    assert len(rows) == 1 + len(found) and len({len(row) for row in rows}) == 1
    assert all(not cell.startswith(("=", "+", "@")) for row in rows for cell in row)
    lines = [line for line in written(record, known).split("\n") if line.startswith("| ")]
    assert len({cells(line) for line in lines}) == 1
