"""A run measured on any collection: what is kept says the same as what was measured, whoever reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quincunx import Run, evaluate, train
from quincunx.errors import DataError, RunError, UsageError
from quincunx.index.exact import NOTHING, Found
from quincunx.metrics.ranking import id_order, score
from quincunx.metrics.ranking.trec import read_qrels, read_run
from quincunx.recipes.retrieval.data.collection import Relations
from quincunx.recipes.retrieval.evaluate.trec_lines import Ranking, unfit
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from recipes.retrieval.collections_made import config_of, write_collection

MODES = {
    "bi": {},
    "poly": {"mode": "poly-encoder", "poly__codes": 4},
    "cross": {"mode": "cross-encoder", "evaluate__rerank": 15},
}
MEASURES = ["ndcg_cut_10", "recip_rank", "map", "P_1", "first_rank", "num_rel_ret"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data to train on, and other data, graded, with words of its own among known ones."""
    folder = tmp_path_factory.mktemp("measuring")
    write_collection(folder / "data", train=60, test=12)
    other = write_collection(folder / "other", train=0, test=30, seed=5)
    graded = "".join(f"q{n}\td{(n + 7) % 30}\t{n % 3}\n" for n in range(25))
    with (other / "qrels" / "test.tsv").open("a", encoding="utf-8") as file:
        file.write(graded)
    shutil.copy(other / "qrels" / "test.tsv", other / "qrels" / "dev.tsv")
    return folder


def trained(place: Path, name: str, **changes: Any) -> Run:
    changes = {"budget__epochs": 1, "evaluate__measures": MEASURES, **changes}
    return train(config_of(place / "data", place / name, place / "cache", **changes))


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, Run]:
    return {name: trained(place, name, **changes) for name, changes in MODES.items()}


