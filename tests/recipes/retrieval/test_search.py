"""The parts of a search that need no trained run: every document scored, a reranker, stored texts, query files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.engine.runtime import Runtime
from quincunx.errors import DataError, UsageError
from quincunx.index.building import Arrays, build, delete
from quincunx.index.exact import NOTHING, Found
from quincunx.index.stored_texts import StoredTexts
from quincunx.nn.poly import ContextCodes
from quincunx.recipes.retrieval.data.readers.files import BadRows
from quincunx.recipes.retrieval.data.readers.queries import read_queries
from quincunx.recipes.retrieval.data.tokenizing import PairTokenizer
from quincunx.recipes.retrieval.model.cross_encoder import CrossEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from quincunx.recipes.retrieval.reranker import Reranker
from quincunx.recipes.retrieval.search import run_of, score_every
from small_encoders import SENTENCES, backbone, tokenizer

CPU = torch.device("cpu")
MADE = {"weights": "w", "tokenizer": "t", "similarity": "dot", "dimension": 3}


@pytest.mark.parametrize(
    ("attention", "similarity"), [("multihead", "dot"), ("multihead", "cosine"), ("sqrt", "cosine"), ("basic", "dot")]
)
def test_every_document_is_scored_where_nothing_bounds_the_score(attention, similarity):
    torch.manual_seed(0)
    encoder = TextEncoder(backbone(), "mean")
    heads = 2 if attention == "multihead" else None
    codes = ContextCodes(16, "codes", 3)
    model = PolyEncoder(encoder, None, codes, attention=attention, heads=heads, similarity=similarity).eval()
    asked, vectors = torch.randn(4, 3, 16), torch.randn(50, 16)
    mask = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0]]).bool()
    numbers = np.arange(3, 50, 2)
    found = score_every(model, CPU, asked.numpy(), mask.numpy(), numbers, lambda n: vectors.numpy()[n], 5)
    with torch.no_grad():
        best = model.score(asked, mask, vectors[numbers]).topk(5)
    assert (found.documents == numbers[best.indices.numpy()]).all()
    np.testing.assert_allclose(found.scores, best.values.numpy(), atol=1e-5)
    nothing = score_every(model, CPU, asked.numpy(), None, numbers[:0], lambda n: vectors.numpy()[n], 2)
    assert (nothing.documents == NOTHING).all()


def test_a_reranker_orders_what_it_is_given_and_no_more():
    torch.manual_seed(0)
    from transformers import AutoModelForSequenceClassification

    settings = backbone().config
    settings.num_labels = 1
    model = CrossEncoder(AutoModelForSequenceClassification.from_config(settings).eval())
    pairs = PairTokenizer(tokenizer(), 24)
    reranker = Reranker(model, pairs, Runtime(CPU, torch.float32))
    candidates = Found(np.array([[4, 1, NOTHING], [0, 2, 3]]), np.array([[9, 8, -np.inf], [3, 2, 1]], np.float32))
    queries = ["the quick fox", "a cafeteria"]
    found = reranker.rerank(queries, candidates, SENTENCES.__getitem__, 2)
    for row, query in enumerate(queries):
        numbers = [int(n) for n in candidates.documents[row] if n != NOTHING]
        scores = {n: float(reranker.scores([query], [SENTENCES[n]])[0]) for n in numbers}
        wanted = sorted(numbers, key=lambda n: (-scores[n], n))[:2]
        assert found.documents[row].tolist() == wanted
        assert found.scores[row].tolist() == pytest.approx([scores[n] for n in wanted], abs=1e-6)
    assert reranker.rerank(queries, candidates, SENTENCES.__getitem__, 5).documents[0].tolist()[2:] == [NOTHING] * 3


def test_an_index_of_arrays_has_no_texts(tmp_path: Path):
    arrays = Arrays(["a", "b", "c"], np.eye(3, dtype=np.float32), MADE)
    index = build(arrays, tmp_path / "index")
    with pytest.raises(UsageError, match="not made from a store"):
        StoredTexts(index)
    delete(tmp_path / "index", ["b"])
    with pytest.raises(UsageError, match="does not exist"):
        StoredTexts(index, [tmp_path / "nowhere"])


def test_run_files_hold_ids_and_only_what_was_found():
    found = Found(np.array([[2, 0], [1, NOTHING]]), np.array([[0.5, 0.25], [1, -np.inf]], np.float32))
    assert run_of(["q", "007"], found, ["x", "y", "z"].__getitem__) == {"q": {"z": 0.5, "x": 0.25}, "007": {"y": 1.0}}


def test_query_files_of_both_forms(tmp_path: Path):
    (tmp_path / "q.tsv").write_bytes(b"\xef\xbb\xbf007\tone\ttab more\r\n\nq2\t \xe6\x9d\xb1\n")
    (tmp_path / "q.jsonl").write_text('{"_id": "007", "text": "one\\ttab more"}\n{"_id": "q2", "text": " \u6771"}\n')
    with gzip.open(tmp_path / "q.jsonl.gz", "wb") as file:
        file.write((tmp_path / "q.jsonl").read_bytes())
    for name in ("q.tsv", "q.jsonl", "q.jsonl.gz"):
        queries = read_queries(tmp_path / name)
        assert [(queries.ids[n], queries.text(n)) for n in range(2)] == [("007", "one\ttab more"), ("q2", " \u6771")]


def test_a_file_without_a_good_row_is_an_error_also_where_bad_ones_are_skipped(tmp_path: Path):
    path = tmp_path / "q.tsv"
    for text, answer in (("", "no row at all"), ("x\n", "no usable row; 1 bad")):
        path.write_text(text)
        with pytest.raises(DataError, match=answer):
            read_queries(path, BadRows(skip=True))
