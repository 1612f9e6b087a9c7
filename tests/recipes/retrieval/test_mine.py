"""Mining on small collections and runs: what becomes a negative, whose scores decide, and that training reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")
pytest.importorskip("bm25s", reason="the bm25s package is not installed")

from quincunx import Run, load, train
from quincunx.errors import DataError, UsageError
from quincunx.index.building import add, build, delete
from quincunx.index.lexical import Lexical
from quincunx.index.mined import Rules
from quincunx.index.store import Store
from quincunx.recipes import recipe_of
from quincunx.recipes.retrieval import mine as module
from quincunx.recipes.retrieval.data.load import load_collection
from quincunx.recipes.retrieval.encode import Encoder
from quincunx.recipes.retrieval.encode_corpus import encode_corpus
from quincunx.recipes.retrieval.mine import Mined, mine
from quincunx.recipes.retrieval.search import Way
from quincunx.runs import read_metrics
from recipes.retrieval.collections_made import TOPICS, config_of, write_collection

MODES: dict[str, dict[str, Any]] = {
    "bi": {},
    "poly": {"mode": "poly-encoder", "poly__codes": 3},
    "cross": {"mode": "cross-encoder"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, runs of all three modes, and a store and an index of two of them."""
    folder = tmp_path_factory.mktemp("mine")
    write_collection(folder / "data", train=80, test=10, shared_word=True)
    for name, changes in MODES.items():
        train(config_of(folder / "data", folder / name, folder / "cache", budget__epochs=2, **changes))
    for name in ("bi", "poly"):
        encode_corpus(folder / name, folder / "data" / "corpus.jsonl", folder / f"{name}-store", shard_size=40)
        build(Store.open(folder / f"{name}-store"), folder / f"{name}-index")
    return folder


def rows_of(found: Mined) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.train.read_text().splitlines()]


def write_beir(folder: Path, documents: Sequence[tuple[str, str]], queries: dict[str, tuple[str, list[str]]]) -> Path:
    """Write a BEIR folder of (id, text) documents and of queries with their relevant documents."""
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": name, "title": "", "text": text}) + "\n" for name, text in documents]
    (folder / "corpus.jsonl").write_text("".join(lines))
    lines = [json.dumps({"_id": name, "text": text}) + "\n" for name, (text, _) in queries.items()]
    (folder / "queries.jsonl").write_text("".join(lines))
    pairs = [f"{name}\t{document}\t1\n" for name, (_, relevant) in queries.items() for document in relevant]
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(pairs))
    return folder


CATS = [
    ("a", "cat cat cat"),
    ("b", "cat cat dog"),
    ("b2", "cat cat dog"),
    ("c", "cat dog dog dog"),
    ("d", "cat"),
    ("e", "bird"),
    ("f", "  "),
]


def test_words_alone_mine_what_is_near_and_not_relevant(tmp_path: Path):
    data = write_beir(tmp_path / "data", CATS, {"q": ("cat", ["d"]), "r": ("bird", ["e"]), "s": ("cat", ["a"])})
    found = mine(data, tmp_path / "out", rules=Rules(ranks=(1, 10), num=3))
    texts = dict(CATS)
    order = [CATS[row][0] for row in Lexical(texts.values()).search(["cat"], 10).documents[0] if row >= 0]
    # q and s are one text: what is relevant to the one is none of the other's negatives; b2 is a copy of b
    wanted = [name for name in order if name not in ("a", "d", "b2")]
    first, second, third = rows_of(found)
    assert set(wanted) == {"b", "c"}
    assert (first["query_id"], first["pos_ids"], first["neg_ids"]) == ("q", ["d"], wanted)
    assert (first["query"], first["pos"], first["neg"]) == ("cat", ["cat"], [texts[name] for name in wanted])
    assert first["neg_ranks"] == [order.index(name) + 1 for name in wanted]
    assert (second["query_id"], second["neg_ids"]) == ("r", [])
    assert (third["pos_ids"], third["neg_ids"]) == (["a"], wanted)
    report = found.report
    assert report["candidates"] == {
        "looked_at": 2 * len(order) + 1,
        "dropped": dict.fromkeys(report["candidates"]["dropped"], 0) | {"known": 5, "copy": 2},
        "left": 4,
    }
    assert report["queries"] == {"mined": 3, "full": 0, "fewer": 2, "none": 1, "written": 3, "left_out": 0}
    assert report["scores_of"] is None and report["margins"]["negatives"] == {"count": 0}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))
    assert "pos_scores" not in first and "pos_similarity" not in first
    short = mine(data, tmp_path / "short", rules=Rules(ranks=(1, 10), num=2), drop_short=True)
    assert [row["query_id"] for row in rows_of(short)] == ["q", "s"]
    assert short.report["queries"]["none"] == 1 and short.report["queries"]["written"] == 2


