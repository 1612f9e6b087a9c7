import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.data.listops import read_tsv
from quincunx.recipes.long_range.data.listops.language import (
    CLOSE,
    FAULTS,
    ROOTS,
    TOKENS,
    UNKNOWN,
    VOCABULARY_SIZE,
    evaluate,
    examine,
    format_source,
    nesting_depths,
    root_operators,
    tokenize,
)
from reference import listops as reference

TREES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.tuples(st.sampled_from(reference.NAMES), st.lists(inner, min_size=1, max_size=5)),
    max_leaves=40,
)


def ids(source: str) -> bytes:
    return tokenize(source.encode())


@settings(max_examples=60, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=8))
def test_values_depths_and_roots_agree_with_the_recursive_reference(trees):
    examples = Examples.of([ids(" ".join(reference.words(tree))) for tree in trees], [0] * len(trees))
    findings = examine(examples.flat, examples.offsets)
    assert not findings.faults.any()
    assert findings.values.tolist() == [reference.value(tree) for tree in trees]
    assert nesting_depths(examples.flat, examples.offsets).tolist() == [reference.nesting(tree) for tree in trees]
    roots = ["digit" if isinstance(tree, int) else tree[0] for tree in trees]
    assert [ROOTS[root] for root in root_operators(examples.flat, examples.offsets)] == roots


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_the_official_form_is_a_pair_for_each_application_and_reads_back(tree):
    tokens = ids(" ".join(reference.words(tree)))
    text = format_source(tokens)
    assert text == reference.in_pairs(tree)
    assert ids(text) == tokens


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("7", 7),
        ("[MED 1 2 ]", 1),
        ("[MED 0 9 ]", 4),
        ("[MED 3 9 1 ]", 3),
        ("[MED 9 1 3 5 ]", 4),
        ("[SM 9 9 9 ]", 7),
        ("[MIN 4 [MAX 2 8 ] 5 ]", 4),
        ("( ( ( [MAX 1 ) 2 ) ] )", 2),
    ],
)
def test_values(source, value):
    assert evaluate(ids(source)) == value


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "empty"),
        ("[MAX 1 2", "brackets"),
        ("1 ]", "brackets"),
        ("] [MAX 1 2", "brackets"),
        ("1 2", "more than one"),
        ("[MAX 1 2 ] 3", "more than one"),
        ("[MAX ]", "without arguments"),
        ("[MAX 1 [MIN ] ]", "without arguments"),
        ("[FIRST 1 2 ]", "not of the Long Range Arena"),
    ],
)
def test_what_has_no_value_says_why(source, reason):
    with pytest.raises(ValueError, match=reason):
        evaluate(ids(source))


def test_faults_stay_in_their_own_row():
    sources = ["[MAX 1 2", "3 ]", "[MIN 4 [MAX 5 6 ] ]", "", "[SM ]", "[LAST 1 2 ]", "8"]
    rows = [ids(source) for source in sources]
    examples = Examples.of(rows, [0] * len(rows))
    findings = examine(examples.flat, examples.offsets)
    brackets, empty, bare = (FAULTS.index(text) for text in (FAULTS[2], FAULTS[1], FAULTS[4]))
    assert findings.faults.tolist() == [brackets, brackets, 0, empty, bare, 0, 0]
    assert findings.values.tolist() == [-1, -1, 4, -1, -1, -1, 8]


def test_deep_nesting_is_evaluated():
    depth = 5000
    assert evaluate(ids("[MAX " * depth + "3 " + "] " * depth)) == 3


def test_the_vocabulary_has_seventeen_ids_that_never_move():
    assert VOCABULARY_SIZE == 17
    assert TOKENS[1:11] == tuple("0123456789")
    assert list(ids("0 9 [MIN [MAX [MED [SM ] [FIRST [LAST")) == [1, 10, 11, 12, 13, 14, CLOSE, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("token", ["10", "MAX", "[AVG", "-1", "X", "\u0663"])
def test_a_foreign_token_is_named(token):
    with pytest.raises(ValueError, match="unknown token") as caught:
        ids(f"[MAX 1 {token} ]")
    assert repr(token) in str(caught.value)


@pytest.mark.parametrize("name", ["d20s_sample_500.tsv", "d20a_max_med_min_3000.tsv", "d5f_first_last_1000.tsv"])
def test_public_files_read_whole_and_agree_with_the_reference(name):
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no data folder")
    path = Path(os.environ["QUINCUNX_DATA"]) / "listops" / name
    bad = []
    examples = read_tsv(path, on_bad=bad.append)
    lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    assert not bad
    assert examples.labels.tolist() == [int(target) for target, _ in lines]
    values = examine(examples.flat, examples.offsets).values
    for index, (target, source) in enumerate(lines):
        tree = reference.parse(source)
        assert reference.value(tree) == int(target)
        unknown = "FIRST" in source or "LAST" in source
        assert values[index] == (-1 if unknown else int(target))
        assert (UNKNOWN in examples.tokens(index)) == unknown
    assert ("first_last" in name) == bool((examples.flat == UNKNOWN).any())


def test_examples_are_compact_and_can_be_cut():
    examples = Examples.of([ids("[MAX 1 2 ]"), ids("5"), ids("[SM 3 4 ]")], [2, 5, 7])
    assert examples.flat.dtype == np.uint8
    assert bytes(examples.tokens(2)) == ids("[SM 3 4 ]")
    assert examples.lengths.tolist() == [4, 1, 4]
    first = examples.take(2)
    assert (len(first), bytes(first.tokens(1)), len(examples.take(9))) == (2, ids("5"), 3)
    odd = examples.where(np.array([True, False, True]))
    assert odd.labels.tolist() == [2, 7]
    assert bytes(odd.tokens(1)) == ids("[SM 3 4 ]")
    with pytest.raises(IndexError):
        examples.tokens(3)


def test_the_fingerprint_tells_content_apart_not_containers():
    rows, labels = [ids("[MAX 1 2 ]"), ids("5")], [2, 5]
    examples = Examples.of(rows, labels)
    again = Examples.join([Examples.of(rows[:1], labels[:1]), Examples.of(rows[1:], labels[1:])])
    assert examples.fingerprint() == again.fingerprint() == examples.take(2).fingerprint()
    regrouped = Examples(examples.flat, np.array([0, 1, 5]), examples.labels)
    relabelled = Examples.of(rows, [2, 6])
    different = {other.fingerprint() for other in (examples, examples.take(1), regrouped, relabelled)}
    assert len(different) == 4


def test_the_data_package_needs_no_torch():
    code = "import sys, quincunx.recipes.long_range.data; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
