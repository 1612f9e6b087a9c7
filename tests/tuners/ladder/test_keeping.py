"""A ladder whose layers' states are kept on disk: the same as without, and no layer is computed."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")

from quincunx.errors import RunError, UsageError
from quincunx.nn.examples import known
from quincunx.tuners.adapter import inject
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.model import place
from quincunx.tuners.sites import plain
from tiny_models import MODELS, inputs_for, output_of, pick

IDS = ["a", "b", 3, "3"]


def ladder(name: str, folder: Path | None, base: nn.Module | None = None, **options: Any) -> Any:
    made = copy.deepcopy(MODELS[name]() if base is None else base)
    torch.manual_seed(4)
    config = LadderConfig(reduction_factor=4, cache=None if folder is None else str(folder), **options)
    inject(made, place(made, config))
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return made.train()


def computed(model: nn.Module) -> list[str]:
    """Return a list to which every layer that is computed adds its path."""
    paths: list[str] = []
    for path, module in model.named_modules():
        if plain(path).split(".")[-2:-1] in (["layers"], ["layer"], ["block"]) and path.endswith("base_layer"):
            module.register_forward_hook(lambda *_, path=path: paths.append(plain(path)))
    return paths


def step(model: nn.Module, inputs: dict[str, Tensor], ids: list[Any] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the outputs where a token is none of padding, and the gradients of a loss of them."""
    model.zero_grad()
    with known(model, ids):
        output = output_of(model, inputs)
    if "decoder_input_ids" not in inputs and "attention_mask" in inputs:
        output = output[inputs["attention_mask"].bool()]
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return output.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> bool:
    return torch.equal(found[0], expected[0]) and all(
        torch.equal(found[1][name], gradient) for name, gradient in expected[1].items()
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in ("bart", "t5", "bert", "llama", "clip")),
        ("bart", {"every": 2}), ("t5", {"sides": "decoder"}), ("bart", {"sides": "encoder"}),
        ("bert", {"leave_out": [-1]}),
    ],
)  # fmt: skip
def test_kept_states_give_the_same_bits(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    inputs = inputs_for(MODELS[name]())
    expected = step(ladder(name, None, **options), inputs, IDS)
    model = ladder(name, tmp_path, **options)
    layers = computed(model)
    assert same(step(model, inputs, IDS), expected)
    first = len(layers)
    assert first == {"encoder": 2, "decoder": 2}.get(options.get("sides", ""), 4 if name in ("bart", "t5") else 2)
    assert same(step(model, inputs, IDS), expected)
    assert len(layers) == first
    later = ladder(name, tmp_path, **options)  # another process, another time
    layers = computed(later)
    assert same(step(later, inputs, IDS), expected) and not layers
    assert same(step(copy.deepcopy(later), inputs, IDS), expected)


def test_other_batches_of_the_same_examples_are_served(tmp_path: Path) -> None:
    model, inputs = ladder("bart", tmp_path), inputs_for(MODELS["bart"]())
    layers = computed(model)
    for rows in ([0, 1], [2, 3]):
        step(model, pick(inputs, torch.tensor(rows)), [IDS[row] for row in rows])
    before, order = len(layers), [3, 1, 0]
    mixed = pick(inputs, torch.tensor(order))
    found = step(model, mixed, [IDS[row] for row in order])
    assert len(layers) == before
    output, gradients = step(ladder("bart", None), mixed, None)
    torch.testing.assert_close(found[0], output, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-4)


def test_examples_that_are_missing_are_computed_and_added(tmp_path: Path) -> None:
    model, inputs = ladder("bert", tmp_path), inputs_for(MODELS["bert"]())
    layers = computed(model)
    step(model, pick(inputs, torch.tensor([0, 1])), IDS[:2])
    size = sum(path.stat().st_size for path in tmp_path.glob("*.bin"))
    step(model, inputs, IDS)
    assert len(layers) == 4
    rows = len([line for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()])
    assert rows == 4 and sum(path.stat().st_size for path in tmp_path.glob("*.bin")) > size
    step(model, inputs, IDS)
    step(model, inputs, None)  # nobody says which examples they are
    assert len(layers) == 6


def test_ids_that_look_alike_are_two(tmp_path: Path) -> None:
    model, inputs = ladder("bert", tmp_path), inputs_for(MODELS["bert"]())
    found = step(model, inputs, [3, "3", 4, "4"])
    assert same(step(model, inputs, [3, "3", 4, "4"]), found)
    assert len({*(path.read_text() for path in tmp_path.glob("*.jsonl"))}.pop().splitlines()) == 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_takes_half_the_room_and_loses_bits(tmp_path: Path, dtype: str) -> None:
    inputs = inputs_for(MODELS["bert"]())
    sizes: list[int] = []
    for folder, kind in ((tmp_path / "whole", "float32"), (tmp_path / "half", dtype)):
        model = ladder("bert", folder, cache_dtype=kind)
        expected = step(model, inputs, IDS)
        found = step(model, inputs, IDS)
        sizes.append(sum(path.stat().st_size for path in folder.glob("*.bin")))
    torch.testing.assert_close(found[0], expected[0], rtol=0.05, atol=0.1)  # pyright: ignore
    assert not torch.equal(found[0], expected[0])  # pyright: ignore
    assert 1.5 < sizes[0] / sizes[1] < 2


def test_another_model_is_refused(tmp_path: Path) -> None:
    inputs = inputs_for(MODELS["bert"]())
    step(ladder("bert", tmp_path), inputs, IDS)
    other = MODELS["bert"]()
    other.get_parameter("bert.embeddings.LayerNorm.bias").data[0] += 1e-3
    with pytest.raises(RunError, match="name another folder in cache, or remove this one"):
        step(ladder("bert", tmp_path, other), inputs, IDS)
    with pytest.raises(RunError, match="name another folder in cache"):
        step(ladder("bert", tmp_path, leave_out=[0]), inputs, IDS)
    with pytest.raises(RunError, match=r"as float32 .* as float16"):
        step(ladder("bert", tmp_path, cache_dtype="float16"), inputs, IDS)
    behind = MODELS["bert"]()
    behind.get_parameter("cls.predictions.bias").data[0] += 1.0  # comes after the states
    step(ladder("bert", tmp_path, behind), inputs, IDS)


def test_an_example_with_other_inputs_is_computed_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("bert", "bart"):
        model, inputs = ladder(name, tmp_path / name), inputs_for(MODELS[name]())
        step(model, inputs, IDS)
        changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
        changed["input_ids"][1, 2] = 11 if inputs["input_ids"][1, 2] != 11 else 12
        layers = computed(model)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = step(model, changed, IDS)
            assert len(layers) == (2 if name == "bert" else 4)
            assert same(step(model, changed, IDS), found)
            step(model, inputs, IDS)
        assert same(found, step(ladder(name, None), changed, None))
        assert len(caplog.records) == 1 and "example b came with other inputs than before" in caplog.text


def test_a_decoder_is_served_a_part_of_a_longer_text_and_an_encoder_is_not(tmp_path: Path) -> None:
    model, inputs = ladder("llama", tmp_path / "llama"), inputs_for(MODELS["llama"]())
    step(model, inputs, IDS)
    short = {name: tensor[:, :3] for name, tensor in inputs.items()}
    layers = computed(model)
    found = step(model, short, IDS)
    assert not layers
    torch.testing.assert_close(found[0], step(ladder("llama", None), short, None)[0], rtol=1e-4, atol=1e-5)
    model = ladder("bert", tmp_path / "bert")
    step(model, inputs, IDS)
    layers = computed(model)
    assert same(step(model, short, IDS), step(ladder("bert", None), short, None))
    assert len(layers) == 2


def test_a_full_cache_goes_on_computing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inputs = inputs_for(MODELS["bart"]())
    expected = step(ladder("bart", None), inputs, None)
    model = ladder("bart", tmp_path, cache_limit=3000 / 2**30)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert same(step(model, inputs, IDS), expected)
    assert len(caplog.records) == 1 and "cache_limit" in caplog.text
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("*.bin")) <= 3000


