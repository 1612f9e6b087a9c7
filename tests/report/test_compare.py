"""Runs side by side: what makes a group, what its interval is over, and what is refused or left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx import train
from quincunx.config.write import yaml_text
from quincunx.errors import RunError, UsageError
from quincunx.metrics.record import Evaluation, Table
from quincunx.report.compare import Comparison, compare, render, run_folders
from quincunx.report.grouping import acting, differing, naming
from quincunx.runs import RunFolder
from runner import tiny

T4, T2 = 2.776445, 4.302653
"""Student's t at 97.5 % with 4 and 2 degrees of freedom, from printed tables."""


def made(
    path: Path,
    seed: int | None,
    value: float,
    config: Mapping[str, Any] | None = None,
    *,
    data: str = "a",
    scalars: Mapping[str, float] | None = None,
    tables: Sequence[Table] = (),
    state: str = "finished",
    seconds: float = 60.0,
    parameters: int = 1000,
) -> Path:
    """Write the folder of a run and return it; `config` holds dotted settings."""
    path.mkdir(parents=True)
    folder = RunFolder(path)
    tree: dict[str, Any] = {"recipe": "toy", "seed": seed, "run": {"dir": str(path)}}
    for dotted, setting in ({"attention.kind": "softmax"} | dict(config or {})).items():
        node = tree
        *sections, last = dotted.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = setting
    folder.write_text("config.yaml", yaml_text(tree))
    folder.write_json("data.json", {"fingerprints": {"train": data}})
    folder.write_json("plan.json", {"parameters": {"trainable": parameters, "total": parameters}})
    folder.write_json("summary.json", {"state": state, "update": 5, "updates": 9, "seconds": seconds})
    found = {"accuracy": value, "accuracy_se": 0.01, "loss": 1 - value, "majority_class": 0.16, **(scalars or {})}
    evaluation = Evaluation(found, tables).to_json()
    folder.write_json("evaluations/test-5.json", {**evaluation, "split": "test", "update": 5})
    return path


def kinds(root: Path, values: Mapping[str, Sequence[float]], **more: Any) -> list[Path]:
    """Write one run a kind and seed, seeds from 1."""
    return [
        made(root / f"{kind}-{seed}", seed, value, {"attention.kind": kind}, **more)
        for kind, found in values.items()
        for seed, value in enumerate(found, 1)
    ]


def labels(comparison: Comparison) -> dict[str, list[int | None]]:
    return {group.label: [run.seed for run in group.runs] for group in comparison.groups}


def test_groups_are_kinds_with_their_seeds_and_students_interval(tmp_path: Path) -> None:
    runs = kinds(tmp_path, {"softmax": [0.4, 0.5, 0.6], "none": [0.3, 0.3, 0.36]})
    found = compare([tmp_path])
    assert found.by == ["attention.kind"]
    assert labels(found) == {"none": [1, 2, 3], "softmax": [1, 2, 3]}, "a folder's runs come by name"
    assert labels(compare(runs)) == {"softmax": [1, 2, 3], "none": [1, 2, 3]}, "single runs as they are given"
    softmax = found.groups[1].estimate
    assert softmax.over == "seeds"
    assert softmax.value == pytest.approx(0.5)
    assert softmax.high == pytest.approx(0.5 + T2 * 0.1 / math.sqrt(3), abs=1e-6)
    assert found.groups[0].levels == {"majority_class": 0.16}, "the loss and the accuracy's error vary with the seed"
    assert found.left_out == []


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """What a seed adds to both groups goes out of the difference, which is much surer than either mean."""
    base = [0.30, 0.40, 0.50, 0.60, 0.70]
    kinds(tmp_path, {"a": base, "b": [value + 0.02 + 0.001 * i for i, value in enumerate(base)]})
    found = compare([tmp_path], against="a").groups[1].difference
    assert found is not None
    assert found.estimate is not None
    assert found.seeds == [1, 2, 3, 4, 5]
    assert found.estimate.value == pytest.approx(0.022)
    half = T4 * math.sqrt(2.5e-6) / math.sqrt(5)  # the variance of 0, 1, 2, 3, 4 is 2.5
    assert found.estimate.low == pytest.approx(0.022 - half, abs=1e-7)
    other = compare([tmp_path], against="attention.kind=b")
    assert other.groups[1].difference is None
    assert other.groups[0].difference is not None
    assert other.groups[0].difference.estimate is not None
    assert other.groups[0].difference.estimate.value == pytest.approx(-0.022)


