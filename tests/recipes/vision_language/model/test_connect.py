"""Connectors by their formulas: layers, a transformer over rows, several tokens of one vector, means of pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import DataError, UsageError
from quincunx.nn.rows import attach_rows
from quincunx.recipes.vision_language.model.connect import Transformer
from quincunx.recipes.vision_language.model.rows import make_rows
from quincunx.tuners.sites import find_sites
from vision_language_models import FEATURES, ROWS, VISUAL, WIDTH, alone, batch, model_of, wider

TRANSFORMER: dict[str, Any] = {"connector": "transformer", "options": {"heads": 2, "hidden": 24}}
KINDS = [
    {"connector": "layers", "options": {"further": 2}},
    TRANSFORMER,
    {"connector": "expand", "tokens": 3},
    {"connector": "pooled"},
]


def rows_of(inputs: dict[str, torch.Tensor]) -> Any:
    return make_rows(inputs["features"], *(inputs[n] for n in ("boxes", "visual_mask", "image_ids", "object_ids")))


@pytest.mark.parametrize("backbone", ["bart", "t5"])
@pytest.mark.parametrize("layer_norm", [True, False])
def test_layers_are_maps_with_relu_and_norms(backbone: str, layer_norm: bool) -> None:
    connector = model_of(backbone, connector="layers", layer_norm=layer_norm, options={"further": 2})
    features = connector.visual_embedding.features
    x = torch.randn(2, 3, FEATURES)
    expected = x @ features.map.weight.T + features.map.bias
    expected = features.norm(expected)
    for linear, relu, *norm in features.further:
        assert isinstance(relu, torch.nn.ReLU) and len(norm) == layer_norm
        expected = (expected @ linear.weight.T + linear.bias).clamp(min=0)
        expected = norm[0](expected) if norm else expected
    torch.testing.assert_close(features(x, torch.ones(2, 3, dtype=torch.bool)), expected)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["connector"])
@pytest.mark.parametrize("backbone", ["bart", "t5"])
def test_examples_are_what_they_are_alone_and_everything_is_trained(kind: dict[str, Any], backbone: str) -> None:
    model, inputs = model_of(backbone, **kind), batch()
    with torch.no_grad():
        expected = model(**inputs)
        torch.testing.assert_close(model(**wider(inputs)), expected, rtol=1e-5, atol=1e-5)
        for row in range(ROWS):
            torch.testing.assert_close(model(**alone(inputs, row)), expected[row : row + 1], rtol=1e-5, atol=2e-5)
    model(**inputs).square().sum().backward()
    for name, weight in model.visual_embedding.named_parameters():
        assert weight.grad is not None and bool(weight.grad.any()), name


def test_rows_see_one_another_in_a_transformer() -> None:
    inputs = batch()
    moved = {**inputs, "features": inputs["features"].clone()}
    moved["features"][0, 0] += 1
    for kind, count in ((TRANSFORMER, VISUAL[0]), ({}, 1)):
        model = model_of("bart", **kind)
        with torch.no_grad():
            first, second = model.see(rows_of(inputs)), model.see(rows_of(moved))
        changed = ((first.features - second.features).abs().amax(-1) > 1e-5) & first.mask
        assert changed.sum(1).tolist() == [count, 0, 0, 0]


def test_a_transformer_s_dropout_belongs_to_the_example() -> None:
    model, inputs = model_of("bart", **TRANSFORMER), batch()
    context = attach_rows(model)
    assert context is not None
    model.visual_embedding.train()
    context.set(7, torch.arange(ROWS))
    whole = model.see(rows_of(inputs)).features
    context.set(8, torch.arange(ROWS))
    assert not torch.allclose(
        model.see(rows_of(inputs)).features[inputs["visual_mask"] > 0], whole[inputs["visual_mask"] > 0]
    )
    context.set(7, torch.tensor([1]))
    part = model.see(rows_of({name: tensor[1:2] for name, tensor in inputs.items()})).features
    torch.testing.assert_close(part[0], whole[1], rtol=1e-5, atol=1e-5)


def test_expanding_makes_tokens_of_the_numbers_of_one_vector() -> None:
    model, inputs = model_of("bart", connector="expand", tokens=3), batch()
    rows = rows_of(inputs)
    visual = model.visual_embedding
    with torch.no_grad():
        found = model.see(rows)
        assert found.features.shape == (ROWS, 2 * 3, WIDTH)
        assert found.mask.tolist() == [[True] * 3 + [False] * 3, [True] * 6, [False] * 6, [True] * 3 + [False] * 3]
        for b, picture in ((0, 0), (1, 0), (1, 1), (3, 0)):
            own = rows.of_picture(picture)[b]
            mean = rows.features[b, own].mean(0)
            near, far = rows.boxes[b, own, :2].amin(0), rows.boxes[b, own, 2:].amax(0)
            box = torch.cat([near, far, (far - near).prod()[None]])
            vector = visual.features.norm(visual.features.map(mean)) + visual.box_norm(visual.box(box))
            vector = vector + visual.image_order.weight[picture] + visual.object_order.weight[0]
            expected = vector.view(3, WIDTH)
            torch.testing.assert_close(found.features[b, 3 * picture : 3 * picture + 3], expected, rtol=1e-5, atol=1e-5)
    assert visual.features.map.out_features == 3 * WIDTH and visual.object_order.weight.shape == (1, 3 * WIDTH)


def test_a_vector_that_was_pooled_before_stays_as_it_is() -> None:
    inputs = {name: tensor[:, :1] for name, tensor in batch().items() if name not in ("labels", "input_ids")}
    inputs = {name: tensor[[0, 1, 3]] for name, tensor in inputs.items()}
    rows = rows_of(inputs)
    pooled, plain = model_of("bart", connector="pooled"), model_of("bart")
    with torch.no_grad():
        torch.testing.assert_close(pooled.see(rows).features, plain.see(rows).features)


def test_adapters_for_the_backbone_do_not_mean_the_transformer_of_rows() -> None:
    sites = find_sites(model_of("bart", **TRANSFORMER), ["attention", "feedforward", "query", "value"])
    assert {site.path.split(".")[0] for site in sites} == {"language_model"}


def test_what_does_not_fit_a_transformer_is_refused() -> None:
    with pytest.raises(UsageError, match="12 heads, which do not divide the backbone's width 16"):
        model_of("bart", connector="transformer")
    connector = Transformer(FEATURES, WIDTH, None, heads=2, positions=4)
    with pytest.raises(DataError, match="5 rows of features, and the transformer over them has 4 positions"):
        connector(torch.zeros(1, 5, FEATURES), torch.ones(1, 5, dtype=torch.bool))
    few = torch.tensor([[True] * 4 + [False]])
    assert connector.eval()(torch.zeros(1, 5, FEATURES), few).shape == (1, 5, WIDTH)