def test_ranks_are_those_of_the_ranking_as_it_is(tmp_path: Path):
    data = write_beir(tmp_path / "data", CATS, {"q": ("cat", ["d"])})
    order = [CATS[row][0] for row in Lexical(dict(CATS).values()).search(["cat"], 10).documents[0] if row >= 0]
    (row,) = rows_of(mine(data, tmp_path / "out", rules=Rules(ranks=(2, 3), num=2)))
    assert row["neg_ids"] == [name for name in order[1:3] if name not in ("d", "b2")]
    found = mine(data, tmp_path / "last", rules=Rules(ranks=(order.index("d") + 1, 6), num=1))
    ranks = found.report["positives"]
    assert (ranks["count"], ranks["not_found"]) == (1, 0)
    assert [r["positives"] for r in ranks["ranks"] if r["from"] <= order.index("d") + 1 <= r["to"]] == [1]
    deeper = mine(data, tmp_path / "first", rules=Rules(ranks=(1, order.index("d")), num=1)).report["positives"]
    assert deeper["not_found"] == 1


def by_hand(made: Path, way: str = "dense") -> tuple[list[str], np.ndarray]:
    """Ids of the documents and all scores of the training queries, by the bi-encoder."""
    encoder, data = Encoder.load(made / "bi"), load_collection(made / "data", split="train")
    documents = encoder.encode([data.documents.text(n) for n in range(len(data.documents))])
    queries = encoder.encode([data.queries.text(n) for n in range(len(data.queries))], side="query")
    return list(data.documents.ids), queries @ documents.T


def test_margins_are_of_the_vectors(made: Path, tmp_path: Path):
    ids, scores = by_hand(made)
    rules = Rules(ranks=(1, 60), num=4, relative_margin=0.1, min_score=-0.5)
    found = mine(made / "data", tmp_path / "out", run=made / "bi", rules=rules)
    rows = rows_of(found)
    assert len(rows) == 80
    for number, row in enumerate(rows):
        assert row["query_id"] == f"q{number}" and row["pos_ids"] == [f"d{number}"]
        order = np.argsort(-scores[number], kind="stable")[:60]
        positive = scores[number, number]
        allowed = [n for n in order if n != number and -0.5 <= scores[number, n] <= positive - 0.1 * abs(positive)]
        assert row["neg_ids"] == [ids[n] for n in allowed[:4]]
        assert row["neg_similarity"] == pytest.approx([scores[number, n] for n in allowed[:4]], abs=1e-5)
        assert row["pos_similarity"] == pytest.approx([positive], abs=1e-5)
    assert found.report["scores_of"] == "dense"
    assert found.report["models"]["dense"]["weights"] == Encoder.load(made / "bi").weights
    margins = found.report["margins"]["negatives"]
    gaps = [row["pos_similarity"][0] - value for row in rows for value in row["neg_similarity"]]
    assert margins["count"] == len(gaps) == found.report["negatives"]
    assert (margins["low"], margins["high"]) == pytest.approx((min(gaps), max(gaps)), abs=1e-6)
    assert margins["median"] == pytest.approx(np.median(gaps), abs=0.01)


