"""Vision models of the transformers library: their patches as rows, other sizes, folders that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.vision import build_encoder
from quincunx.recipes.vision_language.model.vision.encoder import ImageEncoder, Origin
from quincunx.recipes.vision_language.model.vision.library import built, clip_vit, load_library
from quincunx.tuners.sites import find_sites

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
STAGES: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "clip": ("CLIPVision", SIZES | {"projection_dim": 12}, 1),
    "siglip": ("SiglipVision", SIZES, 0),
    "dinov2": ("Dinov2", SIZES, 1),
    "registers": ("Dinov2WithRegisters", SIZES | {"num_register_tokens": 3}, 4),
    "vit": ("ViT", SIZES, 1),
    "deit": ("DeiT", SIZES, 2),
    "resnet": ("ResNet", STAGES, 0),
}
"""Kind -> beginning of its classes' names, sizes, and how many of its tokens are no patches."""
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Return a function that gives the folder of a small model of a kind, and the model."""
    import transformers

    made: dict[str, tuple[Path, Any]] = {}

    def give(kind: str) -> tuple[Path, Any]:
        if kind not in made:
            name, sizes, _ = KINDS[kind]
            config = getattr(transformers, f"{name}Config")(**sizes)
            maker: Any = getattr(transformers, f"{name}Model")
            if kind == "clip":
                maker = transformers.CLIPVisionModelWithProjection
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = maker(config).eval()
                for parameter in model.parameters():
                    parameter.data += 0.1 * torch.randn_like(parameter)
            folder = tmp_path_factory.mktemp(kind)
            model.save_pretrained(folder)
            made[kind] = folder, model
        return made[kind]

    return give


Folder = Callable[[str], tuple[Path, Any]]


def expected_cells(kind: str, model: Any, pixels: Tensor) -> Tensor:
    states = getattr(model, "vision_model", model)(pixel_values=pixels).last_hidden_state
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states[:, KINDS[kind][2] :]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_rows_are_the_patches_alone(folder_of: Folder, kind: str) -> None:
    folder, model = folder_of(kind)
    encoder = load_library(folder, (32, 32)).eval()
    rows = encoder(PIXELS)
    expected = expected_cells(kind, model, PIXELS)
    assert rows.shape == (2, encoder.rows, encoder.width) == expected.shape
    assert encoder.rows == 16
    torch.testing.assert_close(rows, expected)
    grid = load_library(folder, (32, 32), grid=2).eval()(PIXELS)
    square = expected.transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(grid[:, 1], square[:, :, :2, 2:].amax((2, 3)))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_pooled_rows_are_the_models_own(folder_of: Folder, kind: str) -> None:
    folder, model = folder_of(kind)
    encoder = load_library(folder, (32, 32), pooled=True).eval()
    found = model(pixel_values=PIXELS)
    expected = found.image_embeds if kind == "clip" else found.pooler_output.flatten(1)
    torch.testing.assert_close(encoder(PIXELS), expected[:, None])
    assert (encoder.rows, encoder.width) == (1, 12 if kind == "clip" else 16)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "resnet"])
@torch.no_grad()
def test_other_sizes_are_taken_where_the_model_can(folder_of: Folder, kind: str) -> None:
    folder, model = folder_of(kind)
    encoder = load_library(folder, (48, 64)).eval()
    pixels = torch.nn.functional.interpolate(PIXELS, (48, 64))
    assert encoder(pixels).shape == (2, 48, 16) and encoder.grid_size == (6, 8)
    inner = getattr(model, "vision_model", model)
    options = {} if kind in ("dinov2", "registers") else {"interpolate_pos_encoding": True}
    expected = inner(pixel_values=pixels, **options).last_hidden_state[:, KINDS[kind][2] :]
    torch.testing.assert_close(encoder(pixels), expected)
    with pytest.raises(UsageError, match="patches of 8 pixels"):
        load_library(folder, (44, 64))


def test_a_resnet_takes_any_size(folder_of: Folder) -> None:
    encoder = load_library(folder_of("resnet")[0], (44, 64)).eval()
    assert encoder(torch.zeros(1, 3, 44, 64)).shape == (1, encoder.rows, 16)


@torch.no_grad()
def test_of_a_model_of_pictures_and_texts_the_part_that_sees_is_taken(tmp_path: Path) -> None:
    import transformers

    text = {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}
    for kind, config in (("CLIP", transformers.CLIPConfig), ("Siglip", transformers.SiglipConfig)):
        given: dict[str, Any] = {"projection_dim": 12} if kind == "CLIP" else {}
        made: Any = config(text_config=text | {"vocab_size": 50}, vision_config=SIZES | given, **given)
        model: Any = getattr(transformers, f"{kind}Model")(made).eval()
        model.save_pretrained(tmp_path / kind)
        encoder = build_encoder(str(tmp_path / kind), (32, 32))
        torch.testing.assert_close(encoder(PIXELS), model.vision_model(PIXELS).last_hidden_state[:, -16:])
        pooled = build_encoder(str(tmp_path / kind), (32, 32), pooled=True)
        found = model.get_image_features(PIXELS)
        torch.testing.assert_close(pooled(PIXELS)[:, 0], getattr(found, "pooler_output", found))
        assert not any("text" in name for name, _ in encoder.named_parameters())


def test_encoders_are_frozen_and_named(folder_of: Folder) -> None:
    folder, _ = folder_of("clip")
    encoder = build_encoder(str(folder), (32, 32))
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.train().training
    assert encoder.described() == {
        "encoder": "clip_vision_model", "weights": str(folder), "size": "32x32", "rows": "4x4",
    }  # fmt: skip
    assert build_encoder("ViT", (32, 32), weights=folder).key() == encoder.key()
    assert not encoder.origin.notes


def test_colours_are_those_of_the_folder(folder_of: Folder, tmp_path: Path) -> None:
    folder, model = folder_of("siglip")
    assert load_library(folder, (32, 32)).origin.mean[0] == pytest.approx(0.48145466)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5, 0.4, 0.3]})
    )
    found = load_library(tmp_path, (32, 32)).origin
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (0.5, 0.4, 0.3))
    for content in ('{"image_mean": [1, 2]}', '{"image_mean": "grey"}', "[]", "{"):
        (tmp_path / "preprocessor_config.json").write_text(content)
        with pytest.raises(UsageError, match=r"preprocessor_config\.json"):
            load_library(tmp_path, (32, 32))


def test_a_form_alone_gives_random_weights(folder_of: Folder, tmp_path: Path) -> None:
    folder, _ = folder_of("vit")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    keys: list[str] = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        encoder = build_encoder(str(tmp_path), (32, 32), fresh=True)
        keys.append(encoder.key())
    assert keys[0] == keys[1] != keys[2]
    assert encoder.origin.notes and encoder.described()["weights"] == "random"
    with pytest.raises(UsageError, match="no safetensors file"):
        build_encoder(str(tmp_path), (32, 32))


def test_the_word_vit_is_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        for pooled, width, rows in ((False, 768, 49), (True, 512, 1)):
            encoder: ImageEncoder = clip_vit((224, 224), pooled=pooled)
            assert (encoder.width, encoder.rows) == (width, rows)
        # ViT-B/32 of CLIP has 87,849,216 parameters with its projection (393,216)
        assert sum(each.numel() for each in encoder.parameters()) == 87_849_216
    assert encoder.origin.notes == ("The weights of ViT are random: no folder of them was named.",)


@pytest.mark.parametrize("kind", KINDS)
def test_tuners_find_their_sites(folder_of: Folder, kind: str) -> None:
    encoder = load_library(folder_of(kind)[0], (32, 32))
    assert encoder.attends == (kind != "resnet")
    if encoder.attends:
        assert len(find_sites(encoder, ["attention", "feedforward"])) == 4


def test_folders_that_do_not_fit_are_refused(folder_of: Folder, tmp_path: Path) -> None:
    import transformers

    with pytest.raises(UsageError, match=r"no config\.json: expected a folder of a transformers model that sees"):
        build_encoder(str(tmp_path), (32, 32))
    bert = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9
    )
    transformers.BertModel(bert).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"\(bert\) reads no pictures"):
        build_encoder(str(tmp_path), (32, 32))
    with pytest.raises(UsageError, match="no folder of a pretrained"):
        build_encoder(str(tmp_path / "a" / "b"), (32, 32))
    _, model = folder_of("clip")
    plain = tmp_path / "plain"
    model.vision_model.save_pretrained(plain)
    assert build_encoder(str(plain), (32, 32)).width == 16
    with pytest.raises(UsageError, match=r"lack 1 .*visual_projection"):
        build_encoder(str(plain), (32, 32), pooled=True)
    with pytest.raises(UsageError, match="pools nothing"):
        encoder = built(
            transformers.SiglipVisionConfig(**SIZES, vision_use_head=False), Origin("x"), (32, 32), pooled=True
        )
        encoder(PIXELS)
