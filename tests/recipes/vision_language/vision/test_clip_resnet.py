"""CLIP's ResNets: equal to their formulas, of the published sizes, and open to convolution adapters in every block."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.vision.clip_resnet import SIZES, ClipResNet, ResNet, Sizes
from quincunx.recipes.vision_language.model.vision.encoder import Origin
from quincunx.tuners.adapter import inject
from quincunx.tuners.convolution.config import ConvolutionConfig
from quincunx.tuners.convolution.model import place, residual_blocks
from quincunx.tuners.trainable import freeze_batch_norm_statistics, part_of, select
from reference import clip_resnet as reference

SMALL = Sizes((2, 1, 2, 1), 8, 12, 64)
"""8 channels at the start, 256 in the grid, 4 heads."""
ORIGIN = Origin("small")
EVERYWHERE = "front/middle/back/transition"


def made(sizes: Sizes = SMALL, size: tuple[int, int] = (64, 64), **options: Any) -> ClipResNet:
    """A network in eval mode whose norms are not those of a new one."""
    torch.manual_seed(0)
    encoder = ClipResNet(ORIGIN, sizes, size, **options)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # pyright: ignore[reportArgumentType]
    return encoder.eval()


def pictures(size: tuple[int, int] = (64, 64), count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_grid_and_pooled_row_are_those_of_the_formulas(size: tuple[int, int]) -> None:
    encoder = made(size=size, pooled=True).double()
    pixels = pictures(size).double()
    state = encoder.visual.state_dict()
    cells = reference.grid(pixels, state, SMALL.layers)
    assert cells.shape == (2, 256, size[0] // 32, size[1] // 32) and cells.std() > 0.1
    torch.testing.assert_close(encoder.visual(pixels), cells, rtol=1e-9, atol=1e-9)
    pooled = reference.pooled(cells, state, SMALL.heads)
    torch.testing.assert_close(encoder(pixels), pooled[:, None], rtol=1e-9, atol=1e-9)
    assert encoder.rows == 1 and encoder.width == 12
    assert (pooled[0] - pooled[1]).abs().max() > 0.1  # it does depend on the picture


def test_rows_are_the_cells_row_by_row() -> None:
    encoder, pixels = made(size=(64, 96)), pictures((64, 96))
    cells = encoder.visual(pixels)
    rows = encoder(pixels)
    assert rows.shape == (2, 6, 256) and (encoder.rows, encoder.width, encoder.grid_size) == (6, 256, (2, 3))
    assert torch.equal(rows[1, 4], cells[1, :, 1, 1]) and torch.equal(rows[0, 2], cells[0, :, 0, 2])
    assert encoder.visual.attnpool is None


def test_a_grid_becomes_smaller_by_the_maximum_over_neighbours() -> None:
    plain, pixels = made(size=(224, 224)), pictures((224, 224), 1)
    six = made(size=(224, 224), grid=6)
    six.load_state_dict(plain.state_dict())
    cells = plain.cells(pixels)[0]
    rows = six(pixels)
    assert rows.shape == (1, 36, 256) and six.rows == 36
    # of 7 cells, the n-th of 6 covers floor(7 n / 6) to ceil(7 (n + 1) / 6)
    for row, column in ((0, 0), (5, 5), (2, 4)):
        seen = cells[:, row * 7 // 6 : -(-(row + 1) * 7 // 6), column * 7 // 6 : -(-(column + 1) * 7 // 6)]
        assert torch.equal(rows[0, row * 6 + column], seen.amax((1, 2)))


@pytest.mark.parametrize(("word", "expected"), [("RN50", 38_316_896), ("RN101", 56_259_936), ("RN50x4", 87_137_080)])
def test_published_networks_have_their_parameters(word: str, expected: int) -> None:
    sizes = SIZES[word]
    cells = (sizes.side // 32) ** 2
    with torch.device("meta"):
        encoder = ClipResNet(ORIGIN, sizes, (sizes.side, sizes.side), pooled=True)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert count == reference.parameters(sizes.layers, sizes.stem, sizes.pooled, cells) == expected
    assert len(residual_blocks(encoder)) == sum(sizes.layers)


@pytest.mark.parametrize(
    ("word", "width", "pooled", "heads"),
    [("RN50", 2048, 1024, 32), ("RN101", 2048, 512, 32), ("RN50x4", 2560, 640, 40)],
)
def test_published_networks_have_their_widths(word: str, width: int, pooled: int, heads: int) -> None:
    assert (SIZES[word].width, SIZES[word].pooled, SIZES[word].heads) == (width, pooled, heads)
    with torch.device("meta"):
        for pools, expected in ((False, (2, 49, width)), (True, (2, 1, pooled))):
            encoder = ClipResNet(ORIGIN, SIZES[word], (224, 224), pooled=pools)
            assert encoder(torch.empty(2, 3, 224, 224)).shape == expected == (2, encoder.rows, encoder.width)


@pytest.mark.parametrize("shape", ["bottleneck", "basic"])
@pytest.mark.parametrize("remove_batch_norm", [False, True])
def test_convolution_adapters_stand_in_every_block_and_begin_as_nothing(shape: str, remove_batch_norm: bool) -> None:
    encoder = made(pooled=True)
    encoder.freeze()
    pixels, plain = pictures(), copy.deepcopy(encoder)
    placement = place(
        encoder, ConvolutionConfig(adapter_type=f"{EVERYWHERE}-{shape}", remove_batch_norm=remove_batch_norm)
    )
    blocks = [f"visual.layer{stage}.{number}" for stage in range(1, 5) for number in range(SMALL.layers[stage - 1])]
    assert [block.path for block in residual_blocks(encoder)] == blocks
    where = ["", *(f".{'conv' if remove_batch_norm else 'bn'}{number}" for number in (1, 2, 3))]
    assert {block + each for block in blocks for each in where} <= {*placement.adapters}
    for path, adapter in placement.adapters.items():
        norms = [module for module in adapter.modules() if isinstance(module, nn.BatchNorm2d)]
        assert bool(norms) != (remove_batch_norm or (path[-5:-1] == "conv")), path
    inject(encoder, placement)
    encoder.eval()
    assert torch.equal(encoder(pixels), plain(pixels))
    encoder.train()
    assert encoder.training  # adapters are trained, so it follows
    held = freeze_batch_norm_statistics(encoder)
    assert len(held.frozen) == 3 + 3 * len(blocks) + 4
    found = encoder(pixels)
    torch.testing.assert_close(found, plain(pixels))
    found.square().sum().backward()
    moved = [
        path
        for path, adapter in placement.adapters.items()
        if any(p.grad is not None and p.grad.any() for p in adapter.parameters())
    ]
    assert len(moved) == 4 * len(blocks)
    assert all(p.grad is None for name, p in encoder.named_parameters() if "quincunx_" not in name)


def test_an_encoder_of_which_nothing_is_trained_stays_as_it_is() -> None:
    encoder, pixels = made(), pictures()
    encoder.freeze()
    before = copy.deepcopy(encoder.state_dict())
    expected = encoder(pixels)
    assert torch.equal(encoder.train()(pixels), expected) and not encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    encoder.visual.layer4.requires_grad_(True)
    assert encoder.train().training
    encoder(pixels)
    assert not torch.equal(encoder.visual.bn1.running_mean, before["visual.bn1.running_mean"])


def test_tuners_know_its_parts() -> None:
    model = nn.Module()
    model.vision_tower = made(pooled=True)
    assert part_of(model, "vision_tower.visual.layer1.0.conv1") == "vision"
    assert len(select(model, ["vision"]).names) == len([*model.parameters()])
    last = select(model, ["vision_last_layer"]).names
    assert last and all(".layer4." in name for name in last)
    assert select(model, ["batch_norms"]).names


def test_keys_tell_encoders_apart() -> None:
    keys = {
        made().key(), made(size=(32, 32)).key(), made(pooled=True).key(), made(grid=1).key(),
        ClipResNet(ORIGIN, SMALL, (64, 64)).key(),
        ClipResNet(Origin("small", mean=(0, 0, 0)), SMALL, (64, 64)).key(),
    }  # fmt: skip
    assert len(keys) == 6
    assert made().key() == made().key()
    assert made().described() == {"encoder": "small", "weights": "random", "size": "64x64", "rows": "2x2"}


def test_misuse_is_refused() -> None:
    for size in ((64, 50), (0, 64), (16, 16)):
        with pytest.raises(UsageError, match="multiples of 32"):
            ResNet(SMALL, size, pooled=False)
    with pytest.raises(UsageError, match="pooled row has no grid"):
        made(pooled=True, grid=2)
    for cells in (0, 3):
        with pytest.raises(
            UsageError, match=rf"2 by 2 cells .* at least one cell and not more than that; found {cells}"
        ):
            made(grid=cells)
    with pytest.raises(UsageError, match=r"made for pixels \[3, 64, 64\], found \[3, 32, 64\]"):
        made()(torch.zeros(1, 3, 32, 64))