@pytest.fixture
def bi(runs: dict[str, Run]) -> Run:
    """The bi-encoder, nothing kept in its folder but what training left."""
    for path in runs["bi"].folder.evaluations.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    return runs["bi"]


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("mode", MODES)
def test_measures_of_the_kept_ranking_are_those_kept(runs, place, mode):
    run = runs[mode]
    evaluation = evaluate(run, data=place / "other")
    folder = run.folder.evaluations / "other-test"
    metrics, found = read(folder), score(*_files(folder), MEASURES)
    assert metrics["mean"] == found.mean, "bit for bit"
    assert metrics["queries"] == 30
    assert metrics["checkpoint"] == run.checkpoint("best").name
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    assert [row.pop("query") for row in rows] == sorted(evaluation.values["map"])
    assert [list(row) for row in rows] == [MEASURES] * 30
    assert [row["map"] for row in rows] == found.of("map").tolist()
    assert {name: values["q3"] for name, values in evaluation.values.items()} == found.queries["q3"]
    shown = {row[0]: row[2:4] for row in evaluation.tables[0].rows if row[2]}
    kept = {name: [f"{each[side]:.4f}" for side in ("low", "high")] for name, each in metrics["intervals"].items()}
    assert kept == shown
    assert evaluation.notes[-1] == f"kept in {folder}"
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("mode", MODES)
def test_trec_evals_own_code_reads_the_same(runs, place, mode):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    run = runs[mode]
    evaluate(run, data=place / "other")
    folder = run.folder.evaluations / "other-test"
    qrels, ranked = _files(folder)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg_cut_10", "recip_rank"}).evaluate(ranked)
    for line in (folder / "queries.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in ("map", "ndcg_cut_10", "recip_rank"):
            assert row[name] == pytest.approx(theirs.get(row["query"], {}).get(name, 0.0), abs=1e-9)


def _files(folder: Path) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    return read_qrels(folder / "qrels.trec"), read_run(folder / "run.trec")


def test_a_cross_encoder_keeps_its_own_scores_not_those_of_bm25(runs, place):
    evaluation = evaluate(runs["cross"], data=place / "other", out=place / "cross-kept")
    lengths = {len(ranking) for ranking in read_run(place / "cross-kept" / "run.trec").values()}
    assert lengths == {15}, "as many as it reranks"
    scalars = read(place / "cross-kept")["scalars"]
    assert scalars["bm25_map"] == evaluation.scalars["bm25_map"] != scalars["map"]
    assert scalars["map"] == pytest.approx(score(*_files(place / "cross-kept"), "map").mean["map"], rel=1e-12)


def test_the_runs_own_split_is_kept_where_asked(bi, place, tmp_path):
    plain, kept = evaluate(bi), evaluate(bi, out=tmp_path / "kept")
    assert kept.values == plain.values or _equal(kept.values, plain.values)
    assert kept.scalars == pytest.approx(plain.scalars, nan_ok=True)
    metrics = read(tmp_path / "kept")
    data = json.loads((bi.path / "data.json").read_text())["fingerprints"]
    assert metrics["data"] == data["test"]
    assert metrics["documents"] == 72
    evaluate(bi, "dev", out=tmp_path / "dev")
    assert read(tmp_path / "dev")["data"] == data["dev"] != data["test"], "carved from the training queries"
    assert not [path for path in bi.folder.evaluations.iterdir() if path.is_dir()], "nothing but what was asked for"


def _equal(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)  # NaN is no equal of itself


def test_the_name_says_what_was_measured_and_the_same_is_replaced(bi, place):
    def names() -> list[str]:
        return sorted(path.name for path in bi.folder.evaluations.iterdir() if path.is_dir())

    evaluate(bi, data=place / "other")
    (bi.folder.evaluations / "other-test" / "left.over").write_text("")
    evaluate(bi, data=str(place / "other"))
    assert not (bi.folder.evaluations / "other-test" / "left.over").exists()
    evaluate(bi, "dev", "last", data=place / "other", limit=4)
    assert names() == ["other-dev-last-first-4", "other-test"]
    metrics = read(bi.folder.evaluations / "other-dev-last-first-4")
    assert (metrics["queries"], metrics["documents"]) == (4, 30), "fewer queries, the same corpus"
    assert metrics["data"] != read(bi.folder.evaluations / "other-test")["data"]
    assert len(read_run(bi.folder.evaluations / "other-dev-last-first-4" / "run.trec")) == 4


def test_what_else_is_there_is_left_as_it_is(bi, place, tmp_path):
    evaluate(bi, data=place / "data")
    before = (bi.folder.evaluations / "data-test" / "metrics.json").read_text()
    namesake = write_collection(tmp_path / "data", train=0, test=5)
    with pytest.raises(UsageError, match="other data"):
        evaluate(bi, data=namesake)
    assert (bi.folder.evaluations / "data-test" / "metrics.json").read_text() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for wrong in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        with pytest.raises(UsageError, match="--out"):
            evaluate(bi, data=namesake, out=wrong)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_limits_of_evaluations_during_training_are_for_the_runs_own_data(place):
    run = trained(place, "limited", evaluate__max_batches=1, update__batch_size=2)
    assert len(evaluate(run, "dev").values["map"]) == 2
    assert len(evaluate(run, "dev", data=place / "other").values["map"]) == 30


def test_other_forms_of_data_are_read_too(bi, place, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": f"ask{n}x1", "document": f"tell{n}y1"}) + "\n" for n in range(6)))
    assert len(evaluate(bi, data=pairs).values["map"]) == 6
    assert (bi.folder.evaluations / "pairs").is_dir() or list(bi.folder.evaluations.glob("pairs*"))
    with pytest.raises(DataError, match="no split test"):
        evaluate(bi, "test", data=pairs)


def test_rows_that_cannot_be_used_are_listed_or_left_out(bi, place, tmp_path):
    data = shutil.copytree(place / "other", tmp_path / "rows")
    with (data / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "no-text"}\n')
    with (data / "qrels" / "test.tsv").open("a", encoding="utf-8") as file:
        file.write("q1\tnobody\t1\n")
    with pytest.raises(
        DataError, match=r"corpus\.jsonl:31: no text(.|\n)*test\.tsv:\d+: relevant pair with the unknown"
    ):
        evaluate(bi, data=data)
    evaluate(bi, data=data, skip_bad_rows=True)
    folder = bi.folder.evaluations / "rows-test"
    rows = [json.loads(line) for line in (folder / "skipped_rows.jsonl").read_text().splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["corpus.jsonl", "test.tsv"]
    assert read(folder)["skipped_rows"] == 2
    assert read(folder)["documents"] == 30


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"data": "nowhere"}, DataError, "nowhere does not exist"),
        ({"data": "other", "split": "gold"}, DataError, "no split gold; there are: dev, test"),
        ({"data": "other", "format": "tsv"}, DataError, "tsv"),
        ({"data": "other", "format": "parquet"}, UsageError, "there is no format 'parquet'"),
        ({"data": "other", "limit": 0}, UsageError, "limit of 0"),
        ({"data": "other", "which": "update-7"}, UsageError, "no checkpoint update-7; there are: best, last"),
        ({"split": "gold", "out": "kept"}, UsageError, "no split 'gold'; it has dev, test"),
        ({"limit": 3}, UsageError, "give data as well"),
        ({"skip_bad_rows": True, "out": "kept"}, UsageError, "give data as well"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_leaves_nothing(bi, place, monkeypatch, asked, error, said):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    with pytest.raises(error, match=said):
        evaluate(bi, **asked)
    assert sorted(place.rglob("*")) == before


def test_tokens_of_another_model_and_texts_that_a_model_cannot_read(runs, place, tmp_path):
    datasets = pytest.importorskip("datasets")
    for largest, name in ((50, "known"), (50_000, "unknown")):
        rows = {"input_ids": [[2, 7, 8, 3], [2, 9, 3]], "pos_input_ids": [[[2, 11, 3]], [[2, largest, 3]]]}
        datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / name))
    known = evaluate(runs["bi"], "train", data=tmp_path / "known", out=tmp_path / "kept")
    assert len(known.values["map"]) == 2
    with pytest.raises(DataError, match="token id 50,000, and the query encoder's tokenizer has 4"):
        evaluate(runs["bi"], "train", data=tmp_path / "unknown")
    with pytest.raises(DataError, match="a cross-encoder reads query and document as one text"):
        evaluate(runs["cross"], "train", data=tmp_path / "known")


