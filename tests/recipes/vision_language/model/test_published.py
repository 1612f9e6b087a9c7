"""Weights under their published names: built as the published modules are, they compute the same here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.published import from_published, is_published
from quincunx.recipes.vision_language.model.rows import make_rows
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from tiny_models import MODELS
from vision_language_models import FEATURES, WIDTH, batch, model_of

SWITCHES: list[dict[str, Any]] = [
    {},
    {"connector": "layers", "options": {"further": 2}},
    {"connector": "layers", "options": {"further": 2}, "individual_layer_norm": False},
    {"individual_layer_norm": False},
    {"layer_norm": False, "order_embedding": False},
]


class Published(nn.Module):
    """The visual embedding of the publications by its module names, with their area put right."""

    def __init__(self, backbone: str, words: nn.Embedding, switches: dict[str, Any]) -> None:
        super().__init__()

        def norms(wanted: bool) -> list[nn.Module]:
            own = nn.LayerNorm(WIDTH) if backbone == "bart" else nn.RMSNorm(WIDTH, eps=1e-6)
            return [own] if wanted else []

        layer_norm = switches.get("layer_norm", True)
        single = layer_norm and switches.get("individual_layer_norm", True)
        self.feat_embedding = nn.Sequential(nn.Linear(FEATURES, WIDTH), *norms(single))
        for _ in range(switches.get("options", {}).get("further", 0)):
            self.feat_embedding.extend([nn.Linear(WIDTH, WIDTH), nn.ReLU(), *norms(single)])
        self.absolute_vis_pos_embedding = nn.Sequential(nn.Linear(5, WIDTH), *norms(single))
        self.orders = switches.get("order_embedding", True)
        if self.orders:
            self.obj_order_embedding = words
            self.img_order_embedding = nn.Embedding(2, WIDTH)
        if layer_norm and not single:
            [self.layer_norm] = norms(True)

    def forward(self, features: Tensor, boxes: Tensor, images: Tensor, objects: Tensor) -> Tensor:
        area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        found = self.feat_embedding(features)
        found = found + self.absolute_vis_pos_embedding(torch.cat([boxes, area[..., None]], -1))
        if self.orders:
            found = found + self.img_order_embedding(images) + self.obj_order_embedding(39 - objects)
        return self.layer_norm(found) if hasattr(self, "layer_norm") else found


@pytest.mark.parametrize("backbone", ["bart", "t5"])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_they_compute_the_same(backbone: str, switches: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs: Any = MODELS[backbone]()
    for parameter in theirs.parameters():
        parameter.data += 0.05
    encoder = theirs.get_encoder()
    encoder.visual_embedding = Published(backbone, theirs.get_input_embeddings(), switches)
    tensors = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    if backbone == "t5":
        tensors["module.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 2)
    assert is_published(tensors)
    model = model_of(backbone, **switches)
    assert not is_published(model.state_dict())
    assert model.load_state_dict(from_published(tensors, model), strict=True)
    inputs = batch()
    names = ("boxes", "visual_mask", "image_ids", "object_ids")
    rows = make_rows(inputs["features"], *(inputs[name] for name in names))
    with torch.no_grad():
        expected = encoder.visual_embedding(rows.features, rows.boxes, rows.images, rows.objects)
        torch.testing.assert_close(model.see(rows).features, expected, rtol=1e-5, atol=1e-5)
        del encoder.visual_embedding
        plain = VisionLanguageModel(theirs)
        words = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        assert torch.equal(model(**words), plain(**words))


def test_those_of_one_vector_that_becomes_several_tokens_do_too() -> None:
    """VL-BART's: everything three times as wide, the order of objects its own."""
    torch.manual_seed(0)
    inner = 3 * WIDTH
    names = {"feat_embedding.0": nn.Linear(FEATURES, inner), "feat_embedding.1": nn.LayerNorm(inner)}
    names |= {"absolute_vis_pos_embedding.0": nn.Linear(5, inner), "absolute_vis_pos_embedding.1": nn.LayerNorm(inner)}
    names |= {"obj_order_embedding": nn.Embedding(1, inner), "img_order_embedding": nn.Embedding(2, inner)}
    tensors = {f"model.{name}": tensor for name, tensor in MODELS["bart"]().model.state_dict().items()}
    for name, module in names.items():
        tensors |= {f"model.encoder.visual_embedding.{name}.{kind}": each for kind, each in module.state_dict().items()}
    tensors |= {"lm_head.weight": tensors["model.shared.weight"], "final_logits_bias": torch.zeros(1, 40)}
    model = model_of("bart", connector="expand", tokens=3)
    model.load_state_dict(from_published(tensors, model), strict=True)
    vector, box = torch.randn(2, 1, FEATURES), torch.tensor([[[0.1, 0.2, 0.5, 0.9]]]).expand(2, -1, -1)
    with torch.no_grad():
        found = names["feat_embedding.1"](names["feat_embedding.0"](vector))
        five = torch.cat([box, torch.full((2, 1, 1), 0.28)], -1)
        found = found + names["absolute_vis_pos_embedding.1"](names["absolute_vis_pos_embedding.0"](five))
        zero = torch.zeros(1, dtype=torch.int64)
        expected = found + names["obj_order_embedding"](zero) + names["img_order_embedding"](zero)
        own = model.see(make_rows(vector, box)).features
        torch.testing.assert_close(own, expected.view(2, 3, WIDTH), rtol=1e-5, atol=1e-5)


def test_weights_of_another_kind_of_model_are_refused() -> None:
    tensors = {"encoder.visual_embedding.feat_embedding.0.weight": torch.zeros(WIDTH, FEATURES)}
    with pytest.raises(UsageError, match="reads texts alone"):
        from_published(tensors, VisionLanguageModel(MODELS["bart"]()))
    with pytest.raises(UsageError, match="the published transformer"):
        from_published(tensors, model_of("bart", connector="transformer", options={"heads": 2}))
