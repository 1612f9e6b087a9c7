"""Documents cut into examples: every token in one example, none twice as what is predicted."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.recipes.compression.data.store import Tokens
from quincunx.recipes.compression.data.windows import LabelledPairs, Shape, Windows


def tokens(folder: Path, sizes: list[int], parts: int = 1, labels: list[int] | None = None) -> Tokens:
    """Documents whose ids count up from 0 over all of them."""
    path = folder / "ids"
    np.arange(sum(sizes), dtype="<u2").tofile(path)
    ends = np.cumsum(sizes, dtype=np.int64) if sizes else np.zeros(0, np.int64)
    return Tokens(path, "<u2", ends, np.array(labels or [-1] * (len(sizes) // parts), np.int16), parts)


def cut(windows: Windows) -> list[tuple[list[int], list[int]]]:
    return [
        (example.context.tolist(), example.forward.tolist()) for example in (windows[i] for i in range(len(windows)))
    ]


def test_the_first_picture(tmp_path: Path) -> None:
    windows = Windows(tokens(tmp_path, [15]), Shape(4, 2, overlap=1))
    assert cut(windows) == [
        ([0, 1, 2, 3], [3, 4, 5]),
        ([6, 7, 8, 9], [9, 10, 11]),
        ([12], [12, 13, 14]),
    ]
    assert windows.lengths.tolist() == [7, 7, 4]
    assert [windows[i].offset for i in range(3)] == [0, 6, 12]


def test_the_second_picture(tmp_path: Path) -> None:
    windows = Windows(tokens(tmp_path, [7]), Shape(4, 2))
    assert cut(windows) == [([0, 1, 2], [3, 4]), ([5], [6])]
    assert windows.lengths.tolist() == [5, 2]
    assert windows.left_out == 0


def test_a_rest_that_nothing_can_help_is_left_out_and_said(tmp_path: Path) -> None:
    windows = Windows(tokens(tmp_path, [5, 2, 4]), Shape(2, 2, min_context=2, min_forward=2))
    assert cut(windows) == [([0, 1], [2, 3]), ([7, 8], [9, 10])]
    assert (windows.left_out, windows.too_short) == (3, 1)
    said = windows.said("train")
    assert "2 examples of 11 tokens in 3 documents; 3 tokens (27.3%) are left out" in said
    assert "2 in 1 that have fewer than 4" in said
    assert "1 in rests too short" in said


def test_a_stream_keeps_short_documents_and_says_whose_they_are(tmp_path: Path) -> None:
    windows = Windows(tokens(tmp_path, [3, 2, 3, 1]), Shape(2, 2), stream=True)
    assert cut(windows) == [([0, 1], [2, 3]), ([4], [5, 6]), ([7], [8])]
    assert [(windows[i].document, windows[i].offset) for i in range(3)] == [(0, 0), (1, 1), (2, 2)]
    assert windows.left_out == 0


def test_without_context_or_without_forward_part_the_other_is_all_there_is(tmp_path: Path) -> None:
    source = tokens(tmp_path, [5])
    assert cut(Windows(source, Shape(0, 4))) == [([], [0, 1, 2, 3]), ([], [4])]
    assert cut(Windows(source, Shape(4, 0))) == [([0, 1, 2, 3], []), ([4], [])]


def test_numbers_beyond_the_last_are_refused(tmp_path: Path) -> None:
    windows = Windows(tokens(tmp_path, [8]), Shape(2, 2))
    with pytest.raises(IndexError):
        windows[2]
    with pytest.raises(IndexError):
        windows[-1]


def test_a_limit_takes_the_first(tmp_path: Path) -> None:
    source = tokens(tmp_path, [8, 8])
    windows, few = Windows(source, Shape(2, 2)), Windows(source, Shape(2, 2), limit=3)
    assert cut(few) == cut(windows)[:3]
    assert few.lengths.tolist() == [4, 4, 4]


def test_a_copy_in_another_process_reads_the_same_file(tmp_path: Path) -> None:
    windows = Windows(tokens(tmp_path, [9, 4]), Shape(3, 2, overlap=1))
    whole = pickle.dumps(windows)
    assert cut(pickle.loads(whole)) == cut(windows)


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), max_size=6),
    context=st.integers(0, 9),
    forward=st.integers(0, 9),
    stream=st.booleans(),
    data=st.data(),
)
def test_every_token_is_in_one_window_or_left_out(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    context: int,
    forward: int,
    stream: bool,
    data: st.DataObject,
) -> None:
    if context + forward == 0:
        context = 1
    shape = Shape(
        context,
        forward,
        data.draw(st.integers(0, context)),
        data.draw(st.integers(1, context)) if context else None,
        data.draw(st.integers(1, forward)) if forward else None,
    )
    windows = Windows(tokens(tmp_path_factory.mktemp("w"), sizes), shape, stream=stream)
    examples = [windows[i] for i in range(len(windows))]
    own = [np.concatenate([each.context, each.forward[each.overlap :]]) for each in examples]
    seen = np.concatenate([np.zeros(0, np.int64), *own])
    assert len(seen) == len(set(seen.tolist())) == sum(sizes) - windows.left_out
    assert np.all(np.diff(seen) > 0)
    bounds = np.cumsum([0, *sizes])
    for example, ids, length in zip(examples, own, windows.lengths.tolist(), strict=True):
        assert len(example.context) <= context
        assert len(example.context) >= shape.shortest_context
        assert len(example.forward) - example.overlap <= forward
        assert len(ids) >= shape.shortest
        assert length == len(example.context) + len(example.forward)
        assert (
            example.forward[: example.overlap].tolist()
            == example.context[len(example.context) - example.overlap :].tolist()
        )
        assert ids[0] == bounds[example.document] + example.offset
        if not stream:
            assert ids[-1] < bounds[example.document + 1]
        if len(example.context) > shape.shortest_context:
            assert len(example.forward) - example.overlap == forward  # the context gives way first
    if not stream and all(size % shape.window == 0 or size >= 2 * shape.window for size in sizes):
        could = shape.window >= 2 * shape.shortest
        assert windows.left_out == 0 or not could


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"context": 0, "forward": 0}, "no token to predict"),
        ({"context": 2, "forward": 2, "overlap": 3}, "data.overlap 3"),
        ({"context": 2, "forward": 2, "min_context": 3}, "data.min_context 3 does not lie in 1 to 2"),
        ({"context": 2, "forward": 2, "min_forward": 0}, "data.min_forward 0 does not lie in 1 to 2"),
    ],
)
def test_lengths_that_contradict_one_another_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Shape(**settings)


def pairs(folder: Path) -> Tokens:
    """Two labelled examples: 3 + 2 + 1 and 5 + 1 + 2 tokens."""
    return tokens(folder, [3, 2, 1, 5, 1, 2], parts=3, labels=[1, 0])


def test_labelled_examples_keep_their_answer_apart(tmp_path: Path) -> None:
    first, second = (LabelledPairs(pairs(tmp_path), Shape(5, 3, overlap=2))[i] for i in range(2))
    assert first.context.tolist() == [0, 1, 2]
    assert first.forward.tolist() == [1, 2, 3, 4, 5]
    assert (first.overlap, first.answer, first.label, first.document) == (2, 1, 1, 0)
    assert second.forward.tolist() == [9, 10, 11, 12, 13]
    assert (second.answer, second.label, second.document) == (2, 0, 1)


def test_labelled_examples_are_whole_or_left_out(tmp_path: Path) -> None:
    source = LabelledPairs(pairs(tmp_path), Shape(4, 3))
    assert len(source) == 1
    assert source[0].document == 0
    assert source.lengths.tolist() == [6]
    assert "1 of 2 labelled examples; 1 are longer than data.context_length 4" in source.said("dev")
    assert "the longest has 5 and 3 tokens" in source.said("dev")
    assert len(LabelledPairs(pairs(tmp_path), Shape(5, 2))) == 0


def test_labelled_examples_without_context_are_one_text(tmp_path: Path) -> None:
    source = LabelledPairs(pairs(tmp_path), Shape(0, 8))
    assert source[1].context.tolist() == []
    assert source[1].forward.tolist() == [6, 7, 8, 9, 10, 11, 12, 13]
    assert source.lengths.tolist() == [6, 8]


def test_labelled_examples_to_reconstruct_have_a_context_alone(tmp_path: Path) -> None:
    source = LabelledPairs(pairs(tmp_path), Shape(5, 0))
    assert source[1].context.tolist() == [6, 7, 8, 9, 10]
    assert source[1].forward.tolist() == []
    assert source.lengths.tolist() == [3, 5]
