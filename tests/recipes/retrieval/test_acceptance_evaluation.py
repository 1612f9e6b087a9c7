"""What evaluation must give at its edges: ragged pools, small corpora, nothing found, ties, padding."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quincunx import Run, evaluate, load, train
from quincunx.engine.step import Step
from quincunx.metrics.ranking import score
from quincunx.nn.poly import ContextCodes
from quincunx.recipes import recipe_of
from quincunx.recipes.retrieval.evaluate.ranker import ranker
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from recipes.retrieval.collections_made import config_of
from retrieval_toys import drawn
from small_encoders import backbone
from toys import cpu, plan


def beir(folder: Path, queries: Mapping[str, str], documents: Mapping[str, str], judged: Sequence[tuple]) -> Path:
    """Write a BEIR folder whose judgements, (query, document) or (query, document, grade), are those of every split."""
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("queries", queries), ("corpus", documents)):
        rows = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore\n", *(f"{q}\t{d}\t{grade[0] if grade else 1}\n" for q, d, *grade in judged)]
    for split in ("train", "dev", "test"):
        (folder / "qrels" / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def words(number: int, count: int, seed: str) -> str:
    draw = np.random.default_rng([number, len(seed), ord(seed[0])])
    return " ".join(f"{seed}{n}" for n in draw.integers(0, 30, count))


QUERIES = {f"q{n}": words(n, 2 + n % 5, "ask") for n in range(22)}
DOCUMENTS = {f"d{n}": words(n, 3 + n % 7, "tell") for n in range(13)}
JUDGED = [(f"q{n}", f"d{(3 * n) % 11}") for n in range(22)] + [("q0", "d5"), ("q7", "d12"), ("q7", "d1")]
"""12 documents with one to three queries, and one without."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beir(tmp_path_factory.mktemp("set") / "data", QUERIES, DOCUMENTS, JUDGED)


def config(data: Path, run: Path, **changes: object) -> dict[str, object]:
    usual = {"update__batch_size": 8, "evaluate__every": None, "budget__epochs": 1, "data__tokenization": "lazy"}
    measures = {"evaluate__measures": ["recip_rank", "map"]}
    return config_of(data, run, run.parent / "cache", **{**usual, **measures, **changes})


def scores(run: Run) -> dict[tuple[str, str], float]:
    """Return the score of every pair, each query scored apart."""
    rows = [{"query": text, "documents": list(DOCUMENTS.values())} for text in QUERIES.values()]
    answers = run.predict(rows)
    return {
        (query, document): value
        for query, answer in zip(QUERIES, answers, strict=True)
        for document, value in zip(DOCUMENTS, answer["scores"], strict=True)
    }


def average_precision(ranked: Sequence[str], relevant: set[str]) -> float:
    hits = [place for place, name in enumerate(ranked, 1) if name in relevant]
    return sum(number / place for number, place in enumerate(hits, 1)) / len(relevant)


@pytest.mark.parametrize(("mode", "anchor"), [("bi-encoder", "document"), ("poly-encoder", "query")])
@pytest.mark.parametrize(("pool", "size"), [(2, 5), (5, 100)])
def test_pooled_eval_with_ragged_last_pool(data, tmp_path, mode, anchor, pool, size):
    """By hand: pools of so many anchors rank what belongs to them; the last is smaller, and counts by its anchors."""
    form = {"mode": mode, "poly__codes": 3} if mode == "poly-encoder" else {"objective__directions": ["d->q"]}
    pooled = {"data__anchor": anchor, "evaluate__mode": "pooled", "evaluate__pool": pool, "evaluate__batch_size": size}
    run = train(config(data, tmp_path / "run", **form, **pooled))
    given = scores(run)
    relevant: dict[str, set[str]] = {name: set() for name in (QUERIES if anchor == "query" else DOCUMENTS)}
    for query, document in JUDGED:
        pair = (query, document) if anchor == "query" else (document, query)
        relevant[pair[0]].add(pair[1])
    anchors = [name for name, others in relevant.items() if others]
    assert len(anchors) == (22 if anchor == "query" else 12)
    values: list[tuple[float, float]] = []
    for start in range(0, len(anchors), pool * size):
        chosen = anchors[start : start + pool * size]
        others = set().union(*(relevant[name] for name in chosen))
        for name in chosen:
            pairs = {other: given[(name, other) if anchor == "query" else (other, name)] for other in others}
            ranked = sorted(pairs, key=lambda other: -pairs[other])
            first = min(place for place, other in enumerate(ranked, 1) if other in relevant[name])
            values.append((1 / first, average_precision(ranked, relevant[name])))
    found = evaluate(run)
    assert f"the last of {len(anchors) % (pool * size)}" in found.notes[0]
    assert found.scalars["recip_rank"] == pytest.approx(np.mean([value[0] for value in values]), abs=1e-6)
    assert found.scalars["map"] == pytest.approx(np.mean([value[1] for value in values]), abs=1e-6)


