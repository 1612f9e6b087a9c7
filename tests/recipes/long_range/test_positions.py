"""Sampled positions: drawn with the batch, by row, and what the model makes of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from quincunx import evaluate, train
from quincunx.data.batch import Batch
from quincunx.nn.positions import Positions, sinusoids
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.model import LongRangeClassifier, LongRangeDenoiser
from quincunx.recipes.long_range.objective import classify
from quincunx.recipes.long_range.recipe import RECIPE, collate_of
from quincunx.recipes.long_range.source import Masking, Numbering, SequenceSource, collate
from quincunx.seeds import address
from reference import positions as plain
from runner import tiny

LENGTHS = (5, 2, 9, 0)
SMALL: dict[str, Any] = {
    "embedding_dim": 12,
    "hidden_dim": 20,
    "head_dim": 4,
    "num_heads": 2,
    "max_seq_len": 10,
    "position_sampling": "integer",
}


def decided(**settings: Any) -> LongRangeConfig:
    encoder = SMALL | settings.pop("encoder", {})
    return RECIPE.decide(LongRangeConfig.model_validate({"encoder": encoder, **settings}))[0]


def examples(parts: int = 1) -> Examples:
    draw = np.random.default_rng(4)
    texts = [draw.integers(0, 16, length).astype(np.uint8).tobytes() for length in LENGTHS]
    return Examples.of(texts, [0] * (len(LENGTHS) // parts), parts=parts)


def batch_of(form: Any, rows: list[int], seed: int = 3, parts: int = 1) -> Batch:
    source = SequenceSource(examples(parts), 10)
    return form([source[row] for row in rows], rows, rows, seed)


def test_every_row_has_the_draw_of_its_address_whatever_stands_beside_it():
    form = Numbering(collate, 30, continuous=False)
    whole = batch_of(form, [0, 1, 2, 3])
    for row, length in enumerate(LENGTHS):
        wanted = plain.sample(length, 30, address(3, "positions", row))
        assert whole["positions"][row, :length].tolist() == wanted
    few = batch_of(form, [1, 0])
    assert torch.equal(few["positions"], whole["positions"][[1, 0], :5])
    assert torch.equal(whole.select([1, 0])["positions"], few["positions"])
    assert not torch.equal(batch_of(form, [0, 1, 2, 3], seed=4)["positions"], whole["positions"])


def test_the_sides_of_a_pair_are_numbered_apart():
    found = batch_of(Numbering(collate, 30, continuous=True), [0, 1], parts=2)
    assert found["positions"].dtype == torch.float32
    for row in range(2):
        for place, side in enumerate(("", "second_")):
            length = LENGTHS[2 * row + place]
            wanted = plain.sample_reals(length, 30, address(3, f"{side}positions", row))
            assert found[f"{side}positions"][row, :length].tolist() == pytest.approx(wanted, rel=1e-6)
    assert {"positions", "second_positions"} <= found.padded


def test_evaluation_numbers_as_it_is_asked_to():
    built = {}
    for how in ("random", "even", "prefix"):
        config = decided(encoder={"position_evaluation": how, "position_range": 19})
        evaluator = collate_of(config, evaluation=True)
        built[how] = batch_of(evaluator, [0, 1])["positions"].tolist()
    assert built["even"] == [[2, 5, 9, 12, 15], [5, 12, 12, 12, 12]]
    assert built["prefix"] == [[0, 1, 2, 3, 4], [0, 1, 1, 1, 1]]
    assert built["random"][0] == plain.sample(5, 19, address(3, "positions", 0))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("positions", ["learned", "fixed", "random"])
@pytest.mark.parametrize("sampling", ["integer", "float"])
def test_tokens_get_the_vectors_of_their_numbers(positions, sampling, pooling):
    config = decided(encoder={"positions": positions, "pooling": pooling, "position_sampling": sampling})
    torch.manual_seed(0)
    model = LongRangeClassifier(config).double().eval()
    assert len(model.positions.table) == 30 + (pooling == "cls")
    batch = batch_of(Numbering(collate, 30, continuous=sampling == "float"), [0, 1, 2])
    found = classify(model, batch).detach()
    # the same model, counting, with each row's vectors as the first rows of its table
    counting = decided(encoder={"positions": "fixed", "pooling": pooling, "position_sampling": "none"})
    other = LongRangeClassifier(counting).double().eval()
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k != "positions.table"})
    assert isinstance(other.positions, Positions)
    first = pooling == "cls"
    for row in range(3):
        length = LENGTHS[row]
        numbers = batch["positions"][row, :length].double() + first
        if positions == "fixed":
            angles = torch.stack([_sinusoid(float(number), 12) for number in numbers])
        else:
            below = numbers.floor().long()
            share = (numbers - below)[:, None]
            table = model.positions.table.detach()
            angles = (1 - share) * table[below] + share * table[(below + 1).clamp(max=len(table) - 1)]
        with torch.no_grad():
            other.positions.table[first : first + length] = angles
            if first:
                other.positions.table[0] = model.positions.table[0]
            alone = other(batch["tokens"][row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(found[row], alone[0], rtol=0, atol=1e-5)


def _sinusoid(number: float, width: int) -> torch.Tensor:
    below = int(number)
    # by the theorem of addition, from the row below: sin(a + b) = sin a cos b + cos a sin b
    row = sinusoids(below + 1, width)[below]
    rest = (number - below) / 10000 ** (torch.arange(0, width, 2) / width).double()
    sines = row[0::2] * rest.cos() + row[1::2] * rest.sin()
    cosines = row[1::2] * rest.cos() - row[0::2] * rest.sin()
    return torch.stack([sines, cosines], dim=1).flatten()


def test_pairs_and_denoisers_are_given_their_numbers():
    torch.manual_seed(0)
    pairs = LongRangeClassifier(decided(task="retrieval")).eval()
    numbered = batch_of(Numbering(collate, 30, continuous=False), [0, 1], parts=2)
    counted = batch_of(collate, [0, 1], parts=2)
    with torch.no_grad():
        assert float((classify(pairs, numbered) - classify(pairs, counted)).abs().max()) > 1e-4

    denoiser = LongRangeDenoiser(decided(objective="denoising")).eval()
    form = Numbering(Masking(0.4, 17), 30, continuous=False)
    batch = batch_of(form, [0, 1, 2])
    assert {"positions", "targets"} <= batch.padded
    chosen = batch["targets"] != -100
    inputs = (batch["tokens"], batch["lengths"], chosen)
    with torch.no_grad():
        assert float((denoiser(*inputs, batch["positions"]) - denoiser(*inputs)).abs().max()) > 1e-4
    moved = batch["positions"].clone()
    moved[:, -1] = 29  # the first two rows have padding there
    short = chosen.clone()
    short[2] = False
    torch.testing.assert_close(
        denoiser(*inputs[:2], short, batch["positions"]), denoiser(*inputs[:2], short, moved), rtol=0, atol=1e-6
    )


def test_counting_is_as_it_was():
    config = decided(encoder={"position_sampling": "none"})
    assert config.encoder.position_range is None
    assert isinstance(LongRangeClassifier(config).positions, Positions)
    assert "positions" not in batch_of(collate_of(config, evaluation=True), [0, 1]).tensors
    noise = LongRangeClassifier(decided(encoder={"position_sampling": "none", "positions": "random"})).eval()
    batch = batch_of(collate, [0, 1])
    places = torch.arange(5).expand(2, 5)
    counted = noise(batch["tokens"], batch["lengths"])
    assert torch.equal(noise(batch["tokens"], batch["lengths"], positions=places), counted)


def test_the_range_is_three_times_the_longest_sequence_unless_it_is_given():
    assert decided().encoder.position_range == 30
    assert decided(encoder={"position_range": 12}).encoder.position_range == 12


def test_a_run_trains_and_evaluates_the_same_twice(tmp_path, data_cache, monkeypatch):
    monkeypatch.setenv("QUINCUNX_CACHE", str(data_cache))
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")
    changes = {
        "encoder.position_sampling": "float",
        "encoder.positions": "fixed",
        "budget.epochs": 1,
        "run.dir": str(tmp_path / "r"),
    }
    run = train(tiny(changes))
    assert json.loads((run.path / "summary.json").read_text())
    first, second = (evaluate(run.path) for _ in range(2))
    assert first == second
