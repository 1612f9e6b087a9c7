"""Compressed contexts as they are kept, put together and saved."""

from __future__ import annotations

import struct

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from compression_toys import batch, compressor, rows_of
from quincunx.errors import DataError, RunError, UsageError
from quincunx.recipes.compression.answers.generate import generate
from quincunx.recipes.compression.answers.saved import load_compressed, save_compressed
from quincunx.recipes.compression.model.compressed import Compressed

READOUTS = ["kv", "tokens", "mean_pool"]


def made(readout: str = "kv", **options):
    model = compressor("gpt2", readout=readout, **options).eval()
    with torch.no_grad():
        return model, model.compress(batch())


def tensors(compressed: Compressed) -> list[torch.Tensor]:
    inner = [compressed.embeddings] if compressed.layers is None else [t for pair in compressed.layers for t in pair]
    return [compressed.positions, compressed.seen, compressed.following, *inner]


def assert_equal(found: Compressed, expected: Compressed) -> None:
    for one, other in zip(tensors(found), tensors(expected), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert float((one.double() - other.double()).abs().max()) < 1e-10


@pytest.mark.parametrize("readout", READOUTS)
def test_rows_are_selected_and_put_together(readout):
    model, whole = made(readout)
    assert len(whole) == 3
    assert_equal(whole.select([2, 0]), Compressed.concat([whole.select([2]), whole.select([0])]))
    with torch.no_grad():
        alone = [model.compress(rows_of(batch(), row)) for row in range(3)]
    assert_equal(Compressed.concat(alone), whole)


@pytest.mark.parametrize("readout", READOUTS)
def test_shorter_contexts_are_filled_up_and_the_filling_is_not_seen(readout):
    model, whole = made(readout)
    with torch.no_grad():
        short = model.compress(batch(slots=2))
    both = Compressed.concat([whole, short])
    assert both.seen.tolist()[3:] == [[True, True, False]] * 3
    found = generate(model, both, most=5).tokens
    assert torch.equal(found, torch.cat([generate(model, each, most=5).tokens for each in (whole, short)]))


def test_contexts_side_by_side_are_seen_as_one():
    model = compressor("gpt2", segments=2, join="concatenate").eval()
    with torch.no_grad():
        whole = batch(segments=2)
        both = model.compress(whole)
        halves = []
        for part in range(2):
            own = whole["context_segment"] == part
            slots = whole["slot_positions"][:, 3 * part : 3 * part + 3]
            one = {**whole, "context_seen": whole["context_seen"] & own, "slot_positions": slots}
            halves.append(model.compress(one, segments=1))
    assert_equal(Compressed.join(halves), both)
    with pytest.raises(UsageError, match=r"as many rows, found \[3, 1\]"):
        Compressed.join([both, both.select([0])])


def test_what_is_kept_is_as_large_as_its_numbers():
    _, kept = made()
    assert kept.bytes == 2 * 2 * 3 * 2 * 3 * 8 * 8  # layers, keys and values, rows, heads, slots, head width, bytes
    model, embedded = made("tokens")
    assert embedded.bytes == 3 * 3 * 16 * 8
    assert model.read(batch()).bytes == 2 * 2 * 3 * 2 * 6 * 8 * 8


def test_history_is_left_behind_when_asked():
    model = compressor("gpt2")
    found = model.compress(batch())
    assert found.layers[1][0].requires_grad and not found.detach().layers[1][0].requires_grad


def test_what_follows_is_counted_on_or_as_drawn():
    model, counted = made()
    assert counted.following.tolist() == [[8], [6], [9]]  # context 5, 3, 6 and three slots
    assert counted.following_positions(3).tolist() == [[8, 9, 10], [6, 7, 8], [9, 10, 11]]
    drawn = model.compress(batch(), following=torch.tensor([[20, 25, 31]] * 3))
    assert drawn.following_positions(2).tolist() == [[20, 25]] * 3
    with pytest.raises(UsageError, match="drawn for 3 tokens after the context, 4 are asked for"):
        drawn.following_positions(4)
    restarted = compressor("gpt2", readout="tokens").compress(batch(style="restart"))
    assert restarted.following.tolist() == [[3]] * 3


def test_different_kinds_do_not_mix():
    with pytest.raises(UsageError, match="different models or read-outs"):
        Compressed.concat([made("kv")[1], made("tokens")[1]])
    with pytest.raises(UsageError, match="no compressed context"):
        Compressed.concat([])
    with pytest.raises(ValueError, match="either keys and values, or embeddings"):
        Compressed(torch.zeros(1, 1), torch.ones(1, 1).bool(), torch.zeros(1, 1))


@pytest.mark.parametrize("readout", READOUTS)
def test_saved_and_loaded_they_are_the_same(tmp_path, readout):
    model, kept = made(readout)
    save_compressed(tmp_path / "there" / "kept.safetensors", kept, "abc")
    again = load_compressed(tmp_path / "there" / "kept.safetensors", "abc")
    assert all(torch.equal(one, other) for one, other in zip(tensors(again), tensors(kept), strict=True))
    assert torch.equal(generate(model, again, most=4).tokens, generate(model, kept, most=4).tokens)


def test_another_models_contexts_are_refused_with_both_fingerprints(tmp_path):
    save_compressed(tmp_path / "kept", made()[1], "first-model")
    with pytest.raises(RunError, match="by the model first-model, this is second-model"):
        load_compressed(tmp_path / "kept", "second-model")


def test_damaged_and_foreign_files_are_named(tmp_path):
    from safetensors.torch import save

    path = tmp_path / "kept"
    with pytest.raises(DataError, match=r"cannot read the compressed contexts in .*kept"):
        load_compressed(path, "a")
    save_compressed(path, made()[1], "a")
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:-9], struct.pack("<Q", 3) + b"nojson"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="no whole file of compressed contexts"):
            load_compressed(path, "a")
    path.write_bytes(save({"seen": torch.zeros(1)}))
    with pytest.raises(DataError, match="no compressed contexts of the form"):
        load_compressed(path, "a")
    path.write_bytes(save({"seen": torch.zeros(1)}, {"form": "quincunx-compressed-1", "fingerprint": "a"}))
    with pytest.raises(DataError, match="lacks 'positions'"):
        load_compressed(path, "a")