@pytest.mark.parametrize("mode", ["bi-encoder", "poly-encoder"])
def test_k_above_corpus(data, tmp_path, mode):
    """1,000 results of 13 documents: every query's own values, the last document's among them, are those by hand."""
    run = train(config(data, tmp_path / "run", mode=mode, evaluate__depth=1000))
    given, found = scores(run), evaluate(run)
    assert any(document == list(DOCUMENTS)[-1] for _, document in JUDGED)
    for query in QUERIES:
        ranked = sorted(DOCUMENTS, key=lambda document: -given[query, document])
        relevant = {document for judged, document in JUDGED if judged == query}
        assert found.values["map"][query] == pytest.approx(average_precision(ranked, relevant), abs=1e-9)
        first = min(place for place, document in enumerate(ranked, 1) if document in relevant)
        assert found.values["recip_rank"][query] == pytest.approx(1 / first, abs=1e-9)


def test_empty_run_for_a_query(cli, work, tmp_path):
    """A query for which nothing was found counts 0, from files as in training."""
    (work / "qrels").write_text("a 0 x 1\nb 0 x 1\nc 0 y 1\nd 0 z 0\n")
    (work / "run").write_text("a Q0 x 1 2.0 t\nb Q0 y 1 2.0 t\nb Q0 x 2 1.0 t\n")
    said = cli(
        "score", "ranking", "--qrels", work / "qrels", "--run", work / "run", "--measures", "recip_rank", "--json"
    )
    assert said.code == 0, said.text
    found = json.loads(said.out)
    # d has no relevant document, and is judged all the same
    assert found["mean"]["recip_rank"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    documents = {"d0": "one", "d1": "two", "d2": ""}
    folder = beir(tmp_path / "empty", {"q0": "one", "q1": " "}, documents, [("q0", "d0"), ("q1", "d2")])
    for mode in ("bi-encoder", "poly-encoder"):
        tree = config(folder, tmp_path / mode, mode=mode, update__batch_size=2, data__bad_row_limit=1)
        tree["data"]["skip_bad_rows"] = True  # type: ignore[index]
        values = evaluate(train(tree)).values["recip_rank"]
        assert all(np.isfinite(value) for value in values.values())


@pytest.mark.parametrize(
    ("ties", "wanted"),
    [
        ("optimistic", [1, 1, 1, 1]),
        ("pessimistic", [1 / 4] * 4),
        ("expected", [(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4] * 4),
        ("trec", [1 / 4, 1 / 3, 1 / 2, 1]),  # ids in descending order of their bytes: d9, d2, d11, d10
    ],
)
def test_ties(tmp_path, ties, wanted):
    """A model that gives every document one score gets what the chosen way says, and not the order of the file."""
    documents = {"d9": "a", "d10": "b", "d2": "c", "d11": "d"}
    judged = [("q0", "d10"), ("q1", "d11"), ("q2", "d2"), ("q3", "d9")]
    folder = beir(tmp_path / "data", {f"q{n}": f"word{n}" for n in range(4)}, documents, judged)
    recipe = recipe_of("retrieval")
    changes = {"evaluate__ties": ties, "objective__similarity": "dot", "update__batch_size": 4}
    decided, _ = recipe.decide(load(config(folder, tmp_path / "run", **changes)).config)
    built = recipe.build(decided)
    for parameter in built.parts.model.parameters():
        nn.init.zeros_(parameter)
    found = built.evaluators["dev"](built.parts.model.eval(), cpu(), plan())
    assert list(found.values["recip_rank"].values()) == pytest.approx(wanted)
    run = {f"q{n}": dict.fromkeys(documents, 1.0) for n in range(4)}
    same = score({query: {document: 1} for query, document in judged}, run, ["recip_rank"], ties)
    assert same.mean["recip_rank"] == pytest.approx(np.mean(wanted))


class Lists:
    """Token ids as an encoder of many texts takes them."""

    def __init__(self, lengths: Sequence[int], seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.found = [draw.integers(5, 100, length).astype(np.int32) for length in lengths]
        self.lengths = np.array(lengths)

    def tokens(self, index: int) -> np.ndarray:
        return self.found[index]


def test_one_batch_corpus_encode(tmp_path):
    """A corpus of one text, and of fewer than fill a batch, is encoded and measured like any other."""
    model = BiEncoder(TextEncoder(backbone(), "mean")).eval()
    texts = Lists([4, 7, 1])
    for count in (1, 2, 3):
        some = Lists([4, 7, 1][:count])
        together = ranker(model, cpu(), cosine=True).documents(some)
        assert together.shape == (count, 16)
        for row in range(count):
            tokens = torch.from_numpy(texts.tokens(row).astype(np.int64))[None]
            alone = nn.functional.normalize(model.encode(tokens, torch.tensor([tokens.shape[1]]), "document"), dim=1)
            torch.testing.assert_close(together[row : row + 1], alone)
    folder = beir(tmp_path / "data", {"q0": "a", "q1": "b"}, {"d0": "one"}, [("q0", "d0"), ("q1", "d0")])
    run = train(config(folder, tmp_path / "run", update__batch_size=2))
    assert evaluate(run).values["recip_rank"] == {"q0": 1.0, "q1": 1.0}


def test_padding_invariance_of_poly_and_mean_pooling():
    """The scores of a ranking do not depend on which texts were encoded together."""
    torch.manual_seed(0)
    document = TextEncoder(backbone(), "mean")
    bare = TextEncoder(document.backbone, "none")
    models: list[nn.Module] = [BiEncoder(document)]
    for kind, count in (("codes", 4), ("first-m", 6), ("all", None)):
        models.append(PolyEncoder(bare, document, ContextCodes(16, kind, count)))  # pyright: ignore
    queries, documents = Lists([3, 12, 1, 7, 5], 1), Lists([2, 20, 9, 4, 11, 1], 2)
    for model in models:
        together = ranker(model.eval(), cpu(), cosine=False, tokens=10_000).scores(queries, documents)
        apart = ranker(model.eval(), cpu(), cosine=False, tokens=1).scores(queries, documents)
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
        assert float(together.std()) > 1e-2, "scores tell texts apart"


def test_m_1_poly_equals_attention_pooled_bi_encoder():
    """Not in scores alone: loss and gradients are the same, the code's share added to the pooling's."""
    torch.manual_seed(0)
    encoder = TextEncoder(backbone(), "attention")
    two = BiEncoder(encoder).double()
    step = Step(two, Contrastive(similarity="dot", temperature=1.0).double(), cpu(), plan(), seed=1)
    wanted = step.gradient(0, [drawn(6, 1)])
    gradients = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
    two.zero_grad(set_to_none=True)
    codes = ContextCodes(16, "codes", 1).double()
    codes.codes.data[0] = encoder.attention_pool.query.data
    poly = PolyEncoder(TextEncoder(encoder.backbone, "none"), encoder, codes)
    objective = Contrastive(poly=True, similarity=None, temperature=1.0).double()
    found = Step(poly, objective, cpu(), plan(), seed=1).gradient(0, [drawn(6, 1)])
    assert float(found.sums["query_to_document"]) == pytest.approx(float(wanted.sums["query_to_document"]), rel=1e-12)
    for name, parameter in encoder.named_parameters():
        mine = parameter.grad + codes.codes.grad[0] if "attention_pool" in name else parameter.grad
        torch.testing.assert_close(mine, gradients[name], rtol=1e-9, atol=1e-12)


def test_first_m_shorter_than_m(data, tmp_path):
    """Queries with fewer tokens than there are to be codes: what is missing takes no part, in training neither."""
    torch.manual_seed(0)
    document = TextEncoder(backbone(), "mean")
    bare = TextEncoder(document.backbone, "none")
    texts, documents = Lists([3, 5, 2], 1), Lists([4, 9], 2)
    made: dict[str, Any] = {
        "short": PolyEncoder(bare, document, ContextCodes(16, "first-m", 20)),
        "every": PolyEncoder(bare, document, ContextCodes(16, "all", None)),
    }
    found = {name: ranker(model.eval(), cpu(), cosine=False).scores(texts, documents) for name, model in made.items()}
    torch.testing.assert_close(found["short"], found["every"], rtol=1e-5, atol=1e-6)
    losses = [
        train(config(data, tmp_path / name, mode="poly-encoder", **form, log__every=1)).metrics("train/loss")
        for name, form in (
            ("m", {"poly__kind": "first-m", "poly__codes": 32}),
            ("every", {"poly__kind": "all"}),
        )
    ]
    assert len(losses[0]) == 3
    assert [value for _, value in losses[0]] == pytest.approx([value for _, value in losses[1]], rel=1e-4)
