"""Which positions of a pass count: what modules on the way to it are handed, and what is not known."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.pretrained.packed import Packing
from quincunx.tuners.positions import Positions, Teller, packed_rows
from tiny_models import MODELS, inputs_for


class Inside(nn.Module):
    """A module that asks, as an adapter would, and gives what it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.ask: Any = None
        self.answers: list[Tensor | Packing | None] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.ask is not None:
            self.answers.append(self.ask(tuple(x.shape[:2])))
        return x


class Block(nn.Module):
    """Is told what is valid, as blocks of this package are."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inside()

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        return self.inner(x)


class Whole(Teller):
    """Knows what a block is not told."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.plain = Inside()

    def forward(self, x: Tensor, mask: Tensor | None, valid: Tensor | None) -> Tensor:
        with self.telling(mask):
            return self.plain(self.block(x, valid))


X, MASK = torch.ones(2, 4, 3), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])


def asking() -> tuple[Whole, Positions]:
    model = Whole()
    positions = Positions(model)
    for inside in (model.block.inner, model.plain):
        inside.ask = lambda shape: positions.of("there", shape)
    return model, positions


def test_the_nearest_module_that_says_something_counts() -> None:
    model, positions = asking()
    valid = MASK.flip(1)
    positions.begin()
    model(X, MASK, valid)
    assert model.block.inner.answers == [valid] and model.plain.answers == [MASK]
    model(X, MASK, None)  # a block that is told nothing has no padding
    assert model.block.inner.answers[1:] == [None] and model.plain.answers[1] is MASK


def test_a_mask_of_four_dimensions_leaves_it_to_who_speaks_for_all() -> None:
    model, _ = asking()
    pairs = torch.zeros(2, 1, 4, 4)
    model(X, MASK, pairs)
    assert model.block.inner.answers == [MASK]
    with pytest.raises(UsageError, match=r"a mask of shape \[2, 1, 4, 4\], which says who sees whom"):
        model(X, None, pairs)


def test_fewer_positions_are_the_last_ones_of_who_speaks_for_all_alone() -> None:
    model, _ = asking()
    model(X[:, 1:], MASK, torch.zeros(2, 1, 3, 3))
    (found,) = model.block.inner.answers
    assert isinstance(found, Tensor) and torch.equal(found, MASK[:, 1:])
    with pytest.raises(UsageError, match="passed with 2 rows of 3 positions, and the mask round it is for 2 of 4"):
        model(X[:, 1:], None, MASK)
    with pytest.raises(UsageError, match="passed with 1 rows of 4 positions, and the mask round it is for 2 of 4"):
        model(X[:1], MASK, torch.zeros(1, 1, 4, 4))


def test_without_anybody_it_is_not_known() -> None:
    model, positions = asking()
    with pytest.raises(UsageError, match="no module that it is inside is handed a mask"):
        model.plain(X)
    with pytest.raises(UsageError, match="which positions of the adapter there are padding is not known"):
        positions.of("there", (2, 4))


def test_a_pass_that_broke_off_leaves_nothing() -> None:
    model, positions = asking()

    def fail(shape: tuple[int, int]) -> None:
        raise RuntimeError("broken")

    model.block.inner.ask = fail
    with pytest.raises(RuntimeError, match="broken"):
        model(X, MASK, None)
    positions.begin()
    with pytest.raises(UsageError, match="no module"):
        positions.of("there", (2, 4))


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("bart", "model.encoder.layers.0.fc1", "model.decoder.layers.0.fc1"),
        ("t5", "encoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.0.SelfAttention.q"),
    ],
)
def test_encoder_and_decoder_are_told_apart(name: str, first: str, second: str) -> None:
    """Of maps in a decoder some are fed what the encoder gives; here both have texts of five tokens."""
    model: Any = MODELS[name]()
    positions = Positions(model)
    inputs = {key: value[:, :5] for key, value in inputs_for(model).items()}
    inputs["decoder_attention_mask"] = inputs["attention_mask"].flip(0)
    found: dict[str, Any] = {}

    def ask(path: str, encoder: bool) -> None:
        def look(module: nn.Module, args: Any) -> None:
            found[f"{path} {encoder}"] = positions.of(path, (4, 5), encoder=encoder)

        model.get_submodule(path).register_forward_pre_hook(look)

    for path, encoder in ((first, False), (second, False), (second, True)):
        ask(path, encoder)
    model(**inputs)
    assert torch.equal(found[f"{first} False"], inputs["attention_mask"])
    assert torch.equal(found[f"{second} False"], inputs["decoder_attention_mask"])
    assert torch.equal(found[f"{second} True"], inputs["attention_mask"])


def test_pictures_have_no_padding() -> None:
    model: Any = MODELS["clip"]()
    positions = Positions(model)
    found: list[Any] = []
    layer = next(module for path, module in model.named_modules() if path.endswith("layers.0.mlp.fc1"))
    layer.register_forward_pre_hook(lambda module, args: found.append(positions.of("fc1", tuple(args[0].shape[:2]))))
    model(**inputs_for(model))
    assert found == [None]


def test_copies_follow_their_own_passes() -> None:
    model, positions = asking()
    other = copy.deepcopy(model)
    assert other.positions is not None and other.positions is not positions
    other.block.inner.ask = other.plain.ask = None
    with positions.told(MASK):
        other(X, MASK, None)
        assert positions.of("there", (2, 4)) is MASK


@pytest.mark.parametrize("lengths", [[3, 1, 3, 2], [1], [4, 4]])
def test_tokens_of_texts_behind_one_another_are_of_their_texts(lengths: list[int]) -> None:
    packing = Packing.of(torch.tensor(lengths), 4)
    rows, texts = packed_rows(packing, torch.device("cpu"))
    assert texts == len(lengths)
    assert rows.tolist() == [int(place) // 4 for place in packing.places]
