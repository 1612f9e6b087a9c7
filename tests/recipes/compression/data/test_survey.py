"""Held-out documents: drawn by content, never in two splits."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.compression.data.documents import SPLITS, Document, Documents
from quincunx.recipes.compression.data.survey import LEFT_OUT, HeldOut, survey


def source(texts: Sequence[str | tuple[str, str]], drawn: tuple[str, ...] = ("dev", "test")) -> Documents:
    """Documents of these texts; a pair says the split first."""

    def read() -> Iterator[Document]:
        for number, each in enumerate(texts):
            split, text = (None, each) if isinstance(each, str) else each
            yield Document(str(number), (text,), split)

    return Documents("toy texts", {}, read, drawn=drawn)


def splits(texts: Sequence[str | tuple[str, str]], **settings: object) -> list[str]:
    drawn = settings.pop("drawn", ("dev", "test"))
    found = survey(source(texts, drawn), HeldOut(**settings)).splits  # type: ignore[arg-type]
    return ["left out" if place == LEFT_OUT else SPLITS[place] for place in found.tolist()]


WORDS = [f"text number {n}" for n in range(400)]


def test_shares_are_kept_roughly_and_every_document_has_one_split() -> None:
    found = splits(WORDS, dev_share=0.2, test_share=0.1)
    counts = {split: found.count(split) for split in SPLITS}
    assert sum(counts.values()) == 400
    assert 50 <= counts["dev"] <= 110
    assert 20 <= counts["test"] <= 65


def test_a_document_keeps_its_split_whatever_stands_beside_it_and_in_whatever_order() -> None:
    before = dict(zip(WORDS, splits(WORDS), strict=True))
    others = [f"another {n}" for n in range(300)]
    mixed = others + WORDS[::-1]
    after = dict(zip(mixed, splits(mixed), strict=True))
    assert {text: after[text] for text in WORDS} == before


def test_a_larger_share_only_adds_documents_to_the_test_split() -> None:
    small, large = splits(WORDS, test_share=0.1), splits(WORDS, test_share=0.3)
    assert all(b == "test" for a, b in zip(small, large, strict=True) if a == "test")


def test_another_seed_draws_others() -> None:
    assert splits(WORDS, seed=1) != splits(WORDS, seed=2)


def test_the_same_words_are_kept_once_however_they_are_spaced() -> None:
    texts = ["a b c", "d", "e", "f", " a  b\n\nc ", "d e"]
    found = splits(texts, dev_share=0.0, test_share=0.0)
    assert found == ["train", "train", "train", "train", "left out", "train"]
    assert survey(source(texts), HeldOut(0.0, 0.0)).notes[1] == ("Left out: 1 document with the same words as another.")


def test_what_the_data_holds_out_is_taken_out_of_training() -> None:
    texts = ["one", "two", ("dev", "two"), ("test", "three"), "three", ("dev", "three"), ("dev", "four")]
    assert splits(texts, drawn=()) == ["train", "left out", "dev", "test", "left out", "left out", "dev"]


def test_only_splits_that_the_data_does_not_have_are_drawn() -> None:
    texts = [*WORDS[:40], ("test", "the test")]
    found = splits(texts, drawn=("dev",), dev_share=0.25)
    assert found.count("test") == 1
    assert found[-1] == "test"
    assert found.count("dev") > 1


@pytest.mark.parametrize("seed", range(8))
def test_a_handful_of_documents_fills_every_split(seed: int) -> None:
    assert set(splits(["a", "b", "c"], seed=seed)) == set(SPLITS)
    assert set(splits(["a", "b", "c", "a"], seed=seed, dev_share=0.5, test_share=0.4)) == {*SPLITS, "left out"}
    assert set(splits(["a", "b"], seed=seed, dev_share=0.0)) == {"train", "test"}


def test_too_few_documents_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"2 different documents cannot fill .*data.document: paragraph or line"):
        splits(["a", "b", "a "])
    assert splits(["a"], dev_share=0.0, test_share=0.0) == ["train"]


def test_empty_documents_are_left_out_and_counted() -> None:
    texts = ["a", " \n", "b", "", "c"]
    assert [found == "left out" for found in splits(texts)] == [False, True, False, True, False]
    assert "Left out: 2 documents without any text." in survey(source(texts), HeldOut()).notes
    with pytest.raises(DataError, match="no document with any text"):
        splits(["", "\n"])


def test_a_limit_reads_the_first_and_still_finds_what_the_data_holds_out() -> None:
    held_out = HeldOut(0.0, 0.0, limit=2)
    with_test = source(["a", "b", "c", ("test", "d")], drawn=("dev",))
    found = survey(with_test, held_out)
    assert [(SPLITS[place], document.texts[0]) for place, document in found.documents(with_test)] == [
        ("train", "a"), ("train", "b"), ("test", "d"),
    ]  # fmt: skip
    plain = source(["a", "b", "c"])
    assert [document.texts[0] for _, document in survey(plain, held_out).documents(plain)] == ["a", "b"]


def test_the_counts_are_said() -> None:
    found = survey(source(WORDS), HeldOut())
    counts = [int((found.splits == place).sum()) for place in range(3)]
    numbers = [int(n) for n in re.findall(r"(?:train|dev|test) (\d+)", found.notes[0])]
    assert numbers == counts
    assert np.all(np.array(counts) > 0)


def test_files_that_change_meanwhile_are_noticed() -> None:
    before, shorter, longer = source(["a", "b", "c"]), source(["a", "b"]), source(["a", "b", "c", "d"])
    found = survey(before, HeldOut(0.0, 0.0))
    for changed in (shorter, longer):
        with pytest.raises(DataError, match=r"3 documents at first and [24] later"):
            list(found.documents(changed))
