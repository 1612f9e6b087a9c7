"""Weights of CLIP's ResNets: put in place whole, positions scaled and used, and files with code in them never run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.vision import build_encoder, clip_weights
from quincunx.recipes.vision_language.model.vision.clip_resnet import SIZES, ClipResNet, Sizes
from quincunx.recipes.vision_language.model.vision.encoder import Origin

SMALL = Sizes((1, 1, 2, 1), 4, 8, 64)
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def encoder(size: int = 64, *, pooled: bool = True) -> ClipResNet:
    return ClipResNet(Origin("small"), SMALL, (size, size), pooled=pooled).eval()


@pytest.fixture
def source() -> ClipResNet:
    torch.manual_seed(3)
    made = encoder()
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # pyright: ignore[reportArgumentType]
    return made


def named(source: ClipResNet, prefix: str = "visual.") -> dict[str, Tensor]:
    """The weights as they are published, with some of the text encoder's."""
    state = {f"{prefix}{name}": value.clone() for name, value in source.visual.state_dict().items()}
    return {**state, "logit_scale": torch.ones(()), "token_embedding.weight": torch.ones(3, 2)} if prefix else state


@pytest.mark.parametrize("prefix", ["visual.", "", "module.visual."])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("pooled", [True, False])
def test_weights_come_back_whole(tmp_path: Path, source: ClipResNet, prefix: str, suffix: str, pooled: bool) -> None:
    path, state = tmp_path / f"clip.{suffix}", named(source, prefix)
    if suffix == "pt":
        torch.save({"state_dict": state} if prefix else state, path)
    else:
        save_file(state, path)
    found = encoder(pooled=pooled)
    clip_weights.load(found, path)
    expected = source(PIXELS) if pooled else source.cells(PIXELS).flatten(2).transpose(1, 2)
    assert torch.equal(found(PIXELS), expected)
    assert (expected[0] - expected[1]).abs().max() > 0.05  # it does depend on the picture


def test_half_precision_becomes_single(tmp_path: Path, source: ClipResNet) -> None:
    save_file(
        {name: each.half() if each.is_floating_point() else each for name, each in named(source).items()},
        tmp_path / "a.safetensors",
    )
    found = encoder()
    clip_weights.load(found, tmp_path / "a.safetensors")
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    torch.testing.assert_close(found(PIXELS), source(PIXELS), rtol=2e-2, atol=2e-2)


def test_positions_are_scaled_and_in_place(tmp_path: Path, source: ClipResNet) -> None:
    save_file(named(source), tmp_path / "a.safetensors")
    found = encoder(128)
    clip_weights.load(found, tmp_path / "a.safetensors")
    attention = found.visual.attnpool
    assert attention is not None and source.visual.attnpool is not None
    positions, own = attention.positional_embedding, source.visual.attnpool.positional_embedding
    assert isinstance(positions, nn.Parameter) and positions.shape == (17, 128)
    assert torch.equal(positions[0], own[0])
    torch.testing.assert_close(positions.detach(), clip_weights.resized_positions(own.detach(), (4, 4)))
    pixels = torch.nn.functional.interpolate(PIXELS, 128)
    before = found(pixels)
    with torch.no_grad():
        positions.zero_()  # they are what the forward pass reads
    assert not torch.allclose(found(pixels), before)