def test_the_lowest_positive_is_what_counts(made: Path, tmp_path: Path):
    data = tmp_path / "data"
    for name in ("corpus.jsonl", "queries.jsonl"):
        data.mkdir(exist_ok=True)
        (data / name).write_text((made / "data" / name).read_text())
    (data / "qrels").mkdir()
    ids, scores = by_hand(made)
    order = np.argsort(-scores[0], kind="stable")
    near, far = ids[order[2]], ids[order[20]]
    (data / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\nq0\t{near}\t1\nq0\t{far}\t1\n")
    (row,) = rows_of(mine(data, tmp_path / "out", run=made / "bi", rules=Rules(ranks=(1, 40), num=3, margin=0.0)))
    assert row["neg_ids"] == [ids[n] for n in order[21:24]]


@pytest.mark.parametrize("kind", ["bi", "poly"])
def test_an_index_of_the_same_documents_gives_the_same_negatives(made: Path, tmp_path: Path, kind: str):
    rules = Rules(ranks=(3, 30), num=4, sampling="weighted", agree=2, seed=9)
    one = mine(made / "data", tmp_path / "one", run=made / kind, rules=rules)
    other = mine(made / "data", tmp_path / "other", run=made / kind, rules=rules, index=made / f"{kind}-index")
    for name in ("train.jsonl", "suspects.jsonl"):
        mine_rows, index_rows = ((found.folder / name).read_text() for found in (one, other))
        assert mine_rows == index_rows, name
    assert one.report["candidates"] == other.report["candidates"]
    # documents that the training data does not have, and numbers with gaps
    (tmp_path / "more.jsonl").write_text(
        "".join(json.dumps({"_id": f"new{n}", "text": f"tell{n}y0 tell{n}y1 common"}) + "\n" for n in range(40))
    )
    encode_corpus(made / kind, tmp_path / "more.jsonl", tmp_path / "more")
    build(Store.open(made / f"{kind}-store"), tmp_path / "index")
    gone = [f"d{n}" for n in range(80, 90)]
    delete(tmp_path / "index", gone)
    add(tmp_path / "index", Store.open(tmp_path / "more"))
    rows = rows_of(mine(made / "data", tmp_path / "wide", run=made / kind, rules=rules, index=tmp_path / "index"))
    texts = {line["_id"]: line["text"] for line in map(json.loads, (tmp_path / "more.jsonl").read_text().splitlines())}
    seen = {name: text for row in rows for name, text in zip(row["neg_ids"], row["neg"], strict=True)}
    assert not set(gone) & set(seen)
    fresh = {name: text for name, text in seen.items() if name.startswith("new")}
    assert fresh and all(texts[name] == text for name, text in fresh.items())


def test_a_copy_of_a_positive_under_another_id_is_known(made: Path, tmp_path: Path):
    corpus = [json.loads(line) for line in (made / "data" / "corpus.jsonl").read_text().splitlines()]
    rows = [{**row, "_id": f"copy-{row['_id']}"} for row in corpus]
    (tmp_path / "twice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encode_corpus(made / "bi", tmp_path / "twice.jsonl", tmp_path / "store")
    build(Store.open(tmp_path / "store"), tmp_path / "index")
    found = mine(made / "data", tmp_path / "out", run=made / "bi", index=tmp_path / "index", rules=Rules(ranks=(1, 30)))
    for number, row in enumerate(rows_of(found)):
        assert row["pos_ids"] == [f"d{number}"] and f"copy-d{number}" not in row["neg_ids"]
    assert found.report["candidates"]["dropped"]["known"] > 0


def test_a_cross_encoder_scores_candidates_and_positives(made: Path, tmp_path: Path):
    rules = Rules(ranks=(1, 12), num=3)
    found = mine(made / "data", tmp_path / "out", rerank=made / "cross", rules=rules, precision="float32")
    data = load_collection(made / "data", split="train")
    texts = [data.documents.text(n) for n in range(len(data.documents))]
    words = Lexical(texts)
    rows = rows_of(found)
    for number, row in list(enumerate(rows))[::20]:
        named = [n for n in words.search([row["query"]], 12).documents[0].tolist() if n >= 0 and n != number]
        pairs = {"query": row["query"], "documents": [texts[n] for n in [*named, number]]}
        (scored,) = Run(made / "cross").predict([pairs])
        *scores, positive = scored["scores"]
        best = sorted(zip(scores, named, strict=True), key=lambda pair: -pair[0])[:3]
        assert row["neg_ids"] == [data.documents.ids[n] for _, n in best]
        assert row["neg_scores"] == pytest.approx([score for score, _ in best], abs=1e-4)
        assert row["pos_scores"] == pytest.approx([positive], abs=1e-4)
    assert found.report["scores_of"] == "reranker" and len(found.report["models"]["reranker"]["weights"]) == 32
    taught = load_collection(found.train)
    assert taught.negatives.scores is not None and np.isfinite(taught.negatives.scores).all()
    assert taught.positive_scores is not None and np.isfinite(taught.positive_scores).all()


def test_rankings_that_agree_suspect_documents_and_the_file_says_why(made: Path, tmp_path: Path):
    rules = Rules(ranks=(1, 40), num=5, agree=2)
    found = mine(made / "data", tmp_path / "out", run=made / "bi", rules=rules)
    ids, scores = by_hand(made)
    data = load_collection(made / "data", split="train")
    words = Lexical(data.documents.text(n) or "" for n in range(len(data.documents)))
    suspects: list[tuple[str, str]] = []
    for query in range(80):
        ranked = words.search([data.queries.text(query) or ""], len(ids))
        lexical = dict(zip(ranked.documents[0].tolist(), ranked.scores[0].tolist(), strict=True))
        positive = scores[query, query], lexical.get(query, 0.0)
        for document in np.argsort(-scores[query], kind="stable")[:40].tolist():
            other = scores[query, document], lexical.get(document, 0.0)
            if document != query and other[0] > positive[0] and other[1] > positive[1]:
                suspects.append((f"q{query}", ids[document]))
    listed = [json.loads(line) for line in (tmp_path / "out" / "suspects.jsonl").read_text().splitlines()]
    assert suspects and [(row["query_id"], row["candidate_id"]) for row in listed] == suspects
    assert found.report["rankings"] == ["dense", "bm25"]
    assert found.report["suspects"]["count"] == len(suspects) == found.report["candidates"]["dropped"]["suspected"]
    assert found.report["suspects"]["first"] == listed[:50]
    for row in listed:
        assert row["positive_id"] == f"d{row['query_id'][1:]}" and not row["kept"]
        assert all(each["candidate"] > each["positive"] for each in row["scores"].values())
    taken = {(row["query_id"], name) for row in rows_of(found) for name in row["neg_ids"]}
    assert not taken & set(suspects)
    kept = mine(
        made / "data",
        tmp_path / "kept",
        run=made / "bi",
        rules=Rules(ranks=(1, 40), num=5, agree=2, keep_suspects=True),
    )
    taken = {(row["query_id"], name) for row in rows_of(kept) for name in row["neg_ids"]}
    marked = [json.loads(line) for line in (tmp_path / "kept" / "suspects.jsonl").read_text().splitlines()]
    assert [(row["query_id"], row["candidate_id"]) for row in marked] == suspects
    assert {(row["query_id"], row["candidate_id"]) for row in marked if row["kept"]} == taken & set(suspects) != set()


def test_the_draw_is_the_same_whatever_is_asked_together(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rules = Rules(ranks=(2, 40), sampling="random", seed=4)
    chosen = []
    for size in (256, 7):
        monkeypatch.setattr(module, "AT_ONCE", size)
        calls: list[tuple[int, int]] = []
        found = mine(
            made / "data",
            tmp_path / str(size),
            run=made / "bi",
            rules=rules,
            way=Way("rrf"),
            on_progress=lambda done, total, calls=calls: calls.append((done, total)),
        )
        assert calls == [(min(start + size, 80), 80) for start in range(0, 80, size)]
        chosen.append([row["neg_ids"] for row in rows_of(found)])
    assert chosen[0] == chosen[1]
    other = mine(made / "data", tmp_path / "seed", run=made / "bi", rules=Rules(ranks=(2, 40), sampling="random"))
    assert [row["neg_ids"] for row in rows_of(other)] != chosen[0]


def test_training_reads_what_was_mined_and_its_objective_sees_the_negatives(made: Path, tmp_path: Path):
    mined = mine(made / "data", tmp_path / "mined", run=made / "bi", rules=Rules(ranks=(2, 40), num=3))
    rows = rows_of(mined)
    back = load_collection(mined.train, split="train")
    assert [back.queries.text(n) for n in range(len(back.queries))] == list(dict.fromkeys(r["query"] for r in rows))
    told = {row["query"]: (row["pos"], row["neg"]) for row in rows}
    for query in range(len(back.queries)):
        found = [back.documents.text(int(n)) for n in back.negatives.of(query)]
        assert found == told[back.queries.text(query)][1]
    config = config_of(
        made / "data",
        tmp_path / "run",
        tmp_path / "cache",
        data__train={"path": str(mined.train)},
        data__negatives=2,
        data__dev_share=0.1,
        objective={"in_batch": False},
        log__every=1,
        evaluate__every=None,
        budget__epochs=1,
    )
    recipe = recipe_of("retrieval")
    decided, _ = recipe.decide(load(config).config)
    built = recipe.build(decided)
    batch = built.collate([0, 1, 2, 3], [0, 1, 2, 3], range(4), 0)
    pairs = batch.links["negatives"]
    assert len(pairs) == 8 and torch.bincount(pairs[:, 0]).tolist() == [2, 2, 2, 2]
    run = train(config)
    seen = [row["value"] for row in read_metrics(run.path / "metrics.jsonl") if row["name"].endswith("negatives")]
    # with no other anchor's documents, the explicit ones are all that the loss can compare with
    assert seen and all(value == pytest.approx(2.0, abs=0.2) for value in seen)


def test_suspects_are_truly_relevant_more_often_than_negatives(made: Path, tmp_path: Path):
    """On this collection a document of the same topic is as good as the positive, and nothing says so."""
    found = mine(made / "data", tmp_path / "out", run=made / "bi", rules=Rules(ranks=(1, 60), agree=1))
    suspects = [json.loads(line) for line in (tmp_path / "out" / "suspects.jsonl").read_text().splitlines()]
    pairs = {
        "suspects": [(row["query_id"], row["candidate_id"]) for row in suspects],
        "negatives": [(row["query_id"], one) for row in rows_of(found) for one in row["neg_ids"]],
    }
    share = {
        name: np.mean([int(query[1:]) % TOPICS == int(document[1:]) % TOPICS for query, document in each])
        for name, each in pairs.items()
    }
    assert share["suspects"] > 2 * share["negatives"]


class TestRefusals:
    """What cannot be mined is said before anything is computed, and nothing is left behind."""

    @pytest.mark.parametrize(
        ("options", "answer"),
        [
            ({"rules": Rules(margin=0.1)}, "margin compare scores of a model"),
            ({"rules": Rules(min_score=1.0, max_score=2.0)}, "max_score, min_score compare scores"),
            ({"rules": Rules(agree=2)}, "2 rankings cannot agree: there is bm25"),
            ({"way": Way("rrf")}, "candidates by rrf need a bi- or poly-encoder run"),
            ({"way": Way("bm25", exact=True)}, "exact: of an index, and none is given"),
            ({"stores": ["somewhere"]}, "stores: of an index"),
            ({"min_grade": 0}, "min_grade is 0"),
            ({"min_grade": 2}, "relevant document of grade 2 or above"),
            ({"rules": Rules(ranks=(91, 99))}, "begin at rank 91, and there are 90 documents"),
            ({"split": "dev"}, "has no split dev"),
        ],
    )
    def test_of_options(self, made: Path, tmp_path: Path, options: dict[str, Any], answer: str):
        with pytest.raises((UsageError, DataError), match=answer):
            mine(made / "data", tmp_path / "out", **options)
        assert not any(tmp_path.iterdir())

    def test_of_runs_and_indexes(self, made: Path, tmp_path: Path):
        with pytest.raises(UsageError, match="does not fit the encoder: weights"):
            mine(made / "data", tmp_path / "out", run=made / "poly", index=made / "bi-index")
        with pytest.raises(UsageError, match="is a cross-encoder"):
            mine(made / "data", tmp_path / "out", run=made / "cross")
        with pytest.raises(UsageError, match="reranked by a cross-encoder"):
            mine(made / "data", tmp_path / "out", rerank=made / "bi")
        assert not any(tmp_path.iterdir())

    def test_of_an_index_of_another_corpus(self, made: Path, tmp_path: Path):
        (tmp_path / "other.jsonl").write_text('{"_id": "d0", "text": "another text under the same id"}\n')
        encode_corpus(made / "bi", tmp_path / "other.jsonl", tmp_path / "store")
        build(Store.open(tmp_path / "store"), tmp_path / "index")
        with pytest.raises(UsageError, match=r"lacks the texts of 80 of 80 relevant documents of data \('d0', 'd1'"):
            mine(made / "data", tmp_path / "out", run=made / "bi", index=tmp_path / "index")
        encode_corpus(made / "bi", made / "data" / "corpus.jsonl", tmp_path / "bare", texts=False)
        build(Store.open(tmp_path / "bare"), tmp_path / "bare-index")
        with pytest.raises(UsageError, match="--no-texts"):
            mine(made / "data", tmp_path / "out", run=made / "bi", index=tmp_path / "bare-index")
        assert not (tmp_path / "out").exists()

    def test_of_data_without_positives_or_texts(self, tmp_path: Path):
        data = write_beir(tmp_path / "blank", [("a", "   "), ("b", "words")], {"q": ("words", ["a"])})
        with pytest.raises(DataError, match="nothing to mine for: none of its 1 queries"):
            mine(data, tmp_path / "out")
        (tmp_path / "empty.jsonl").write_text("")
        with pytest.raises(DataError, match="no row at all"):
            mine(tmp_path / "empty.jsonl", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_what_has_no_text_is_no_positive_and_no_negative(tmp_path: Path):
    queries = {"q": ("cat", ["d", "f"]), "blank": (" ", ["a"])}
    data = write_beir(tmp_path / "data", CATS, queries)
    found = mine(data, tmp_path / "out", rules=Rules(ranks=(1, 9)))
    (row,) = rows_of(found)
    assert row["pos_ids"] == ["d"] and row["pos"] == ["cat"]
    assert found.report["queries"]["left_out"] == 1
    assert any("1 relevant documents have no text" in note for note in found.report["notes"])


def test_explicit_negatives_and_grades_of_the_data_are_noted(tmp_path: Path):
    lines = [
        {"query": "cat", "pos": ["cat cat"], "neg": ["cat dog"]},
        {"query": "dog", "pos": ["dog dog"], "neg": ["cat dog dog"]},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = mine(tmp_path / "pairs.jsonl", tmp_path / "out", rules=Rules(ranks=(1, 4), num=2))
    assert [row["neg"] for row in rows_of(found)] == [["cat dog", "cat dog dog"], ["cat dog dog", "cat dog"]]
    assert any("2 explicit negatives that pairs has itself are not in train.jsonl" in n for n in found.report["notes"])
    collection = load_collection(tmp_path / "pairs.jsonl")
    again = mine(collection, tmp_path / "again", rules=Rules(ranks=(1, 4), num=2))
    assert rows_of(again) == rows_of(found)
    with pytest.raises(UsageError, match="it is read already"):
        mine(collection, tmp_path / "limit", limit=1)


def test_sentence_transformers_mines_the_same(made: Path, tmp_path: Path):
    """Where its ranks, counted after candidates are dropped, and ours do not matter: all ranks, the hardest first."""
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    from quincunx.exporting import export_run

    export_run(made / "bi", tmp_path / "exported")
    model = library.SentenceTransformer(str(tmp_path / "exported"), device="cpu")
    rules = Rules(ranks=(1, 90), num=3, relative_margin=0.05)
    rows = rows_of(mine(made / "data", tmp_path / "out", run=made / "bi", rules=rules, precision="float32"))
    pairs = datasets.Dataset.from_dict({"query": [r["query"] for r in rows], "positive": [r["pos"][0] for r in rows]})
    corpus = [json.loads(line)["text"] for line in (made / "data" / "corpus.jsonl").read_text().splitlines()]
    options = {"range_max": 90, "relative_margin": 0.05, "num_negatives": 3}
    theirs = library.util.mine_hard_negatives(pairs, model, corpus=corpus, output_scores=True, verbose=False, **options)
    wanted: dict[str, list[tuple[str, float]]] = {}
    for row in theirs:
        wanted.setdefault(row["query"], []).append((row["negative"], row["scores"][1]))
    once = [row for row in rows if sum(other["query"] == row["query"] for other in rows) == 1]
    assert len(once) > 20 and any(row["neg"] for row in once)
    differ = 0
    for row in once:
        mined, found = list(zip(row["neg"], row["neg_similarity"], strict=True)), wanted.get(row["query"], [])
        assert [score for _, score in mined] == pytest.approx([score for _, score in found], abs=1e-5)
        differ += [text for text, _ in mined] != [text for text, _ in found]
    assert differ <= 2, "only documents whose scores are equal but for rounding may change places"
