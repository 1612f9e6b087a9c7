"""The visual embedding against its formula, number by number; its sizes; what it shares with the backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from bart_base import BASE, NEW_TOKENS, NORMS, VISUAL, bart_base
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.model.connect import CONNECTORS
from quincunx.recipes.vision_language.model.rows import Rows, make_rows
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from quincunx.recipes.vision_language.model.visual import VisualEmbedding, make_visual_embedding, norm_of, with_area
from quincunx.tuners.trainable import is_norm, select
from tiny_models import MODELS
from vision_language_models import BACKBONES, FEATURES, WIDTH, batch, model_of

SWITCHES = [
    {},
    {"layer_norm": False},
    {"individual_layer_norm": False},
    {"order_embedding": False},
    {"layer_norm": False, "order_embedding": False},
]


def rows_of(inputs: dict[str, torch.Tensor]) -> Rows:
    return make_rows(inputs["features"], *(inputs[n] for n in ("boxes", "visual_mask", "image_ids", "object_ids")))


def normed(x: torch.Tensor, module: Any) -> torch.Tensor:
    """Return one vector normed as the module should."""
    if isinstance(module, torch.nn.Identity):
        return x
    if isinstance(module, torch.nn.RMSNorm):
        return x / torch.sqrt((x**2).mean() + module.eps) * module.weight
    return (x - x.mean()) / torch.sqrt(((x - x.mean()) ** 2).mean() + module.eps) * module.weight + module.bias


@pytest.mark.parametrize("backbone", ["bart", "t5"])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_it_is_the_formula(backbone: str, switches: dict[str, bool]) -> None:
    model = model_of(backbone, **switches)
    visual, words = model.visual_embedding, model.get_input_embeddings()
    rows = rows_of(batch())
    with torch.no_grad():
        found = visual(rows, words)
        for b, n in rows.mask.nonzero().tolist():
            x1, y1, x2, y2 = rows.boxes[b, n].tolist()
            box = torch.tensor([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)])
            feature = visual.features.map.weight @ rows.features[b, n] + visual.features.map.bias
            position = visual.box.weight @ box + visual.box.bias
            expected = normed(feature, visual.features.norm) + normed(position, visual.box_norm)
            if switches.get("order_embedding", True):
                word = words.weight[40 - 1 - int(rows.objects[b, n])]
                expected = expected + visual.image_order.weight[int(rows.images[b, n])] + word
            torch.testing.assert_close(found.features[b, n], normed(expected, visual.norm), rtol=1e-5, atol=1e-5)
    assert found.mask is rows.mask and found.images is rows.images


def test_areas_are_those_of_the_boxes() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(with_area(boxes)[:, 4], torch.tensor([0.28, 0.0]))
    assert torch.equal(with_area(boxes)[:, :4], boxes)


def test_it_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        backbone: Any = bart_base()
        backbone.resize_token_embeddings(50_265 + 200, mean_resizing=False)
        model = VisionLanguageModel(backbone, make_visual_embedding(backbone, 2048))
    assert model.visual_embedding is not None
    count = sum(each.numel() for each in model.visual_embedding.parameters())
    # 2048 to 768, 5 to 768, two pictures, two norms
    assert count == VISUAL == 1_582_848 == 768 * 2049 + 768 * 6 + 2 * 768 + 2 * 2 * 768
    assert sum(each.numel() for each in model.parameters()) == BASE + NEW_TOKENS + VISUAL
    norms = select(model, ["norms"]).names
    own = sum(model.get_parameter(name).numel() for name in norms if name.startswith("language_model."))
    assert own == NORMS and len(norms) == 2 * (32 + 2)
    connector = select(model, ["connector"]).names
    assert sum(model.get_parameter(name).numel() for name in connector) == VISUAL


def test_the_order_of_objects_is_the_embedding_of_their_words() -> None:
    model = model_of("bart")
    model(**batch()).sum().backward()
    own = {name for name, _ in model.named_parameters()}
    assert "visual_embedding.object_order.weight" not in own
    words = model.get_input_embeddings().weight
    before = model(**batch()).detach()
    with torch.no_grad():
        words[39] += 1  # <vis_extra_id_0>
    changed = (model(**batch()) - before).abs().amax((1, 2)) > 1e-4
    assert changed.all()  # through the head too
    rows = rows_of(batch())
    first = model.visual_embedding(rows, model.get_input_embeddings()).features.detach()
    with torch.no_grad():
        words[38] += 1  # <vis_extra_id_1>
    second = model.visual_embedding(rows, model.get_input_embeddings()).features
    moved = ((second - first).abs().amax(-1) > 1e-6) & rows.mask
    assert torch.equal(moved, rows.mask & (rows.objects == 1))


KINDS = {"bart": "layer", "pegasus": "layer", "t5": "root_mean_square", "mt5": "root_mean_square"}


@pytest.mark.parametrize(("backbone", "kind"), KINDS.items())
def test_norms_are_of_the_backbone_s_kind(backbone: str, kind: str) -> None:
    base: Any = BACKBONES[backbone]()
    assert norm_of(base) == (kind, base.config.layer_norm_epsilon if "t5" in backbone else 1e-5)
    made = make_visual_embedding(base, FEATURES)
    norms = [module for module in made.modules() if is_norm(module)]
    assert len(norms) == 2 and all(isinstance(each, torch.nn.RMSNorm) == (kind != "layer") for each in norms)


@pytest.mark.parametrize("backbone", ["bart", "t5"])
@pytest.mark.parametrize("connector", CONNECTORS)
def test_new_weights_begin_as_the_backbone_s_do(backbone: str, connector: str) -> None:
    """None of them as large as 1 in front of a norm, none of them nought but biases."""
    base: Any = MODELS[backbone]()
    options = {"transformer": {"heads": 2}, "layers": {"further": 2}}.get(connector, {})
    torch.manual_seed(0)
    made = make_visual_embedding(
        base, 400, connector=connector, options=options, tokens=3 if connector == "expand" else 1
    )
    for name, weight in made.named_parameters():
        if weight.ndim == 2:
            embedding = "order" in name or "positions" in name
            expected = 0.02 if backbone == "bart" else 1.0 if embedding else weight.shape[1] ** -0.5
            assert 0.6 * expected < float(weight.detach().std()) < 1.5 * expected, name
        else:
            assert bool((weight == (0 if name.endswith("bias") else 1)).all()), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"connector": "linaer"}, "there is no connector 'linaer'; there are linear, layers"),
        ({"options": {"further": 2}}, "the connector linear has no option 'further'; it has none"),
        ({"connector": "layers", "options": {"heads": 2}}, "it has further"),
        ({"tokens": 4}, "makes one token of a row, not 4: use expand"),
        ({"images": 0}, "images 0"),
        ({"norm": "batch"}, "norm must be layer or root_mean_square, found 'batch'"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        VisualEmbedding(FEATURES, WIDTH, **options)


def test_rows_that_do_not_suit_are_refused() -> None:
    model, inputs = model_of("bart"), batch()
    visual, words = model.visual_embedding, model.get_input_embeddings()
    with pytest.raises(UsageError, match="takes rows of 6 numbers, found 5"):
        visual(make_rows(torch.zeros(2, 3, 5)), words)
    with pytest.raises(UsageError, match="hand them over"):
        visual(rows_of(inputs))
    with pytest.raises(DataError, match="image_ids holds 2, and there are 2"):
        visual(rows_of({**inputs, "image_ids": inputs["image_ids"] * 2}), words)
    with pytest.raises(DataError, match="object_ids holds 40, and there are 40"):
        visual(make_rows(torch.zeros(1, 41, 6)), words)
    with pytest.raises(DataError, match="object_ids must not be below 0, found -1"):
        rows_of({**inputs, "object_ids": inputs["object_ids"] - 1})
    with pytest.raises(UsageError, match=r"boxes must be \[4, 6, 4\] beside such features, found \[4, 6, 5\]"):
        rows_of({**inputs, "boxes": torch.zeros(4, 6, 5)})
    with pytest.raises(UsageError, match=r"features must be \[batch, rows, width\], found \(4, 6\)"):
        make_rows(torch.zeros(4, 6))


def test_half_precision_features_are_taken() -> None:
    model, inputs = model_of("t5"), batch()
    halves = {**inputs, "features": inputs["features"].half(), "boxes": inputs["boxes"].half()}
    with torch.no_grad():
        torch.testing.assert_close(model(**halves), model(**inputs), rtol=0.05, atol=0.05)