def test_scaled_positions_are_those_of_the_formula() -> None:
    positions = torch.randn(1 + 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = clip_weights.resized_positions(positions, (6, 3))
    assert torch.equal(found[0], positions[0])
    square = positions[1:].view(3, 3, 3)

    def weight(distance: float) -> float:
        """Keys's cubic kernel with a = -0.75."""
        x = abs(distance)
        if x <= 1:
            return 1.25 * x**3 - 2.25 * x**2 + 1
        return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    for row in range(6):
        at = (row + 0.5) * 3 / 6 - 0.5
        base = int(np.floor(at))
        for column in range(3):  # its number stays, so that each column is itself
            expected = sum(
                weight(at - each) * square[min(max(each, 0), 2), column] for each in range(base - 1, base + 3)
            )
            torch.testing.assert_close(found[1 + row * 3 + column], expected, rtol=1e-6, atol=1e-6)
    assert clip_weights.resized_positions(positions, (3, 3)) is positions


def test_files_with_code_are_never_run(tmp_path: Path, source: ClipResNet) -> None:
    marker = tmp_path / "was-run"

    class Touch:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    for name, save in (("zip.pt", torch.save), ("plain.pt", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        save({"visual.conv1.weight": Touch()}, tmp_path / name)
        with pytest.raises(UsageError, match=r"no file of tensors alone.*name a safetensors file") as said:
            clip_weights.load(encoder(), tmp_path / name)
        assert "weights_only" not in str(said.value)  # nobody is told how to run what is in it
    assert not marker.exists()


def test_wrong_files_are_named(tmp_path: Path, source: ClipResNet) -> None:
    def refused(state: Any, why: str, name: str = "a.safetensors") -> None:
        path = tmp_path / name
        if isinstance(state, bytes):
            path.write_bytes(state)
        elif name.endswith(".pt"):
            torch.save(state, path)
        else:
            save_file(state, path)
        with pytest.raises(UsageError, match=why):
            clip_weights.load(encoder(), path)

    state = named(source)
    refused({name: each for name, each in state.items() if "layer4.0.bn2" not in name}, r"lacks layer4\.0\.bn2\.weight")
    refused({**state, "visual.layer4.0.conv9.weight": torch.ones(1)}, r"has besides layer4\.0\.conv9\.weight")
    refused({**state, "visual.layer4.0.conv1.weight": torch.ones(2, 2, 1, 1)}, "has in other shapes")
    refused({**state, "visual.layer2.1.conv1.weight": torch.ones(1)}, r"with \(1, 2, 2, 1\) blocks and 4 channels")
    refused({"transformer.weight": torch.ones(1)}, r"has no ResNet of CLIP.*it has transformer\.weight")
    refused({name: each for name, each in state.items() if "c_proj" not in name}, r"lacks attnpool\.c_proj\.weight")
    refused(b"no tensors", "no safetensors file, or was cut short")
    refused(b"no tensors", "no file of tensors alone, or was cut short", "a.pt")
    refused([1, 2], "holds list, expected tensors by name", "a.pt")
    refused({"visual.conv1.weight": 3}, "expected tensors by name", "a.pt")
    with pytest.raises(UsageError, match="there is no file of weights"):
        clip_weights.load(encoder(), tmp_path / "none.pt")
    with pytest.raises(UsageError, match="there is no file of weights"):
        clip_weights.load(encoder(), tmp_path)


def test_a_published_network_of_another_kind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: ClipResNet
) -> None:
    monkeypatch.setattr("quincunx.recipes.vision_language.model.vision.clip_weights.SIZES", {"RN50": SMALL})
    save_file(named(source), tmp_path / "a.safetensors")
    with torch.device("meta"):
        other = ClipResNet(Origin("RN101"), SIZES["RN101"], (64, 64))
    with pytest.raises(UsageError, match="those of RN50, not of RN101"):
        clip_weights.load(other, tmp_path / "a.safetensors")


def test_words_and_weights_make_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: ClipResNet) -> None:
    for module in ("build", "clip_weights"):
        monkeypatch.setattr(f"quincunx.recipes.vision_language.model.vision.{module}.SIZES", {"RN50": SMALL})
    save_file(named(source), tmp_path / "a.safetensors")
    for word in ("RN50", "raw_RN50"):
        found = build_encoder(word, (64, 64), weights=tmp_path / "a.safetensors", pooled=True)
        torch.testing.assert_close(found(PIXELS), source(PIXELS))
        assert not found.origin.notes
        assert not any(parameter.requires_grad for parameter in found.parameters()) and not found.training
        assert found.described()["weights"] == str(tmp_path / "a.safetensors")
    torch.manual_seed(7)
    random = build_encoder("RN50", (64, 64), pooled=True)
    assert random.origin.notes == ("The weights of RN50 are random: no file of them was named.",)
    torch.manual_seed(7)
    assert build_encoder("RN50", (64, 64), pooled=True).key() == random.key()
    with pytest.raises(UsageError, match="did you mean RN50"):
        build_encoder("RN5O", (64, 64))
    with pytest.raises(UsageError, match="leave weights out"):
        build_encoder(str(tmp_path), (64, 64), weights=tmp_path / "a.safetensors")


def test_shapes_alone_need_no_weights() -> None:
    with torch.device("meta"):
        found = build_encoder("raw_RN50", (448, 448), weights="there/is/none.pt", pooled=True)
    assert (found.width, found.rows) == (1024, 1)
    assert {parameter.device.type for parameter in found.parameters()} == {"meta"}
    # 14 by 14 cells in place of 7 by 7
    assert sum(parameter.numel() for parameter in found.parameters()) == 38_316_896 + (196 - 49) * 2048
