"""Corpora encoded by another backend: the same vectors in float32, near ones in 8 bits, and what those cost is said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from quincunx import train
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.encode import Encoder
from quincunx.recipes.retrieval.encode_corpus import encode_corpus
from recipes.retrieval.collections_made import config_of, write_collection

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backends")
    data = write_collection(folder / "data", train=48, test=12)
    train(config_of(data, folder / "run", folder / "cache", budget__epochs=1, query__prompt="ask: "))
    return folder


def test_vectors_of_both_sides_are_those_of_torch(made: Path) -> None:
    texts = ["tell7y1 tell7y2 n3", "", "ask1x1 " * 60]
    found, exact = (Encoder.load(made / "run", backend=name, precision="float32") for name in ("onnxruntime", "torch"))
    for side in ("query", "document"):
        np.testing.assert_allclose(found.encode(texts, side), exact.encode(texts, side), atol=2e-6)
    assert found.made()["backend"] == "onnxruntime"
    assert found.drop() is None


def test_a_corpus_in_8_bits_says_what_they_cost(made: Path) -> None:
    options = {"backend": "onnxruntime", "shard_size": 25}
    exact = encode_corpus(made / "run", made / "data", made / "exact", **options)
    assert not [note for note in exact.notes if "8 bits" in note]
    found = encode_corpus(made / "run", made / "data", made / "int8", int8=True, **options)
    (note,) = [note for note in found.notes if "8 bits" in note]
    said = re.fullmatch(
        r"8 bits against float32 on (\d+) texts: cosine (\S+) \(least (\S+)\), (\S+)% of the ten .*", note
    )
    assert said is not None
    assert 10 <= int(said[1]) < 60, "texts that set no scales"
    assert 0.99 < float(said[2]) <= 1
    cosines = (exact.store.read(0, 60) * found.store.read(0, 60)).sum(axis=1)
    assert not np.allclose(cosines, 1, atol=1e-7)
    assert cosines.mean() == pytest.approx(float(said[2]), abs=2e-3)
    assert found.store.made["precision"] == "int8"
    with pytest.raises(UsageError, match="precision"):
        encode_corpus(made / "run", made / "data", made / "exact", int8=True, **options)


def test_too_small_a_corpus_for_8_bits_is_refused(made: Path) -> None:
    small = made / "small.jsonl"
    small.write_text('{"_id": "1", "text": "tell1y1"}\n{"_id": "2", "text": "tell2y1"}\n')
    with pytest.raises(UsageError, match="at least 8 of them, and there are 2"):
        encode_corpus(made / "run", small, made / "none", backend="onnxruntime", int8=True)
    assert not [path for path in (made / "none").glob("*") if path.name[0] != "."], "nothing was begun"
    assert encode_corpus(made / "run", small, made / "none", backend="onnxruntime").documents == 2
    assert encode_corpus(made / "run", small, made / "other", backend="onnxruntime").documents == 2


def test_openvino_computes_in_the_precision_asked(made: Path) -> None:
    pytest.importorskip("openvino")
    native = Encoder.load(made / "run", backend="torch").made()["precision"]
    texts = ["tell7y1 tell7y2 n3", "ask1x1 " * 60]
    exact = Encoder.load(made / "run", precision="float32").encode(texts)
    found = Encoder.load(made / "run", backend="openvino", precision="float32")
    assert found.made()["precision"] == "float32"
    np.testing.assert_allclose(found.encode(texts), exact, atol=2e-6)
    auto = Encoder.load(made / "run", backend="openvino")
    assert auto.made()["precision"] == native
    difference = np.abs(auto.encode(texts) - exact).max()
    assert difference < 0.02 and (difference > 1e-5) == (native == "bf16")


def test_bf16_is_refused_where_a_backend_has_none(made: Path) -> None:
    for options in ({"backend": "onnxruntime"}, {"backend": "openvino", "int8": True}):
        with pytest.raises(UsageError, match="bf16 is of the backends torch and openvino"):
            Encoder.load(made / "run", precision="bf16", **options)
