"""What models are measured against: equal to plain counting, on every task's shape of data."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.recipes.long_range.baselines import BASELINES, WORDS, scalars_of
from quincunx.recipes.long_range.data import Examples, oracles
from quincunx.recipes.long_range.data.oracles import LEARNT_FROM, bag_of_tokens_oracle, majority_oracle
from quincunx.recipes.long_range.tasks import TASKS

Texts = list[tuple[bytes, int]]
PairTexts = list[tuple[bytes, bytes, int]]


def singles(rows: Texts, first_id: int = 1) -> Examples:
    return Examples.of([text for text, _ in rows], [label for _, label in rows], first_id=first_id)


def pairs(rows: PairTexts) -> Examples:
    texts = [text for first, second, _ in rows for text in (first, second)]
    return Examples.of(texts, [label for *_, label in rows], first_id=1, parts=2)


def naive_bayes(train: Texts, test: Texts) -> float:
    """Multinomial naive Bayes with one added to every count, one token after another."""
    seen: dict[int, int] = Counter(label for _, label in train)
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for text, label in train:
        counts[label].update(text)
    right = 0
    for text, label in test:
        best, answer = -math.inf, -1
        for each in sorted(seen):
            total = sum(counts[each].values()) + 256
            score = math.log(seen[each] / len(train))
            for byte in text:
                score += math.log((counts[each][byte] + 1) / total)
            if score > best + 1e-9:  # the first of several that are alike
                best, answer = score, each
        right += answer == label
    return right / len(test)


def texts(count: int, classes: int, seed: int) -> Texts:
    """Texts whose bytes tell a little of their class."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = int(draw.integers(classes))
        length = int(draw.integers(1, 40))
        own = draw.integers(50 * label, 50 * label + 120, length)
        rows.append((np.where(draw.random(length) < 0.3, own, draw.integers(0, 256, length)), label))
    return [(symbols.astype(np.uint8).tobytes(), label) for symbols, label in rows]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_bag_of_tokens_is_a_naive_bayes_classifier(classes, seed):
    train, test = texts(700, classes, seed), texts(300, classes, seed + 100)
    found = bag_of_tokens_oracle(singles(train), singles(test))
    assert found.value == pytest.approx(naive_bayes(train, test), abs=1e-12)
    assert found.value > majority_oracle(singles(train), singles(test)).value + 0.1, "the texts tell something"


def test_it_knows_how_often_tokens_occur_and_not_where():
    train = singles([(b"aab", 0), (b"abb", 1)] * 5)
    assert bag_of_tokens_oracle(train, singles([(b"baa", 0), (b"bab", 1), (b"aba", 0)])).value == 1
    order = singles([(b"ab", 0), (b"ba", 1)] * 5)
    assert bag_of_tokens_oracle(order, order).value == 0.5


def test_the_share_of_a_class_counts_where_tokens_say_nothing():
    train = singles([(b"a", 1)] * 9 + [(b"a", 0)] * 8)
    assert bag_of_tokens_oracle(train, singles([(b"a", 1), (b"", 1), (b"", 0)])).value == pytest.approx(2 / 3)


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_class_that_is_absent_from_training_is_never_the_answer(absent):
    train = [row for row in texts(300, 3, 1) if row[1] != absent]
    test = texts(200, 3, 2)
    found = bag_of_tokens_oracle(singles(train), singles(test))
    assert found.value == pytest.approx(naive_bayes(train, test), abs=1e-12)
    alone = [row for row in test if row[1] == absent]
    assert bag_of_tokens_oracle(singles(train), singles(alone)).value == 0
    assert majority_oracle(singles(train), singles(alone)).value == 0


def test_examples_are_counted_in_portions():
    train, test = texts(1100, 3, 5), texts(520, 3, 6)
    assert bag_of_tokens_oracle(singles(train), singles(test)).value == pytest.approx(naive_bayes(train, test))


