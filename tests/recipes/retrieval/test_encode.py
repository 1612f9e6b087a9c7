"""Runs as encoders: the vectors that evaluation compares, for both sides and all modes that have any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import quincunx
from quincunx import Encoder, Run, train
from quincunx.engine.runtime import Runtime, native
from quincunx.errors import RunError, UsageError
from quincunx.index.exact import search
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import LazyTokens
from quincunx.recipes.retrieval.evaluate.ranker import ranker
from quincunx.recipes.retrieval.evaluate.vectors import Limits
from recipes.retrieval.collections_made import config_of, write_collection

TEXTS = ["tell1y2 tell1y3 n4", "tell7y0", "", "tell3y1 tell3y1 tell3y2 tell3y0 tell3y3", "tell1y2 tell1y3 n4", "ask2x1"]
CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every mode on one collection."""
    folder = tmp_path_factory.mktemp("encode")
    data = write_collection(folder / "data", train=40, test=10)
    modes = {
        "bi": {"query__prompt": "ask: ", "document__max_length": 9},
        "dot": {"objective__similarity": "dot"},
        "poly": {"mode": "poly-encoder", "poly__codes": 3},
        "all": {"mode": "poly-encoder", "poly__kind": "all"},
        "cross": {"mode": "cross-encoder"},
    }
    for name, changes in modes.items():
        train(config_of(data, folder / name, folder / "cache", budget__epochs=1, **changes))
    return folder


def tokens_of(encoder: Encoder, side: str, texts: list[str] = TEXTS) -> LazyTokens:
    return LazyTokens(Texts.of([str(n) for n in range(len(texts))], texts), encoder.tokenizers[side])


@pytest.mark.parametrize("name", ["bi", "dot"])
@pytest.mark.parametrize("side", ["query", "document"])
def test_vectors_are_those_that_evaluation_compares(folder: Path, name: str, side: str):
    encoder = Encoder.load(folder / name, precision="float32", device="cpu")
    by = ranker(Run(folder / name).model(), CPU, cosine=name == "bi")
    expected = (by.queries if side == "query" else by.documents)(tokens_of(encoder, side)).numpy()
    found = encoder.encode(TEXTS, side)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), encoder.width) == (6, 32)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(found[0], found[4], atol=1e-6)
    norms = np.linalg.norm(found, axis=1)
    assert encoder.similarity == {"bi": "cosine", "dot": "dot"}[name]
    assert (np.abs(norms - 1) < 1e-5).all() == (name == "bi")
    one_by_one = np.concatenate([encoder.encode([text], side) for text in TEXTS])
    np.testing.assert_allclose(found, one_by_one, atol=2e-6)
    assert encoder.encode([], side).shape == (0, 32)


def test_sides_have_their_own_prompt_and_length(folder: Path):
    encoder = Encoder.load(folder / "bi", precision="float32")
    query, document = encoder.made("query"), encoder.made()
    assert (query["prompt"], document["prompt"]) == ("ask: ", "")
    assert document["max_length"] == 9 and query["max_length"] == 32
    assert {name for name in query if query[name] != document[name]} == {"side", "prompt", "max_length"}
    json.dumps(query)
    assert document["dimension"] == 32 and document["similarity"] == "cosine" and document["pooling"] == "mean"
    assert not np.allclose(encoder.encode(TEXTS[:2], "query"), encoder.encode(TEXTS[:2]))
    with pytest.raises(UsageError, match="no side 'passage'"):
        encoder.encode(["a"], "passage")


def test_weights_tell_runs_apart(folder: Path):
    one, again, other = (Encoder.load(folder / name, precision=how) for name, how in
                         (("bi", "float32"), ("bi", "auto"), ("dot", "float32")))  # fmt: skip
    assert one.weights == again.weights != other.weights, "whatever precision they are held in"
    assert one.made()["tokenizer"] == other.made()["tokenizer"]


@pytest.mark.parametrize("name", ["poly", "all"])
def test_a_poly_encoder_gives_codes_for_queries_and_vectors_for_documents(folder: Path, name: str):
    encoder = Encoder.load(folder / name, precision="float32", device="cpu")
    by = ranker(Run(folder / name).model(), CPU, cosine=False)
    queries, documents = ["ask1x2 ask1x0", "ask3x1"], TEXTS
    codes = encoder.encode(queries, "query")
    vectors = encoder.encode(documents)
    assert codes.mask is not None and codes.mask.dtype == np.bool_
    assert codes.shape == (*codes.mask.shape, 32)
    if name == "poly":
        assert codes.shape[1] == 3 and codes.mask.all()
    else:
        assert codes.mask.sum(1).tolist() == [len(ids) for ids in encoder.tokenizers["query"](queries)]
        assert not codes[~codes.mask].any()
    scores = encoder.model.score(
        torch.from_numpy(codes.copy()), torch.from_numpy(codes.mask), torch.from_numpy(vectors)
    )
    expected = by.scores(tokens_of(encoder, "query", queries), tokens_of(encoder, "document", documents))
    np.testing.assert_allclose(scores.detach().numpy(), expected.numpy(), atol=2e-5)
    assert codes[:1].mask is None, "a part does not claim the mask of the whole"
    empty = encoder.encode([], "query")
    assert len(empty) == 0 and empty.mask is not None and encoder.similarity == "dot"