def test_states_that_depend_on_what_is_trained_are_not_kept(tmp_path: Path) -> None:
    model, inputs = ladder("bert", tmp_path), inputs_for(MODELS["bert"]())
    model.bert.embeddings.LayerNorm.weight.requires_grad_(True)
    with pytest.raises(UsageError, match=r"depends on trained parameters.*leave cache out"):
        step(model, inputs, IDS)
    with torch.no_grad(), pytest.raises(UsageError, match=r"bert\.embeddings\.LayerNorm\.weight is trained"), \
            known(model, IDS):  # fmt: skip
        model(**inputs)
    step(model, inputs, None)
    assert not [*tmp_path.glob("*.bin")]
    head = ladder("bert", tmp_path / "head")
    head.cls.predictions.transform.dense.weight.requires_grad_(True)
    expected = step(head, inputs, IDS)
    assert same(step(head, inputs, IDS), expected)


@pytest.mark.parametrize("name", ["bart", "llama"])
def test_generation_and_evaluation_with_known_examples_are_as_without(tmp_path: Path, name: str) -> None:
    model, inputs = ladder(name, tmp_path), inputs_for(MODELS[name]())
    step(model, inputs, IDS)
    model.eval()
    inputs.pop("decoder_input_ids", None)
    options: dict[str, Any] = {"max_new_tokens": 5, "num_beams": 2, "do_sample": False, "pad_token_id": 1}
    expected = model.generate(**inputs, **options)
    before = sorted(path.stat().st_size for path in tmp_path.iterdir())
    with known(model, IDS):
        for use in (True, False):
            assert torch.equal(model.generate(**inputs, **options, use_cache=use), expected)
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == before