def test_ids_that_no_column_holds_leave_the_trec_files_out(bi, tmp_path):
    data = write_collection(tmp_path / "odd", train=0, test=5)
    corpus = (data / "corpus.jsonl").read_text().replace('"d3"', '"d 3"')
    (data / "corpus.jsonl").write_text(corpus)
    qrels = (data / "qrels" / "test.tsv").read_text().replace("\td3\t", "\td 3\t")
    (data / "qrels" / "test.tsv").write_text(qrels)
    evaluation = evaluate(bi, data=data)
    assert "cannot hold the id 'd 3'" in evaluation.notes[-2]
    names = {path.name for path in (bi.folder.evaluations / "odd-test").iterdir()}
    assert names == {"metrics.json", "queries.jsonl", "skipped_rows.jsonl"}


def test_a_run_evaluated_within_pools_ranks_other_data_whole(place, tmp_path):
    run = trained(place, "pooled", evaluate__mode="pooled", evaluate__pool=1)
    assert "over 30 queries and 30 documents" in evaluate(run, data=place / "other").notes[0]
    with pytest.raises(UsageError, match="within pools"):
        evaluate(run, out=tmp_path / "kept")


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_computed(bi, place, tmp_path):
    (tmp_path / "file").write_text("")
    with encoded() as rows, pytest.raises(RunError, match="cannot be written"):
        evaluate(bi, data=place / "other", out=tmp_path / "file" / "below")
    assert rows == []