def test_a_cross_encoder_is_refused_with_the_reason(folder: Path):
    with pytest.raises(UsageError, match="cross-encoder: it reads a query and a document together"):
        Encoder.load(folder / "cross")


def test_half_precision_finds_the_same(folder: Path):
    if not native(torch.bfloat16, torch.device("cpu")):
        with pytest.raises(UsageError, match="emulated"):
            Encoder.load(folder / "bi", precision="bf16", device="cpu")
        return
    whole, half = (Encoder.load(folder / "bi", precision=how, device="cpu") for how in ("float32", "bf16"))
    assert (whole.made()["precision"], half.made()["precision"]) == ("float32", "bf16")
    assert Encoder.load(folder / "bi", device="cpu").made()["precision"] == "bf16"
    texts = [f"tell{n}y{n % 4} tell{n}y0" for n in range(40)]
    one, two = whole.encode(texts), half.encode(texts)
    assert 0 < np.abs(one - two).max() < 0.05, "other numbers, hardly"
    assert (one * two).sum(1).min() > 0.999
    autocast = ranker(Run(folder / "bi").model(), Runtime(torch.device("cpu"), torch.bfloat16), cosine=True)
    cast_anew = autocast.documents(tokens_of(half, "document", texts)).numpy()
    np.testing.assert_allclose(two, cast_anew, atol=1e-6)
    assert all(p.dtype == torch.float32 for name, p in half.model.named_parameters() if "LayerNorm" in name)


def test_what_is_computed_at_once_changes_nothing(folder: Path):
    texts = [" ".join(f"tell{n}y{n % 4}" for _ in range(1 + n % 7)) for n in range(50)]
    found = [
        Encoder.load(folder / "bi", precision="float32", limits=limits).encode(texts)
        for limits in (Limits(), Limits(tokens=16), Limits(texts=3))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=2e-6)
    np.testing.assert_allclose(found[0], found[2], atol=2e-6)


def test_a_run_itself_is_taken_too_and_its_vectors_rank_as_the_run_does(folder: Path):
    run = Run(folder / "bi")
    encoder = quincunx.Encoder.load(run, precision="float32")
    lines = [json.loads(line) for line in (folder / "data" / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line)["text"] for line in (folder / "data" / "queries.jsonl").read_text().splitlines()]
    documents = encoder.encode([line["text"] for line in lines])
    found = search(torch.from_numpy(encoder.encode(queries[40:], "query")), torch.from_numpy(documents), 50)
    ranks = [found.documents[row].tolist().index(40 + row) + 1 for row in range(10)]
    assert np.mean([1 / rank for rank in ranks]) == pytest.approx(run.metrics("test/recip_rank")[-1][1], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "tensorflow"}, "no backend 'tensorflow'"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"int8": True}, "onnxruntime and openvino"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "bf16 is of the backends torch and openvino"),
        ({"checkpoint": "update-9"}, "no checkpoint update-9; there are: best, last, update-"),
    ],
)
def test_wrong_words_are_refused(folder: Path, options: dict[str, object], says: str):
    with pytest.raises(UsageError, match=says):
        Encoder.load(folder / "bi", **options)  # pyright: ignore[reportArgumentType]


def test_what_is_no_run_is_said(tmp_path: Path, finished: Path):
    with pytest.raises(RunError, match="does not exist"):
        Encoder.load(tmp_path / "none")
    with pytest.raises(UsageError, match="recipe long_range"):
        Encoder.load(finished)


@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_other_backends_give_the_same_vectors(folder: Path, backend: str):
    pytest.importorskip(backend)
    if backend == "onnxruntime":
        pytest.importorskip("onnx")
    whole = Encoder.load(folder / "bi", precision="float32", device="cpu").encode(TEXTS)
    encoder = Encoder.load(folder / "bi", backend=backend, precision="float32")
    np.testing.assert_allclose(encoder.encode(TEXTS), whole, atol=2e-5)
    assert encoder.made()["backend"] == backend and encoder.made()["precision"] == "float32"