def test_only_common_seeds_are_paired(tmp_path: Path) -> None:
    made(tmp_path / "a1", 1, 0.5)
    made(tmp_path / "a2", 2, 0.6)
    made(tmp_path / "b2", 2, 0.9, {"attention.kind": "b"})
    made(tmp_path / "b3", 3, 0.1, {"attention.kind": "b"})
    made(tmp_path / "c7", 7, 0.1, {"attention.kind": "c"})
    found = compare([tmp_path])
    one, none = found.groups[1].difference, found.groups[2].difference
    assert one is not None
    assert one.estimate is not None
    assert (one.seeds, one.estimate.value, one.estimate.low) == ([2], pytest.approx(0.3), None)
    assert none is not None
    assert (none.seeds, none.estimate) == ([], None)
    text = render(found)
    assert "b: seeds in common with softmax: 2" in text
    assert "no common seed" in text


def test_a_single_run_has_the_interval_of_its_examples_and_is_said_to(tmp_path: Path) -> None:
    made(tmp_path / "a", 1, 0.5)
    made(tmp_path / "b", 1, 0.4, {"attention.kind": "none"})
    found = compare([tmp_path])
    estimate = found.groups[0].estimate
    assert estimate.over == "examples"
    assert estimate.low == pytest.approx(0.5 - 1.959964 * 0.01, abs=1e-6)
    assert found.groups[0].levels == {"majority_class": 0.16}, "told from the others where no group has two runs"
    text = render(found)
    assert "0.500 (0.480, 0.520)" in text
    assert "does not say what another seed would give (softmax, none)" in text
    assert "Student" not in text


def test_a_run_alone_is_shown_beside_what_is_named_a_level(tmp_path: Path) -> None:
    found = compare([made(tmp_path / "a", 1, 0.5, scalars={"root_operator_oracle": 0.3, "perplexity": 2.0})])
    assert found.groups[0].levels == {"majority_class": 0.16, "root_operator_oracle": 0.3}
    assert found.groups[0].difference is None
    assert "less" not in render(found)


def test_what_does_not_matter_makes_no_group(tmp_path: Path) -> None:
    made(tmp_path / "a", 1, 0.5, {"log.every": 5, "chunking.samples": 8, "data.path": "x", "compute.threads": 1})
    made(tmp_path / "b", 2, 0.6, {"log.every": 9, "chunking.samples": 4, "data.path": "y", "compute.threads": 2})
    assert len(compare([tmp_path]).groups) == 1


def test_groups_are_named_by_few_settings_and_the_others_are_said_to_follow(tmp_path: Path) -> None:
    for number, (kind, heads, layers) in enumerate([("a", 1, 1), ("a", 1, 2), ("b", 4, 1), ("b", 4, 2)]):
        config = {"encoder.heads": heads, "encoder.layers": layers, "attention.kind": kind}
        made(tmp_path / str(number), 1, 0.5, config)
    found = compare([tmp_path])
    assert sorted(found.by) == ["attention.kind", "encoder.layers"]
    assert found.follow == ["encoder.heads"]
    assert [group.label for group in found.groups][:2] == ["a, layers 1", "a, layers 2"]
    assert "the groups differ in encoder.heads as well" in render(found)


def test_by_names_the_groups_and_what_else_varies_is_said(tmp_path: Path) -> None:
    made(tmp_path / "a", 1, 0.5, {"encoder.layers": 1})
    made(tmp_path / "b", 2, 0.6, {"encoder.layers": 2})
    made(tmp_path / "c", 1, 0.7, {"encoder.layers": 1, "attention.kind": "none"})
    found = compare([tmp_path], by=["attention.kind"])
    assert labels(found) == {"softmax": [1, 2], "none": [1]}
    assert found.groups[0].varied == ["encoder.layers"]
    assert "softmax: its runs differ in encoder.layers as well" in render(found)
    made(tmp_path / "d", 1, 0.8, {"encoder.layers": 3})
    with pytest.raises(UsageError, match=r"same seed 1, but differ in encoder\.layers.*--by attention\.kind,encoder"):
        compare([tmp_path], by=["attention.kind"])


def test_a_repeated_run_is_left_out_so_that_no_seed_counts_twice(tmp_path: Path) -> None:
    made(tmp_path / "a", 1, 0.5)
    made(tmp_path / "b", 2, 0.6)
    made(tmp_path / "c", 2, 0.6, {"log.every": 7})
    found = compare([tmp_path])
    assert labels(found) == {found.groups[0].label: [1, 2]}
    assert [(each.path.name, each.reason) for each in found.left_out] == [
        ("c", f"it has the settings and the seed of {tmp_path / 'b'}")
    ]


