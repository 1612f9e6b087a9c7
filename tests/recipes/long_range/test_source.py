"""Sources and collation: what becomes of examples on their way to the model, and which tokens are masked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.data.batch import Batch
from quincunx.data.loader import Updates, updates
from quincunx.data.order import Order
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.model import LongRangeClassifier
from quincunx.recipes.long_range.objective import classify
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.recipes.long_range.source import UNMASKED, Masking, SequenceSource, SingleSource, collate

MASK = 99
SMALL = LongRangeConfig.model_validate(
    {"encoder": {"embedding_dim": 8, "hidden_dim": 8, "head_dim": 4, "num_heads": 2, "max_seq_len": 12}}
)
SINGLES = Examples.of([bytes([1, 2, 3]), bytes([4]), bytes([5, 6]), b""], [3, 1, 0, 2])
PAIRS = Examples.of([b"abc", b"de", b"f", b"ghijk", b"", b"l"], [1, 0, 1], first_id=1, parts=2)


def drawn(source: SequenceSource | SingleSource, form=collate, ids=None, rows=None, seed: int = 5) -> Batch:
    ids = list(range(len(source))) if ids is None else list(ids)
    return form([source[i] for i in ids], ids, ids if rows is None else rows, seed)


def test_sequences_are_padded_to_the_longest_and_cut_to_the_models_length():
    batch = drawn(SequenceSource(SINGLES, 10))
    assert batch["tokens"].tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0], [0, 0, 0]]
    assert batch["lengths"].tolist() == [3, 1, 2, 0]
    assert batch["labels"].tolist() == [3, 1, 0, 2]
    assert {tensor.dtype for tensor in batch.tensors.values()} == {torch.int64}
    assert batch.tensors.keys() == {"tokens", "lengths", "labels"}
    cut = SequenceSource(SINGLES, 2)
    assert cut.lengths.tolist() == [2, 1, 2, 0]
    assert drawn(cut)["tokens"].tolist() == [[1, 2], [4, 0], [5, 6], [0, 0]]
    assert SINGLES.lengths.tolist() == [3, 1, 2, 0], "the examples stay whole"


def test_ids_and_rows_are_what_was_asked_for():
    batch = drawn(SequenceSource(SINGLES, 10), ids=[2, 0], rows=[7, 4])
    assert batch.ids == [2, 0]
    assert batch.rows.tolist() == [7, 4]
    assert batch["labels"].tolist() == [0, 3]


def test_bytes_and_grey_values_begin_at_one():
    source = SequenceSource(Examples.of([bytes([0, 255])], [1], first_id=1), 10)
    assert drawn(source)["tokens"].tolist() == [[1, 256]]


def test_pairs_are_padded_to_the_longest_of_either_side():
    source = SequenceSource(PAIRS, 10)
    assert source.lengths.tolist() == [3, 5, 1]
    batch = drawn(source)
    for name, texts in (("tokens", ("abc", "f", "")), ("second_tokens", ("de", "ghijk", "l"))):
        assert batch[name].tolist() == [[ord(c) + 1 for c in text] + [0] * (5 - len(text)) for text in texts]
    assert batch["lengths"].tolist() == [3, 1, 0]
    assert batch["second_lengths"].tolist() == [2, 5, 1]
    assert batch["labels"].tolist() == [1, 0, 1]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [3, 5, 1], "chunks are cut and trimmed by the longer side"
    assert batch.padded == {"tokens", "second_tokens"}


def test_a_selection_of_pairs_is_trimmed_to_its_longest_and_keeps_both_sides():
    batch = drawn(SequenceSource(PAIRS, 10))
    chosen = batch.select([2, 0])
    assert chosen["tokens"].tolist() == [[0, 0, 0], batch["tokens"][0, :3].tolist()]
    assert chosen["second_tokens"].tolist() == [[109, 0, 0], [101, 102, 0]]
    assert chosen["second_lengths"].tolist() == [1, 2]
    short = drawn(SequenceSource(PAIRS, 2))
    assert short["second_tokens"].tolist() == [[101, 102], [104, 105], [109, 0]]


def test_single_sources_take_pairs_apart_in_order():
    source = SingleSource(PAIRS, 4)
    assert len(source) == 6
    assert source.lengths.tolist() == [3, 2, 1, 4, 0, 1]
    found = [bytes((source[i][0][0] - 1).tolist()) for i in range(6)]
    assert found == [b"abc", b"de", b"f", b"ghij", b"", b"l"]
    assert all(source[i][1] == 0 and len(source[i][0]) == 1 for i in range(6))
    assert len(SingleSource(SINGLES, 4)) == 4


def test_empty_sequences_alone_still_make_one_column():
    batch = drawn(SequenceSource(SINGLES, 10), ids=[3, 3])
    assert batch["tokens"].tolist() == [[0], [0]]
    assert batch["lengths"].tolist() == [0, 0]


def test_an_empty_sequence_is_the_same_alone_and_beside_others():
    """Its one column is padding and no token, whatever chunk it is in."""
    config, _ = RECIPE.decide(SMALL)
    torch.manual_seed(0)
    model = LongRangeClassifier(config).double().eval()
    torch.nn.init.normal_(model.positions.table)
    whole = drawn(SequenceSource(SINGLES, 10))
    with torch.no_grad():
        together = classify(model, whole)
        for row in range(4):
            assert torch.allclose(classify(model, whole.select([row]))[0], together[row], atol=1e-12), row


def masked(source: SingleSource, ids, rows, seed: int = 5, share: float = 0.3) -> Batch:
    return drawn(source, Masking(share, MASK), ids, rows, seed)


LONG = SingleSource(Examples.of([bytes(range(1, n + 1)) for n in (9, 20, 1, 33, 2, 14, 0, 27)], [0] * 8), 30)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 2**40), lengths=st.lists(st.integers(0, 60), min_size=1))
def test_the_share_of_every_sequence_is_masked_and_no_padding(share, seed, lengths):
    examples = Examples.of([bytes(1 + i % 90 for i in range(length)) for length in lengths], [0] * len(lengths))
    plain = drawn(SingleSource(examples, 50))
    ids = range(len(lengths))
    batch = masked(SingleSource(examples, 50), ids, ids, seed, share)
    hidden = batch["targets"] != UNMASKED
    for row, length in enumerate(min(length, 50) for length in lengths):
        assert hidden[row, length:].sum() == 0
        assert hidden[row].sum() == (0 if length == 0 else max(1, round(share * length)))
    assert torch.equal(batch["targets"][hidden], plain["tokens"][hidden]), "targets are the hidden ids"
    assert (batch["tokens"][hidden] == MASK).all()
    assert torch.equal(batch["tokens"][~hidden], plain["tokens"][~hidden])
    assert torch.equal(batch["lengths"], plain["lengths"])
    assert batch.padded == {"tokens", "targets"}


def test_a_mask_is_a_function_of_seed_and_row_alone():
    whole = masked(LONG, range(8), range(8))
    for ids in ([3], [5, 1], [7, 6, 0], [4, 3, 2, 1]):
        part = masked(LONG, ids, ids)
        width = part["tokens"].shape[1]
        assert torch.equal(part["tokens"], whole["tokens"][ids, :width])
        assert torch.equal(part["targets"], whole["targets"][ids, :width])
        assert torch.equal(whole.select(ids)["targets"], part["targets"])
    moved = masked(LONG, [3], [4])
    assert not torch.equal(moved["targets"], masked(LONG, [3], [3])["targets"]), "another row, another mask"
    other = masked(LONG, range(8), range(8), seed=6)
    assert not torch.equal(other["targets"], whole["targets"])


def test_masks_favour_no_place():
    counts = torch.zeros(20)
    for seed in range(400):
        counts += (masked(LONG, [1], [0], seed)["targets"] != UNMASKED)[0]
    # 6 of 20 places, 400 times: 120 each, with a standard deviation of 9
    assert counts.sum() == 2400
    assert (counts - 120).abs().max() < 45


def numbered(share: float, **options) -> list[list[Batch | None]]:
    order = Order(8, 3, 1, lengths=LONG.lengths, window=2)
    workers, shard = options.get("workers", 0), options.get("shard", (0, 1))
    return list(updates(Updates(LONG, Masking(share, MASK), order, 11, shard), options.get("start", 0), 9, workers))


def test_updates_and_epochs_mask_differently_and_workers_and_processes_alike():
    alone = numbered(0.3)
    masks: dict[int | str, set[tuple[int, ...]]] = {}
    for [batch] in alone:
        assert batch is not None
        for name, row in zip(batch.ids, batch["targets"], strict=True):
            masks.setdefault(name, set()).add(tuple((row != UNMASKED).nonzero().flatten().tolist()))
    assert all(len(masks[name]) == 3 for name in (1, 3, 5, 7)), "three epochs, three masks"
    for found in (numbered(0.3, workers=2), [*alone[:4], *numbered(0.3, start=4)]):
        for [one], [other] in zip(alone, found, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one["tokens"], other["tokens"])
            assert torch.equal(one["targets"], other["targets"])
    shards = [numbered(0.3, shard=(rank, 2)) for rank in range(2)]
    for update, [whole] in enumerate(alone):
        assert whole is not None
        for rank in range(2):
            [part] = shards[rank][update]
            rows = list(range(rank, len(whole), 2))
            if not rows:
                assert part is None
                continue
            assert part is not None
            assert torch.equal(part["targets"], whole.select(rows)["targets"])
            assert part.rows.tolist() == rows


@pytest.mark.parametrize("task", ["listops", "retrieval"])
@pytest.mark.parametrize("objective", ["classification", "denoising"])
def test_the_batch_that_memory_is_measured_with_is_like_those_of_training(objective, task):
    config, _ = RECIPE.decide(SMALL.model_copy(update={"objective": objective, "task": task}))
    sample = RECIPE.parts(config).sample(2, 7)
    examples = PAIRS if task == "retrieval" else SINGLES
    real = drawn(SequenceSource(examples, 10))
    if objective == "denoising":
        real = drawn(SingleSource(examples, 10), Masking(0.15, MASK))
    assert sample.tensors.keys() == real.tensors.keys()
    assert sample.padded == real.padded
    assert sample["tokens"].shape == (2, 7)
    assert RECIPE.parts(config).sample(3, None)["tokens"].shape == (3, 12)
