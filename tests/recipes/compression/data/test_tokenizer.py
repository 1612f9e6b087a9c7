"""Tokenizers trained on the spot, and bare encoding."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.recipes.compression.data.tokenizer import (
    SMALLEST,
    Encoder,
    end_token,
    fingerprint,
    kept_tokenizer,
    read_tokenizer,
    state,
    train_tokenizer,
)

TEXTS = ["the cat sat on the mat, the cat did", "the theatre's cat — naïve 😀\n\tthe end"] * 3
BPE = train_tokenizer(TEXTS, "bpe", 280)
BYTE = train_tokenizer((), "byte", 0)


def test_a_byte_is_a_token() -> None:
    ids = Encoder(state(BYTE))(["aé"])[0].tolist()
    assert len(ids) == 3
    assert len(BYTE) == SMALLEST
    assert (BYTE.pad_token_id, BYTE.eos_token_id) == (0, 1)
    letters = {int(token) for (token,) in Encoder(state(BYTE))([chr(n) for n in range(128)])}
    assert len(letters) == 128
    assert not letters & {0, 1}


def test_bpe_merges_what_is_frequent_first() -> None:
    assert len(BPE) == 280
    first = BPE.convert_ids_to_tokens([SMALLEST, SMALLEST + 1, SMALLEST + 2])
    # `th` and `at` come most often; then ` t`
    assert set(first) <= {"th", "he", "at", "the", "Ġt", "Ġthe"}
    assert len(Encoder(state(BPE))(["the cat"])[0]) < 7
    assert len(train_tokenizer(["ab"], "bpe", 5000)) == SMALLEST + 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_every_text_comes_back(text: str) -> None:
    for tokenizer in (BPE, BYTE):
        ids = Encoder(state(tokenizer))([text])[0].tolist()
        assert tokenizer.decode(ids) == text
        assert 0 not in ids
        assert 1 not in ids


def test_what_a_text_says_is_never_a_special_token() -> None:
    ids = Encoder(state(BYTE))(["<eos><pad>"])[0].tolist()
    assert len(ids) == 10
    assert BYTE("<eos>").input_ids == ids[:5]


def test_training_is_the_same_in_another_process_and_order() -> None:
    code = (
        "from quincunx.recipes.compression.data.tokenizer import fingerprint, train_tokenizer\n"
        f"print(fingerprint(train_tokenizer({TEXTS[::-1]!r}, 'bpe', 280)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == fingerprint(BPE)


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"raise tokenizer\.vocabulary to at least 258"):
        train_tokenizer(TEXTS, "bpe", 257)


def test_the_fingerprint_follows_what_decides_ids(tmp_path: Path) -> None:
    assert len({fingerprint(BPE), fingerprint(BYTE), fingerprint(train_tokenizer(TEXTS, "bpe", 279))}) == 3
    before = fingerprint(BPE)
    BPE.save_pretrained(tmp_path)
    assert fingerprint(read_tokenizer(str(tmp_path))) == before
    BPE(["long " * 50], truncation=True, max_length=3)  # which the tokenizer remembers
    assert fingerprint(BPE) == before
    assert len(Encoder(state(BPE))(["long " * 50])[0]) > 3


def test_a_tokenizer_that_ends_nothing_is_refused() -> None:
    other = train_tokenizer((), "byte", 0)
    other.eos_token = None
    with pytest.raises(UsageError, match="has no eos token, by which documents end"):
        end_token(other)


def test_a_trained_tokenizer_is_kept_and_a_damaged_one_trained_anew(tmp_path: Path) -> None:
    seen: list[str] = []

    def texts() -> list[str]:
        seen.append("read")
        return TEXTS

    class Lazy:
        def __iter__(self) -> Iterator[str]:
            return iter(texts())

    def kept(request: dict[str, int], vocabulary: int = 270) -> str:
        return fingerprint(kept_tokenizer(Lazy(), "bpe", vocabulary, request, tmp_path / "new"))

    first = kept({"a": 1})
    assert first == fingerprint(train_tokenizer(TEXTS, "bpe", 270))
    assert kept({"a": 1}) == first
    assert len(seen) == 1
    kept({"a": 2})
    kept({"a": 1}, 271)
    assert len(seen) == 3
    for path in (tmp_path / "new").iterdir():
        path.write_text(path.read_text()[:100])
    assert kept({"a": 1}) == first
    assert len(seen) == 4
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith(".")]


def test_nothing_is_kept_of_training_that_fails(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "text"
        raise UsageError("stop")

    with pytest.raises(UsageError, match="stop"):
        kept_tokenizer(broken(), "bpe", 300, {}, tmp_path)
    assert list(tmp_path.iterdir()) == []