def test_runs_that_cannot_be_compared_are_named_with_the_reason(tmp_path: Path) -> None:
    made(tmp_path / "a", 1, 0.5)
    made(tmp_path / "b", 2, 0.5, state="failed")
    made(tmp_path / "c", 3, math.nan)
    made(tmp_path / "d", 4, 0.5)
    (tmp_path / "d" / "evaluations" / "test-5.json").unlink()
    made(tmp_path / "e", 5, 0.5)
    (tmp_path / "e" / "config.yaml").unlink()
    made(tmp_path / "f", 6, 0.5, state="running")
    (tmp_path / "notes").mkdir()
    found = compare([tmp_path])
    assert {each.path.name: each.reason for each in found.left_out} == {
        "b": "it is failed, at update 5 of 9",
        "c": "its test/accuracy is nan",
        "d": "it has no evaluation of test; evaluated: nothing",
        "e": f"{tmp_path / 'e' / 'config.yaml'} cannot be read: "
        f"[Errno 2] No such file or directory: '{tmp_path / 'e' / 'config.yaml'}'",
        "f": "it is interrupted, at update 5 of 9",
    }
    assert f"left out: {tmp_path / 'b'}: it is failed" in render(found)
    with pytest.raises(RunError, match=r"none of the 6 runs can be compared:\n.*measured: accuracy, loss, majority"):
        compare([tmp_path], "test/bleu")


