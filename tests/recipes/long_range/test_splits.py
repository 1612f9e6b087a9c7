"""What all loaders share: counts, carving, checks of labels and lengths, examples in compact form."""

from __future__ import annotations

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.long_range.data import Examples, Splits, check
from quincunx.recipes.long_range.data.splits import carve, counted


def examples(*texts: bytes, labels: list[int] | None = None, parts: int = 1) -> Examples:
    count = len(texts) // parts
    return Examples.of(texts, labels or [0] * count, first_id=1, parts=parts)


def splits(dev: Examples) -> Splits:
    return Splits(examples(b"aa", b"b"), dev, examples(b"c"), places={"dev": lambda index: f"dev.csv:{index + 2}"})


def test_too_long_sequences_are_an_error_with_their_place_or_a_note_with_their_number():
    long = splits(examples(b"abc", b"abcdef", b"abcde"))
    with pytest.raises(DataError, match=r"dev\.csv:3 has 6 tokens, encoder\.max_seq_len is 4 \(2 of 3 examples"):
        check(long, 2, 4, "error")
    assert check(long, 2, 4, "truncate") == ["2 of 3 dev examples are cut to 4 tokens."]
    assert check(long, 2, 6, "error") == []


def test_a_label_beyond_the_classes_is_named_with_its_place():
    with pytest.raises(DataError, match=r"dev\.csv:3: the label is 2, but encoder\.num_classes is 2"):
        check(splits(examples(b"a", b"b", labels=[1, 2])), 2, 9, "error")
    with pytest.raises(DataError, match=r"^test example 1: the label is 4"):
        check(Splits(examples(b"a"), examples(b"a"), examples(b"a", labels=[4])), 2, 9, "error")


def test_the_longer_of_a_pair_counts():
    pairs = splits(examples(b"a", b"abcde", b"ab", b"ab", parts=2))
    assert check(pairs, 2, 4, "truncate") == ["1 of 2 dev examples are cut to 4 tokens."]


def test_counts():
    assert counted(10, "train", None, None, (), "f") == (10, None)
    assert counted(10, "train", 4, None, (), "f") == (4, "f: the first 4 rows are used.")
    assert counted(10, "train", 4, 3, (), "f") == (3, "f: the first 3 rows are used.")
    assert counted(10, "train", 20, None, (), "f")[0] == 10
    assert counted(10, "train", 20, 3, (), "f")[0] == 3
    with pytest.raises(DataError, match=r"f has 10 rows, data\.train asks for 20"):
        counted(10, "train", 20, None, {"data.train"}, "f")


def test_carving_parts_every_example_once_by_the_seed():
    whole = examples(*(bytes([65 + i]) * (i + 1) for i in range(20)), labels=[i % 2 for i in range(20)])
    rest, chosen, rest_places, chosen_places = carve(whole, 6, seed=3, name="dev")
    assert (len(rest), len(chosen)) == (14, 6)
    assert sorted([*rest_places, *chosen_places]) == list(range(20))
    for part, places in ((rest, rest_places), (chosen, chosen_places)):
        for index, place in enumerate(places):
            assert np.array_equal(part.tokens(index), whole.tokens(place)) and part.labels[index] == whole.labels[place]
    assert carve(whole, 6, seed=3, name="dev")[3].tolist() == chosen_places.tolist()
    others = [carve(whole, 6, seed=4, name="dev")[3], carve(whole, 6, seed=3, name="test")[3]]
    assert all(other.tolist() != chosen_places.tolist() for other in others)
    with pytest.raises(DataError, match=r"set data\.dev"):
        carve(whole, 20, seed=3, name="dev")


def test_pairs_stay_together():
    pairs = examples(b"a", b"bb", b"ccc", b"d", b"e", b"ff", labels=[0, 1, 0], parts=2)
    assert [pairs.symbols(1, part).tobytes() for part in range(2)] == [b"ccc", b"d"]
    assert pairs.lengths.tolist() == [2, 3, 2]
    for part, labels in ((pairs.take(2), [0, 1]), (pairs.where(np.array([True, True, False])), [0, 1])):
        assert part.labels.tolist() == labels and part.symbols(1, 0).tobytes() == b"ccc" and len(part.offsets) == 5
    picked = pairs.pick(np.array([2, 0]))
    assert picked.labels.tolist() == [0, 0] and picked.symbols(0, 1).tobytes() == b"ff"
    joined = Examples.join([picked, pairs])
    assert joined.parts == 2 and joined.first_id == 1 and joined.symbols(3, 1).tobytes() == b"d"
    assert len(pairs.pick(np.zeros(0, np.int64))) == 0
    assert pairs.tokens(1, 1).tolist() == [ord("d") + 1]