def test_what_is_learnt_from_is_drawn_from_all_of_training(monkeypatch: pytest.MonkeyPatch):
    """Files of texts are often sorted by class: the first so many may be all of one."""
    assert LEARNT_FROM >= 10_000
    monkeypatch.setattr(oracles, "LEARNT_FROM", 10)
    test = [(b"a" * 30, 0), (b"b" * 30, 1), (b"c" * 30, 2)]
    train = test[:1] * 30 + test[1:2] * 20 + test[2:] * 10
    assert bag_of_tokens_oracle(singles(train), singles(test)).value == 1
    related = [(b"ab", b"cd", 0)] * 30 + [(b"ab", b"ab", 1)] * 30
    assert bag_of_tokens_oracle(pairs(related), pairs(related)).value == 1
    shorter = train[::7]
    assert len(shorter) < 10
    assert bag_of_tokens_oracle(singles(shorter), singles(test)).value == naive_bayes(shorter, test)


def squared_cosine(first: bytes, second: bytes) -> Fraction:
    """Of the two texts' counts, exactly; it orders pairs as the cosine does."""
    a, b = Counter(first), Counter(second)
    norms = sum(n * n for n in a.values()) * sum(n * n for n in b.values())
    return Fraction(sum(a[byte] * b[byte] for byte in a) ** 2, norms) if norms else Fraction(0)


def right_at(rows: PairTexts, threshold: Fraction) -> int:
    return sum((squared_cosine(first, second) >= threshold) == (label == 1) for first, second, label in rows)


def thresholds(rows: PairTexts) -> list[Fraction]:
    return [*sorted({squared_cosine(first, second) for first, second, _ in rows}), Fraction(2)]


def related(count: int, seed: int, noise: float = 0.3, letters: str = "abcdef") -> PairTexts:
    draw = np.random.default_rng(seed)
    rows: PairTexts = []
    for _ in range(count):
        label = int(draw.integers(2))
        first = draw.choice(list(letters), int(draw.integers(1, 9)))
        second = draw.permutation(first) if label else draw.choice(list(letters), int(draw.integers(1, 9)))
        if draw.random() < noise:
            label = 1 - label
        rows.append(("".join(first).encode(), "".join(second).encode(), label))
    return rows


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("letters", ["ab", "abcdef"])
def test_pairs_are_told_apart_by_the_best_threshold_of_similarity(seed, letters):
    """Against every threshold there is; few letters make many pairs equally similar."""
    train, test = related(60, seed, letters=letters), related(40, seed + 1000, letters=letters)
    best = max(right_at(train, threshold) for threshold in thresholds(train))
    own = bag_of_tokens_oracle(pairs(train), pairs(train)).value
    assert own == best / len(train)
    # of several thresholds that are as good on training any may be taken
    allowed = {right_at(test, each) / len(test) for each in thresholds(train) if right_at(train, each) == best}
    assert bag_of_tokens_oracle(pairs(train), pairs(test)).value in allowed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=4), st.text("ab", min_size=1, max_size=4), st.booleans()),
                min_size=1, max_size=12))  # fmt: skip
def test_no_threshold_is_better(drawn):
    rows = [(first.encode(), second.encode(), int(label)) for first, second, label in drawn]
    best = max(right_at(rows, threshold) for threshold in thresholds(rows))
    assert bag_of_tokens_oracle(pairs(rows), pairs(rows)).value == best / len(rows)


@pytest.mark.parametrize("label", [0, 1])
def test_pairs_of_one_class_are_all_answered_with_it(label):
    train = [(first, second, label) for first, second, _ in related(20, 3)]
    test = related(30, 4)
    share = sum(row[2] == label for row in test) / len(test)
    if label == 0:
        assert bag_of_tokens_oracle(pairs(train), pairs(test)).value == share
    assert bag_of_tokens_oracle(pairs(train), pairs(train)).value == 1


def test_every_task_has_baselines_with_words():
    assert BASELINES.keys() == TASKS.keys()
    for task, known in BASELINES.items():
        assert known.keys() <= WORDS.keys()
        assert scalars_of(task) == ("accuracy", "accuracy_se", "loss", *known)
        assert next(iter(known)) == "majority_class"
        assert len(known) == 2