def test_autocast_keeps_states_of_its_own(tmp_path: Path) -> None:
    model, inputs = ladder("bert", tmp_path), inputs_for(MODELS["bert"]())
    layers = computed(model)
    exact = step(model, inputs, IDS)
    with torch.autocast("cpu", torch.bfloat16):
        cast = step(model, inputs, IDS)
        assert len(layers) == 4
        assert same(step(model, inputs, IDS), cast)
    assert same(step(model, inputs, IDS), exact) and len(layers) == 4


def test_texts_behind_one_another_are_kept_each_by_itself(tmp_path: Path) -> None:
    from quincunx.nn.pretrained.packed import run_packed, use

    base: Any = MODELS["bert"]().bert
    use(base)
    model, inputs = ladder("", tmp_path, base), inputs_for(base)
    lengths = inputs["attention_mask"].sum(1)
    layers = computed(model)
    with torch.no_grad(), known(model, IDS):
        expected = run_packed(model, inputs["input_ids"], lengths).padded()
        assert len(layers) == 2
        assert torch.equal(run_packed(model, inputs["input_ids"], lengths).padded(), expected)
        order = torch.tensor([2, 0, 3, 1])
        with known(model, [IDS[row] for row in order]):
            found = run_packed(model, inputs["input_ids"][order], lengths[order]).padded()
        padded = model(**inputs).last_hidden_state
    assert len(layers) == 2
    torch.testing.assert_close(found, expected[order], rtol=1e-4, atol=1e-5)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(padded[real], expected[real], rtol=1e-4, atol=1e-5)


def test_it_is_compiled_with_its_cache(tmp_path: Path) -> None:
    model, inputs = ladder("bert", tmp_path).eval(), inputs_for(MODELS["bert"]())
    with torch.no_grad(), known(model, IDS):
        model(**inputs)
        expected = model(**inputs).logits
        torch.compiler.reset()
        layers = computed(model)
        found = torch.compile(model, backend="eager")(**inputs).logits
    torch.testing.assert_close(found, expected)
    assert not layers
