"""Two rankings are paired query by query, or refused with the reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from quincunx import compare_rankings
from quincunx.errors import QuincunxError, RunError, UsageError
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.record import Evaluation
from quincunx.metrics.significance import holm, randomisation_test
from quincunx.report.kept import place_for, write
from quincunx.report.rankings import render

QUERIES = [f"q{n}" for n in range(40)]
Values = Mapping[str, Mapping[str, float]]


def values(seed: int, better: float = 0.0) -> dict[str, dict[str, float]]:
    generator = np.random.default_rng(seed)
    base = np.random.default_rng(0).random(40)
    return {
        name: dict(zip(QUERIES, (base + better + generator.normal(0, 0.1, 40)).tolist(), strict=True))
        for name in ("map", "ndcg_cut_10")
    }


def kept(path: Path, found: Values, data: str = "same") -> Path:
    with place_for(path, data) as folder:
        write(folder, Evaluation({}, values=found), {"data": data, "checkpoint": "update-7"})
    return path


def run_folder(path: Path, found: Values, *, split: str = "test", data: str = "same", best: int = 20) -> Path:
    """Return a run folder with evaluations after updates 10 and 20; that at `best` has the values."""
    (path / "evaluations").mkdir(parents=True)
    (path / "config.yaml").write_text("recipe: retrieval\n")
    (path / "data.json").write_text(json.dumps({"fingerprints": {split: data, "train-1": str(path)}}))
    summary = {"state": "finished", "best": {"metric": "dev/map", "value": 1.0, "update": best}}
    (path / "summary.json").write_text(json.dumps(summary))
    for update in (10, 20):
        mine = found if update == best else {name: dict.fromkeys(rows, 0.0) for name, rows in found.items()}
        content = {"split": split, "update": update, **Evaluation({"map": 0.1}, values=mine).to_json()}
        text = json.dumps(content).replace("NaN", '"nan"')
        (path / "evaluations" / f"{split}-{update:08d}.json").write_text(text)
    return path


def test_differences_intervals_and_tests_are_those_of_the_values(tmp_path):
    one, other = values(1, 0.05), values(2)
    found = compare_rankings(kept(tmp_path / "a", one), kept(tmp_path / "b", other), samples=2000, seed=3)
    assert found.queries == 40
    ps: list[float] = []
    for name in ("map", "ndcg_cut_10"):
        a, b = (np.array([each[name][query] for query in sorted(QUERIES)]) for each in (one, other))
        row = found.row(name)
        assert (row.a, row.b) == (a.mean(), b.mean())
        assert row.difference == bootstrap_mean(a - b, 0.95, 3, 10_000)
        assert (row.p, row.exact) == randomisation_test(a - b, seed=3, samples=2000)
        assert (row.wins, row.ties, row.losses) == ((a > b).sum(), (a == b).sum(), (a < b).sum())
        ps.append(row.p)
    assert [row.p_holm for row in found.rows] == holm(ps)
    again = compare_rankings(tmp_path / "a", tmp_path / "b", samples=2000, seed=3)
    assert again == found
    assert compare_rankings(tmp_path / "a", tmp_path / "b", samples=2000, seed=4) != found


def test_a_runs_evaluation_is_that_of_its_best_checkpoint_whatever_is_newer(tmp_path):
    one, other = values(1), values(2)
    a, b = run_folder(tmp_path / "a", one, best=10), kept(tmp_path / "b", other)
    found = compare_rankings(a, b)
    assert found.row("map").a == pytest.approx(np.mean(list(one["map"].values())))
    assert "after update 10" in found.of[0] and "update-7" in found.of[1]
    assert found.notes == []


def test_an_evaluation_of_other_data_is_chosen_by_name(tmp_path):
    a, b = (run_folder(tmp_path / name, values(number)) for number, name in enumerate("ab"))
    for number, path in enumerate((a, b)):
        kept(path / "evaluations" / "other-test", values(number + 5), "other")
    found = compare_rankings(a, b, data_name="other-test")
    assert found.row("map").b == pytest.approx(np.mean(list(values(6)["map"].values())))
    with pytest.raises(UsageError, match="no evaluation 'more'; it has other-test"):
        compare_rankings(a, b, data_name="more")
    with pytest.raises(RunError, match="different data"):
        compare_rankings(a, kept(tmp_path / "c", values(3), "other"))


@pytest.fixture
def trec(tmp_path: Path) -> dict[str, Path]:
    """Two TREC runs over three queries, one of which the second lacks, and their judgements."""
    texts = {
        "qrels": "a 0 d1 1\nb 0 d1 1\nc 0 d2 1\n",
        "one": "a Q0 d1 1 2 t\nb Q0 d1 1 2 t\nc Q0 d2 1 2 t\n",
        "other": "a Q0 d2 1 2 t\na Q0 d1 2 1 t\nb Q0 d1 1 2 t\nz Q0 d1 1 1 t\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: tmp_path / name for name in texts}


def test_trec_files_are_measured_and_what_they_lack_counts_nothing(trec):
    found = compare_rankings(trec["one"], trec["other"], qrels=trec["qrels"], measures="recip_rank,P_1")
    row = found.row("recip_rank")
    assert (row.a, row.b) == (1.0, 0.5)
    assert (row.wins, row.ties, row.losses) == (2, 1, 0)
    assert (row.p, row.exact) == (0.5, True)  # of the four assignments of signs, two are as far from 0
    assert [row.measure for row in found.rows] == ["recip_rank", "P_1"]
    assert len(found.notes) == 1 and "1 of 3 judged queries are not in" in found.notes[0]
    standard = compare_rankings(trec["one"], trec["one"], qrels=trec["qrels"])
    assert [row.measure for row in standard.rows] == ["ndcg_cut_10", "recip_rank", "recall_100", "map"]
    assert {row.p for row in standard.rows} == {1.0}


def test_a_file_and_a_folder_are_compared_by_what_the_folder_has(trec, tmp_path):
    folder = kept(tmp_path / "kept", {"recip_rank": {"a": 1.0, "b": 1.0, "c": 0.0}})
    found = compare_rankings(trec["one"], folder, qrels=trec["qrels"])
    assert [row.measure for row in found.rows] == ["recip_rank"]
    assert found.row("recip_rank").losses == 0 and found.row("recip_rank").wins == 1
    assert "nothing tells on which data" in found.notes[0]


def test_ranks_are_better_when_lower_and_queries_without_one_are_left_out(tmp_path):
    a = kept(tmp_path / "a", {"first_rank": {"x": 1.0, "y": math.nan, "z": 5.0}})
    b = run_folder(tmp_path / "b", {"first_rank": {"x": 3.0, "y": 2.0, "z": 9.0}})
    row = compare_rankings(a, b).row("first_rank")
    assert (row.wins, row.ties, row.losses) == (2, 0, 0)
    assert (row.a, row.b, row.difference.value) == (3.0, 6.0, -3.0)
    assert "1 queries are left out" in compare_rankings(a, b).notes[0]
    nothing = kept(tmp_path / "c", {"first_rank": dict.fromkeys("xyz", math.nan)})
    with pytest.raises(UsageError, match="no query has a first_rank in both"):
        compare_rankings(a, nothing)


def test_other_queries_are_refused_and_named(tmp_path):
    one = values(1)
    fewer = {name: {query: value for query, value in rows.items() if query != "q7"} for name, rows in one.items()}
    other = {name: {**rows, "extra": 1.0} for name, rows in fewer.items()}
    a, b, c = kept(tmp_path / "a", one), kept(tmp_path / "b", fewer), kept(tmp_path / "c", other)
    with pytest.raises(RunError, match=r"/b lacks 1 that the other has \('q7'\)$"):
        compare_rankings(a, b)
    with pytest.raises(RunError, match=r"/a lacks 1 that the other has \('extra'\); .*/c lacks 1 .* \('q7'\)$"):
        compare_rankings(a, c)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"b": "nowhere"}, UsageError, "nowhere does not exist"),
        ({"b": "empty"}, UsageError, "neither a run folder nor a kept evaluation"),
        ({"split": "gold"}, UsageError, "no evaluation of the split 'gold'; it has test"),
        ({"measures": "map,recip_rank"}, UsageError, "was not measured by recip_rank; .*map, ndcg_cut_10"),
        ({"measures": "ndcg@10"}, UsageError, "did you mean ndcg_cut_10"),
        ({"qrels": "qrels"}, UsageError, "--qrels is for TREC run files"),
        ({"b": "one"}, UsageError, "give the judgements by --qrels"),
        ({"a": "kept", "b": "kept", "data_name": "x"}, UsageError, "neither is one"),
        ({"b": "less"}, UsageError, "no measure in common"),
        ({"b": "silent"}, UsageError, "holds no values by query"),
        ({"samples": 0}, UsageError, "0 samples"),
        ({"seed": -1}, UsageError, "seed is -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, trec, options, error: type[QuincunxError], said):
    run_folder(tmp_path / "run", values(1))
    run_folder(tmp_path / "silent", {})
    kept(tmp_path / "kept", values(2))
    kept(tmp_path / "less", {"P_1": dict.fromkeys(QUERIES, 1.0)})
    (tmp_path / "empty").mkdir()
    options = {"a": "run", "b": "kept", **options}
    paths = {name: tmp_path / options.pop(name) for name in ("a", "b", "qrels") if name in options}
    with pytest.raises(error, match=said):
        compare_rankings(paths.pop("a"), paths.pop("b"), **paths, **options)


def test_the_text_names_both_and_shows_each_measure(tmp_path):
    found = compare_rankings(kept(tmp_path / "a", values(1, 0.2)), kept(tmp_path / "b", values(2)), samples=999)
    lines = render(found).splitlines()
    assert lines[0].startswith(f"A  {tmp_path}/a: a kept evaluation, update-7")
    assert lines[2] == "40 queries"
    row = found.row("map")
    cells = next(line for line in lines if line.startswith("map ")).split()
    assert cells[1:4] == [f"{row.a:.4f}", f"{row.b:.4f}", f"{row.difference.value:+.4f}"]
    assert cells[-3:] == [str(row.wins), str(row.ties), str(row.losses)]
    assert "(999 drawn where they are too many)" in lines[-2] and "corrected for 2 measures" in lines[-2]
    plain = found.to_json()
    assert plain["measures"]["map"]["p_holm"] == row.p_holm
    assert json.loads(json.dumps(plain)) == json.loads(json.dumps(found.to_json()))