def test_different_data_is_refused_unless_allowed(tmp_path: Path) -> None:
    made(tmp_path / "a", 1, 0.5)
    made(tmp_path / "b", 2, 0.5, data="other")
    with pytest.raises(RunError, match=r"not made on the same data[\s\S]*a \(fing[\s\S]*b \(fing[\s\S]*--any-data"):
        compare([tmp_path])
    found = compare([tmp_path], any_data=True)
    assert len(found.groups[0].runs) == 2
    assert "NOT the same data" in render(found)
    (tmp_path / "b" / "data.json").unlink()
    with pytest.raises(RunError, match="no fingerprints kept"):
        compare([tmp_path])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metric": "accuracy"}, "expected split/name, for example test/accuracy"),
        ({"by": ["attention.kin"]}, r"no setting|has a setting 'attention\.kin'.*did you mean attention\.kind"),
        ({"against": "tpr"}, "no group 'tpr'; groups: softmax"),
    ],
)
def test_wrong_wishes_are_refused_with_what_there_is(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    made(tmp_path / "a", 1, 0.5)
    made(tmp_path / "b", 1, 0.5, {"attention.kind": "none"})
    with pytest.raises(UsageError, match=words):
        compare([tmp_path], **arguments)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        run_folders([tmp_path])
    with pytest.raises(UsageError, match="is no folder"):
        run_folders([tmp_path / "x"])


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    run = made(tmp_path / "runs" / "a", 1, 0.5)
    assert run_folders([run, tmp_path / "runs", tmp_path / "runs" / ".." / "runs" / "a"]) == [run]


def test_an_ambiguous_reference_is_refused(tmp_path: Path) -> None:
    for number, (kind, layers) in enumerate([("a", 1), ("a", 2), ("b", 1)]):
        made(tmp_path / str(number), 1, 0.5, {"attention.kind": kind, "encoder.layers": layers})
    with pytest.raises(UsageError, match="a is in several groups"):
        compare([tmp_path], against="a")
    assert compare([tmp_path], against="b").groups[2].difference is None


def by_depth(first: float, second: float, count: int = 10) -> Table:
    rows = [[1, count, first, 0.1], [2, 20, second, 0.1]]
    return Table("Accuracy by depth", ("depth", "examples", "accuracy", "standard error"), rows)


def test_tables_are_averaged_over_the_seeds_of_each_group(tmp_path: Path) -> None:
    other = Table("Confusion", ("label", "0", "1"), [[0, 3, 4]])
    made(tmp_path / "a1", 1, 0.5, tables=[by_depth(0.2, 0.4), other])
    made(tmp_path / "a2", 2, 0.5, tables=[by_depth(0.4, 0.6), other])
    made(tmp_path / "b1", 1, 0.5, {"attention.kind": "none"}, tables=[by_depth(0.1, 0.3, count=11)])
    assert compare([tmp_path]).tables == ()
    found = compare([tmp_path], tables=True)
    (parts,) = found.tables
    assert (parts.title, parts.column) == ("Accuracy by depth", "depth")
    assert [(name, count) for name, count, _ in parts.rows] == [(1, None), (2, 20)]
    softmax, none = parts.rows[1][2]
    assert softmax is not None
    assert (softmax.value, softmax.over) == (pytest.approx(0.5), "seeds")
    assert none is not None
    assert none.over == "examples"
    assert none.low == pytest.approx(0.3 - 1.959964 * 0.1, abs=1e-6)
    text = render(found, "markdown")
    assert "Accuracy by depth" in text
    assert "| depth | examples | softmax | none |" in text


def test_the_three_forms_say_the_same(tmp_path: Path) -> None:
    kinds(tmp_path, {"softmax": [0.4, 0.5], "a|b\x1b[31m": [0.3, 0.34]}, seconds=90.0, parameters=1234567)
    found = compare([tmp_path], against="softmax")
    plain, markdown, data = (render(found, form) for form in ("text", "markdown", "json"))
    read = json.loads(data)
    assert [group["label"] for group in read["groups"]] == ["a|b\x1b[31m", "softmax"]
    assert read["groups"][0]["difference"]["estimate"]["value"] == pytest.approx(-0.13)
    assert read["groups"][1]["runs"][0]["path"] == str(tmp_path / "softmax-1")
    assert (read["groups"][0]["minutes"], read["level"]) == (1.5, 0.95)
    lines = [line.split("|") for line in markdown.replace("\\|", "").splitlines() if line.startswith("|")]
    assert {len(line) for line in lines} == {9}
    for text in (plain, markdown):
        assert "\x1b" not in text
        assert "\\x1b[31m" in text
        assert "1,234,567" in text
        assert "1.5" in text
        assert "less softmax, paired" in text
    starts = {line.index("0.") for line in plain.splitlines() if line.startswith(("softmax ", "a|b"))}
    assert len(starts) == 1, "columns stand under one another"
    with pytest.raises(ValueError, match="html"):
        render(found, "html")  # pyright: ignore[reportArgumentType]


SETTINGS = st.fixed_dictionaries({name: st.sampled_from([1, 2, "w"]) for name in "abcd"})


@settings(max_examples=100, deadline=None)
@given(st.lists(SETTINGS, min_size=1, max_size=8))
def test_few_settings_tell_apart_what_all_of_them_do(runs: list[dict[str, Any]]) -> None:
    paths = differing(runs)
    named = naming(runs, paths)
    assert set(named) <= set(paths)

    def groups(names: Sequence[str]) -> int:
        return len({tuple(run[name] for name in names) for run in runs})

    assert groups(named) == groups("abcd")
    if any(groups(name) == groups("abcd") for name in "abcd"):
        assert len(named) <= 1


def test_settings_without_effect_are_passed_over() -> None:
    base = tiny({"attention.kind": "none", "schedule.kind": "fixed", "schedule.warmup": 0})
    found = acting(base | {"attention": {"kind": "none", "options": {"softmax": {"weight_dropout": 0.5}}}})
    assert "attention.options.softmax.weight_dropout" not in found
    assert "schedule.warmup" not in found
    assert found["attention.kind"] == "none"
    softmax = acting(tiny({"attention.options": {"softmax": {"weight_dropout": 0.5}}}))
    assert softmax["attention.options.softmax.weight_dropout"] == 0.5
    assert softmax["schedule.warmup"] == 3
    assert acting({"recipe": "long_range", "gone": 1}) == {"recipe": "long_range", "gone": 1}


def test_real_runs_are_grouped_by_kind(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs as they are trained: an option that only softmax has does not part the runs without attention."""
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")
    changes = {"budget.epochs": 1, "evaluate.every": None, "data.train": 40, "schedule.warmup": 1}
    for kind, seed, dropout in (("softmax", 1, 0.0), ("softmax", 2, 0.0), ("none", 1, 0.0), ("none", 2, 0.5)):
        options = {"softmax": {"weight_dropout": dropout}}
        train(
            tiny(changes | {"attention.kind": kind, "attention.options": options}),
            f"seed={seed}",
            f"run.dir=all/{kind}-{seed}",
        )
    found = compare([Path("all")], tables=True)
    assert labels(found) == {"none": [1, 2], "softmax": [1, 2]}
    assert set(found.groups[0].levels) == {"majority_class", "root_operator_oracle"}
    softmax, none = found.groups[1].parameters, found.groups[0].parameters
    assert softmax is not None
    assert none is not None
    assert softmax["total"] > none["total"]
    assert [parts.column for parts in found.tables] == ["operator", "depth", "tokens"]
    assert all(group.minutes > 0 for group in found.groups)
