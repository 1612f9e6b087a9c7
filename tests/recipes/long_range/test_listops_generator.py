import math

import numpy as np
import pytest

from quincunx.errors import DataError, UsageError
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.data.listops import Parameters
from quincunx.recipes.long_range.data.listops import generator as generator_module
from quincunx.recipes.long_range.data.listops.generator import distinct_examples, draw, shuffled
from quincunx.recipes.long_range.data.listops.language import OPERATORS, TOKENS, root_operators
from quincunx.recipes.long_range.data.oracles import majority_oracle, root_operator_oracle
from reference import listops as reference

TINY = Parameters(20, 100, 6, 6)
SHORT = Parameters(50, 200, 10, 10)
ARENA = Parameters()


def roots_of(examples: Examples):
    return root_operators(examples.flat, examples.offsets)


def collect(parameters: Parameters, count: int) -> Examples:
    return Examples.join(list(distinct_examples(parameters, count)))


def chi_square_is_plausible(counts, expected) -> bool:
    """Whether the statistic lies within five standard deviations of its mean."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    freedom = len(counts) - 1
    return float(((counts - expected) ** 2 / expected).sum()) < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "parameters", [Parameters(20, 100, 6, 6, seed=3), Parameters(0, 60, 10, 10, seed=2**70), Parameters(0, 9, 1, 2)]
)
def test_draws_are_those_of_the_recursive_reference(parameters):
    attempts = 1500
    drawn = draw(parameters, 100, attempts)
    trees = (
        reference.draw_tree(attempt, parameters.max_depth, parameters.max_arguments, parameters.seed)
        for attempt in range(100, 100 + attempts)
    )
    kept = [
        (words, reference.value(tree))
        for tree in trees
        if parameters.min_length < len(words := reference.words(tree)) < parameters.max_length
    ]
    assert len(kept) > 20
    assert [([TOKENS[token] for token in drawn.tokens(i)], drawn.labels[i]) for i in range(len(drawn))] == kept


def test_draws_do_not_depend_on_how_many_are_made_at_once():
    whole = draw(TINY, 0, 2000)
    pieces = Examples.join([draw(TINY, 0, 1), draw(TINY, 1, 499), draw(TINY, 500, 1500)])
    assert whole.fingerprint() == pieces.fingerprint()


@pytest.mark.parametrize(("parameters", "attempts"), [(TINY, 200_000), (SHORT, 200_000), (ARENA, 20_000)])
def test_lengths_follow_the_exact_distribution(parameters, attempts):
    exact = reference.length_distribution(parameters.max_depth, parameters.max_arguments, parameters.max_length)
    exact = exact[parameters.min_length + 1 :]
    accepted = exact.sum()
    lengths = Examples.join([draw(parameters, start, 10_000) for start in range(0, attempts, 10_000)]).lengths

    assert abs(len(lengths) - accepted * attempts) < 4 * math.sqrt(attempts * accepted * (1 - accepted))
    at = np.arange(parameters.min_length + 1, parameters.max_length)
    mean = (exact * at).sum() / accepted
    spread = math.sqrt((exact * (at - mean) ** 2).sum() / accepted)
    assert abs(lengths.mean() - mean) < 4 * spread / math.sqrt(len(lengths))
    bins = np.array_split(at, 20)
    counts = [((lengths >= part[0]) & (lengths <= part[-1])).sum() for part in bins]
    shares = [exact[part - at[0]].sum() / accepted for part in bins]
    assert chi_square_is_plausible(counts, np.array(shares) * len(lengths))


def test_choices_at_a_node_are_uniform():
    attempts = 40_000
    drawn = draw(Parameters(0, 1000, 2, 10, seed=5), 0, attempts)
    assert len(drawn) == attempts  # nothing is out of range here
    operator = roots_of(drawn) > 0
    assert abs(operator.sum() - attempts / 4) < 4 * math.sqrt(attempts * 3 / 16)
    kinds = np.bincount(roots_of(drawn)[operator], minlength=5)[1:]
    assert chi_square_is_plausible(kinds, np.full(4, kinds.sum() / 4))
    arguments = np.bincount(drawn.lengths[operator] - 2, minlength=11)
    assert arguments[:2].sum() == 0
    assert chi_square_is_plausible(arguments[2:], np.full(9, operator.sum() / 9))
    digits = np.bincount(drawn.flat, minlength=17)[1:11]
    assert chi_square_is_plausible(digits, np.full(10, digits.sum() / 10))
    # The kind says nothing about the number of arguments, nor siblings about each other.
    for kind in range(1, len(OPERATORS) + 1):
        chosen = drawn.lengths[roots_of(drawn) == kind] - 2
        assert chi_square_is_plausible(np.bincount(chosen, minlength=11)[2:], np.full(9, len(chosen) / 9))
    first, second = (drawn.flat[drawn.offsets[:-1][operator] + place] - 1 for place in (1, 2))
    pairs = np.bincount(first.astype(int) * 10 + second, minlength=100)
    assert chi_square_is_plausible(pairs, np.full(100, len(first) / 100))


def test_a_node_below_the_greatest_depth_is_an_operator_one_time_in_four():
    drawn = draw(Parameters(0, 10_000, 3, 10, seed=6), 0, 20_000)
    opens, closes = (drawn.flat >= 11) & (drawn.flat != 15), drawn.flat == 15
    level = np.cumsum(opens.astype(int) - closes) - opens
    second = (level == 1) & ~closes
    number = second.sum()
    assert abs((second & opens).sum() - number / 4) < 4 * math.sqrt(number * 3 / 16)
    assert not ((level == 2) & opens).any()


@pytest.mark.parametrize(
    ("parameters", "count", "majority", "oracle"),
    [(TINY, 6000, 0.131, 0.265), (SHORT, 5000, 0.163, 0.335), (ARENA, 3000, 0.159, 0.358)],
)
def test_oracles_reach_the_known_figures(parameters, count, majority, oracle):
    examples = collect(parameters, count)
    allowed = 0.02  # both sides are samples of a few thousand: each 0.5 to 0.9 points of standard error
    assert abs(majority_oracle(examples, examples).value - majority) < allowed
    found = root_operator_oracle(examples, examples)
    assert abs(found.value - oracle) < allowed
    assert found.total == count


def test_oracles_learn_on_train_and_answer_for_test():
    def labelled(*pairs: tuple[str, int]) -> Examples:
        return Examples.of([bytes([TOKENS.index(first), 1]) for first, _ in pairs], [label for _, label in pairs])

    train = labelled(("[MAX", 9), ("[MAX", 9), ("[MAX", 8), ("[MIN", 0), ("[MIN", 1), ("[MIN", 1), ("5", 9))
    test = labelled(("[MAX", 9), ("[MIN", 1), ("[MIN", 0), ("5", 9), ("[SM", 9), ("[SM", 3))
    assert majority_oracle(train, test).correct == 3
    assert root_operator_oracle(train, test).correct == 4  # [SM is not in train: the most frequent label of all


def test_no_expression_comes_twice():
    examples = collect(Parameters(3, 7, 3, 4), 3000)
    assert len({bytes(examples.tokens(i)) for i in range(len(examples))}) == 3000


def test_a_longer_set_continues_a_shorter_one():
    assert collect(TINY, 700).take(300).fingerprint() == collect(TINY, 300).fingerprint()


def test_another_seed_gives_other_expressions():
    one, two = collect(TINY, 200), collect(Parameters(20, 100, 6, 6, seed=1), 200)
    texts = [{bytes(examples.tokens(i)) for i in range(200)} for examples in (one, two)]
    assert len(texts[0] & texts[1]) < 10


def test_a_space_too_small_is_said_with_its_size(monkeypatch):
    monkeypatch.setattr(generator_module, "PATIENCE", 100_000)
    with pytest.raises(DataError, match=r"only 400 different expressions .* 1,000 are asked for.*raise max_length"):
        collect(Parameters(3, 5, 10, 10), 1000)  # four operators, two digits each
    assert len(collect(Parameters(3, 5, 10, 10), 400)) == 400


def test_patience_counts_from_the_last_new_expression(monkeypatch):
    real, calls = draw, []

    def rarely(parameters: Parameters, first: int, count: int) -> Examples:
        calls.append(first)
        drawn = real(parameters, first, count)
        return drawn.take(1 if len(calls) % 4 == 1 else 0)

    monkeypatch.setattr(generator_module, "draw", rarely)
    monkeypatch.setattr(generator_module, "PATIENCE", 5 * 16_384)
    assert len(collect(Parameters(3, 6, 3, 4), 3)) == 3
    assert len(calls) == 9


def test_a_size_that_never_comes_is_said(monkeypatch):
    monkeypatch.setattr(generator_module, "PATIENCE", 50_000)
    with pytest.raises(DataError, match=r"no expression of the size asked for.*lower min_length.*max_depth"):
        collect(Parameters(500, 2000, 3, 10), 10)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min_length": 10, "max_length": 11}, "max_length"),
        ({"max_depth": 0}, "max_depth"),
        ({"max_arguments": 1}, "max_arguments"),
        ({"seed": -1}, "seed"),
        ({"max_arguments": 2**31}, "max_arguments"),
    ],
)
def test_settings_without_meaning_are_refused(settings, named):
    with pytest.raises(UsageError, match=named):
        Parameters(**settings)


def test_the_shuffle_is_a_permutation_of_its_seed():
    order = shuffled(1, 1000)
    assert sorted(order) == list(range(1000))
    assert (order == shuffled(1, 1000)).all()
    assert (order != shuffled(2, 1000)).sum() > 900
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15
