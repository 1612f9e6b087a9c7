"""Embeddings on disk: never encoded twice, never another's, never more than the limit, never in the way."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quincunx.engine.runtime import Runtime
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import LazyTokens
from quincunx.recipes.retrieval.evaluate.disk import OnDisk
from quincunx.recipes.retrieval.evaluate.ranker import Validator, concatenated, ranker
from quincunx.recipes.retrieval.evaluate.remembered import Remembered, weights_hash
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.text_encoder import Projection, TextEncoder
from retrieval_sets import Letters
from small_encoders import backbone
from toys import cpu

WORDS = ["one", "two", "three", "four", "five"]
LIMIT = 2**20


def letters(words: list[str] = WORDS, **options: Any) -> LazyTokens:
    return LazyTokens(Texts.of([f"d{i}" for i in range(len(words))], words), SmallLetters(**options))


class SmallLetters(Letters):
    """Letters whose numbers a small vocabulary holds."""

    def __call__(self, texts: Any) -> list[np.ndarray]:
        return [np.minimum(tokens % 32, 30).astype(np.int32) for tokens in super().__call__(texts)]


@pytest.fixture
def model() -> BiEncoder:
    return made()


def made(pooling: Any = "mean", **options: Any) -> BiEncoder:
    torch.manual_seed(0)
    return BiEncoder(TextEncoder(backbone(), pooling, **options)).eval()


class Counted:
    """Counts the texts that a model encodes."""

    def __init__(self, model: BiEncoder) -> None:
        self.texts = 0
        model.document.register_forward_hook(self._count)

    def _count(self, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.texts += len(output)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def test_what_was_encoded_once_is_read_by_the_next_process(model, tmp_path):
    counted, by = Counted(model), ranker(model, cpu(), cosine=True)
    first = OnDisk(tmp_path, LIMIT).documents(model, by, letters())
    (file,) = files(tmp_path)
    os.utime(file, ns=(0, 0))
    again = OnDisk(tmp_path, LIMIT).documents(model, by, letters())
    assert counted.texts == len(WORDS)
    assert torch.equal(first, again)
    assert torch.equal(first, by.documents(letters()))
    assert file.stat().st_mtime_ns > 0, "the time of the last use is the file's"
    again[0, 0] += 1
    assert np.load(file)[0, 0] == first[0, 0], "what is done to the tensor stays in memory"


@pytest.mark.parametrize(
    "changed",
    [
        lambda: {"words": [*WORDS[:4], "fife"]},
        lambda: {"words": WORDS[::-1]},
        lambda: {"max_length": 4},
        lambda: {"prompt": "a "},
        lambda: {"cosine": False},
        lambda: {"pooling": "cls"},
        lambda: {"normalize": True},
        lambda: {"settings": {"precision": "other"}},
        lambda: {"tokens": 12},
        lambda: {"runtime": Runtime(torch.device("cpu"), torch.bfloat16)},
        lambda: {"validator": Validator()},
        lambda: {"projection": Projection.linear(16, 16)},
    ],
    ids=["text", "order", "length", "prompt", "norm", "pooling", "head", "settings", "budget", "precision", "validator",
         "projection"],
)  # fmt: skip
def test_whatever_changes_the_numbers_changes_the_name(tmp_path, changed):
    def keep(
        words: list[str] = WORDS,
        pooling: str = "mean",
        settings: Any = None,
        runtime: Runtime | None = None,
        cosine: bool = True,
        tokens: int = 100,
        validator: Validator | None = None,
        normalize: bool = False,
        projection: Any = None,
        **text: Any,
    ) -> None:
        model = made(pooling, normalize=normalize, projection=projection)
        by = ranker(model, runtime or cpu(), cosine=cosine, tokens=tokens, validator=validator)
        OnDisk(tmp_path, LIMIT, settings).documents(model, by, letters(words, **text))

    keep()
    keep()
    assert len(files(tmp_path)) == 1
    keep(**changed())
    assert len(files(tmp_path)) == 2


def test_new_weights_are_encoded_anew(model, tmp_path):
    by, texts = ranker(model, cpu(), cosine=False), letters()
    for keeps in (OnDisk(tmp_path, LIMIT), Remembered()):
        before = keeps.documents(model, by, texts).clone()
        with torch.no_grad():
            next(model.parameters()).add_(0.5)
        after = keeps.documents(model, by, texts)
        assert not torch.equal(before, after)
        assert torch.equal(after, by.documents(texts))


def test_functions_of_a_person_are_never_kept(model, tmp_path):
    """No hash tells what they do."""

    def doubled(encoder: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
        return 2 * encoder(tokens, lengths)

    by = ranker(model, cpu(), cosine=False, validator=Validator(doubled, concatenated))
    plain = ranker(model, cpu(), cosine=False)
    found = OnDisk(tmp_path, LIMIT).documents(model, by, letters())
    assert torch.allclose(found, 2 * plain.documents(letters()))
    assert files(tmp_path) == []
    remembered = Remembered()
    assert torch.equal(remembered.documents(model, plain, letters()) * 2, remembered.documents(model, by, letters()))


def test_the_longest_unused_goes_first(model, tmp_path):
    by = ranker(model, cpu(), cosine=True)
    corpora = [letters([f"{word}{number}" for word in WORDS]) for number in range(3)]
    size = 5 * 16 * 4 + 128
    keeps = OnDisk(tmp_path, 2 * size)
    named: list[Path] = []
    for number, corpus in enumerate(corpora[:2]):
        keeps.documents(model, by, corpus)
        (new,) = set(files(tmp_path)) - set(named)
        named.append(new)
        os.utime(new, ns=(number, number))
    assert new.stat().st_size == size
    held = keeps.documents(model, by, corpora[0])  # used again, so the other one is now the older
    keeps.documents(model, by, corpora[2])
    assert named[0] in files(tmp_path) and named[1] not in files(tmp_path)
    assert len(files(tmp_path)) == 2
    for path in files(tmp_path):
        path.unlink()
    assert torch.equal(held, by.documents(corpora[0])), "what is mapped stays, though its file is gone"


def test_more_than_the_limit_is_used_but_not_kept(model, tmp_path, caplog):
    by = ranker(model, cpu(), cosine=True)
    with caplog.at_level(logging.WARNING, "quincunx"):
        found = OnDisk(tmp_path, 100).documents(model, by, letters())
    assert torch.equal(found, by.documents(letters()))
    assert files(tmp_path) == []
    assert "corpus_cache_limit" in caplog.text


def test_a_folder_that_cannot_be_written_costs_only_time(model, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    by = ranker(model, cpu(), cosine=True)
    with caplog.at_level(logging.WARNING, "quincunx"):
        found = OnDisk(blocked / "below", LIMIT).documents(model, by, letters())
    assert torch.equal(found, by.documents(letters()))
    assert "not kept" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"no array at all", None])
def test_a_damaged_file_is_made_anew(model, tmp_path, damage):
    by = ranker(model, cpu(), cosine=True)
    first = OnDisk(tmp_path, LIMIT).documents(model, by, letters()).clone()
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-8] if damage is None else damage)
    assert torch.equal(OnDisk(tmp_path, LIMIT).documents(model, by, letters()), first)
    assert np.array_equal(np.load(file), first.numpy())


def test_the_hash_of_weights_sees_kind_shape_and_name():
    def hashed(**tensors: Tensor) -> bytes:
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return weights_hash(module)

    zeros = torch.zeros(4)
    different = [
        hashed(a=zeros),
        hashed(b=zeros),
        hashed(a=zeros.view(2, 2)),
        hashed(a=torch.zeros(8, dtype=torch.bfloat16)),
        hashed(a=torch.zeros(8, dtype=torch.float16)),
        hashed(a=torch.tensor(0.0)),
    ]
    assert len(set(different)) == len(different)
    assert hashed(a=zeros.clone()) == different[0]