@contextmanager
def encoded() -> Iterator[list[int]]:
    """Note how many texts each call of any text encoder encodes."""
    rows: list[int] = []

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, TextEncoder):
            rows.append(len(output))

    handle = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        yield rows
    finally:
        handle.remove()


@pytest.mark.parametrize(("kind", "again"), [("disk", 30), ("memory", 60), ("none", 60)])
def test_a_second_evaluation_encodes_only_queries_where_the_corpus_is_kept_on_disk(place, tmp_path, kind, again):
    run = trained(place, f"cache-{kind}", evaluate__corpus_cache=kind, data__cache=str(tmp_path / kind))
    first = evaluate(run, data=place / "other")
    kept = tmp_path / kind / "corpus-embeddings"
    assert kept.is_dir() == (kind == "disk")
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*")}
    with encoded() as rows:
        second = evaluate(run, data=place / "other")
    assert sum(rows) == again
    assert _equal(first.values, second.values)
    ranked = run.folder.evaluations / "other-test" / "run.trec"
    after = {path: path.stat().st_mtime_ns for path in kept.glob("*")}
    assert before.keys() == after.keys()
    assert sum(before[path] != after[path] for path in before) == (kind == "disk"), "one of them was used"
    assert read_run(ranked)
    with encoded() as rows:
        evaluate(run)
    assert sum(rows) == 12 + (0 if kind == "disk" else 72), "training left the embeddings of its last evaluation"


@pytest.mark.parametrize(("written", "means"), [(True, "memory"), (False, "none"), ("Disk", "disk")])
def test_older_words_for_where_embeddings_are_kept(place, tmp_path, written, means):
    from quincunx import load

    config = load(config_of(place / "data", tmp_path, tmp_path, evaluate__corpus_cache=written)).config
    assert config.evaluate.corpus_cache == means


def test_lines_are_in_the_order_that_is_measured():
    documents, scores = [[0, 2, 1, NOTHING]], [[0.1, 0.1, 1 / 3, -np.inf]]
    ids = ["a", "b", "c"]
    found = Found(np.array(documents), np.array(scores, np.float32))
    relevant = Relations.build(np.array([[0, 2], [0, 0]]), 1, grades=np.array([2, 0], np.int32))
    ranking = Ranking(["q"], ids, found, relevant, id_order(ids))
    third = float(np.float32(1 / 3))
    tenth = float(np.float32(0.1))
    assert list(ranking.run_lines()) == [
        f"q Q0 b 1 {third!r} quincunx\n",
        f"q Q0 c 2 {tenth!r} quincunx\n",  # of equal ones the last id first
        f"q Q0 a 3 {tenth!r} quincunx\n",
    ]
    assert list(ranking.qrels_lines()) == ["q 0 c 2\n", "q 0 a 0\n"]


def test_any_float32_survives_its_line(tmp_path):
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**32, 3000, np.uint64).astype(np.uint32)
    values = np.unique(bits.view(np.float32)[np.isfinite(bits.view(np.float32))])
    ids = [f"d{n}" for n in range(len(values))]
    found = Found(np.arange(len(values))[None], values[None])
    ranking = Ranking(["q"], ids, found, Relations.none(1), id_order(ids))
    (tmp_path / "run").write_text("".join(ranking.run_lines()))
    back = read_run(tmp_path / "run")["q"]
    assert np.array_equal(np.array([back[one] for one in ids], np.float32), values)
    assert list(back) == ids[::-1]


@pytest.mark.parametrize("one", ["", "a b", "a\tb", " a", "a\n", "a\0"])
def test_ids_with_white_space_fit_no_column(one):
    assert unfit(["fine", one]) == one
    assert unfit(["fine", "süß", "007", "\u2028"]) is None
