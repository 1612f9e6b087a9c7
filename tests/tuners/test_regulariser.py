"""The z-regulariser against what hooks see; however a batch is cut; passes that count; copies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Site, inject
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.layer import dense
from quincunx.tuners.bottleneck.model import place
from quincunx.tuners.compacter.config import CompacterConfig
from quincunx.tuners.compacter.model import place as place_compacter
from quincunx.tuners.regulariser import clear, penalty, track, z_means, z_sums
from quincunx.tuners.residual import ResidualAdapter
from tiny_models import MODELS, inputs_for, output_of, pick


def scattered(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def tuned(kind: str = "bart", **options: Any) -> Any:
    model = MODELS[kind]()
    inject(model, place(model, BottleneckConfig(reduction_factor=4, **options)))
    return scattered(model)


def watched(model: nn.Module) -> dict[str, list[Tensor]]:
    """Return path -> what each pass brings to the dropout behind a bottleneck."""
    seen: dict[str, list[Tensor]] = {}

    def watch(path: str) -> Any:
        return lambda module, args: seen.setdefault(path, []).append(args[0])

    for path, module in model.named_modules():
        if isinstance(module, ResidualAdapter):
            module.dropout.register_forward_pre_hook(watch(path.removesuffix(".quincunx_tuned")))
    return seen


def compute_twice(model: Any, *, use_reentrant: bool) -> None:
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_means_and_penalty_are_those_of_what_bottlenecks_hold(dropout: float) -> None:
    model = tuned(dropout=dropout, tasks=[])
    track(model)
    seen = watched(model)
    output_of(model, inputs_for(model))
    means = z_means(model)
    assert means.keys() == seen.keys() and len(means) == 10
    expected = {path: z[0].square().mean() for path, z in seen.items()}
    for path, mean in means.items():
        torch.testing.assert_close(mean, expected[path].detach())
        assert not mean.requires_grad
    found = penalty(model, 0.3)
    total = 0.3 * sum(expected.values()) / len(expected)
    torch.testing.assert_close(found, total)
    downs = [parameter for name, parameter in model.named_parameters() if ".down." in name]
    for ours, theirs in zip(
        torch.autograd.grad(found, downs, retain_graph=True), torch.autograd.grad(total, downs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_sums_over_chunks_are_the_batchs() -> None:
    """Also where a chunk is cut to its longest text, given the masks; without them padding would count."""
    model = tuned()
    inputs = inputs_for(model)
    track(model)
    parameters = trained(model)

    def of(rows: Tensor, length: int, masked: bool) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        chunk = pick(inputs, rows)
        chunk = {name: value if "decoder" in name else value[:, :length] for name, value in chunk.items()}
        clear(model)
        output_of(model, chunk)
        masks = {"*encoder.layers*": chunk["attention_mask"]} if masked else None
        total = z_sums(model, masks)
        return total.detach(), torch.autograd.grad(total, parameters, allow_unused=True)

    for masked, length in ((True, 5), (False, 7)):
        whole, moved = of(torch.arange(4), 7, masked)
        first, second = of(torch.tensor([1, 3]), length, masked), of(torch.tensor([0, 2]), 7, masked)
        torch.testing.assert_close(first[0] + second[0], whole)
        for name, one, two in zip(moved, first[1], second[1], strict=True):
            assert (name is None) == (one is None)
            if name is not None and one is not None and two is not None:
                torch.testing.assert_close(one + two, name, rtol=1e-4, atol=1e-5)
    cut = of(torch.tensor([1, 3]), 5, False)[0] + of(torch.tensor([0, 2]), 7, False)[0]
    assert not torch.allclose(cut, whole, rtol=1e-3)


def test_a_row_counts_what_its_mask_says() -> None:
    model = tuned("bert")
    track(model)
    inputs = inputs_for(model)
    seen = watched(model)
    output_of(model, inputs)
    mask = inputs["attention_mask"]
    rows = [torch.stack([z[0][b, : int(mask[b].sum())].square().mean() for b in range(4)]) for z in seen.values()]
    masks = {"*": mask}
    torch.testing.assert_close(z_sums(model, masks), torch.stack(rows).sum(1).mean())
    torch.testing.assert_close(penalty(model, 2.0, masks), 2 * torch.stack(rows).mean())


def test_every_pass_counts() -> None:
    layer = nn.Linear(6, 6)
    adapter = ResidualAdapter(6, 3, dense, BottleneckConfig())
    model = nn.Sequential(site := Site(layer, adapter), nn.ReLU(), site)
    scattered(model)
    track(model)
    seen = watched(model)
    model(torch.randn(2, 5, 6))
    (passes,) = seen.values()
    assert len(passes) == 2
    torch.testing.assert_close(z_means(model)["0"], torch.cat(passes, 1).square().mean().detach())


def test_every_step_of_a_generation_counts() -> None:
    model = tuned()
    track(model)
    seen = watched(model)
    model.generate(input_ids=inputs_for(model)["input_ids"], num_beams=2, max_new_tokens=4, min_new_tokens=4)
    with torch.no_grad():
        means = z_means(model)
    path = "model.decoder.layers.0.fc2"
    assert len(seen[path]) >= 4 and len(seen["model.encoder.layers.0.fc2"]) == 1
    torch.testing.assert_close(means[path], torch.cat(seen[path], 1).square().mean())


def test_its_gradient_is_the_same_when_layers_are_computed_twice() -> None:
    model = tuned()
    track(model)
    inputs = inputs_for(model)

    def moved() -> list[Tensor | None]:
        clear(model)
        model.zero_grad(set_to_none=True)
        (output_of(model, inputs).square().mean() + penalty(model, 5.0)).backward()
        return [parameter.grad for parameter in trained(model)]

    expected = moved()
    model.train()
    compute_twice(model, use_reentrant=False)
    for ours, theirs in zip(moved(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_layers_that_are_checkpointed_the_old_way_are_refused() -> None:
    model = tuned("llama").train()
    track(model)
    compute_twice(model, use_reentrant=True)
    model.enable_input_require_grads()
    output_of(model, inputs_for(model))
    with pytest.raises(UsageError, match="use_reentrant=True: take False"):
        penalty(model, 1.0)


def test_copies_and_files_have_nothing_of_it() -> None:
    model = tuned(parallel=True)
    names = set(model.state_dict())
    track(model)
    output_of(model, inputs_for(model))
    other = copy.deepcopy(model)
    assert set(model.state_dict()) == names
    with pytest.raises(UsageError, match="call the model first"):
        z_means(other)
    output_of(other, inputs_for(other))
    with torch.no_grad():
        assert {path: float(mean) for path, mean in z_means(other).items()} == pytest.approx(
            {path: float(mean) for path, mean in z_means(model).items()}
        )


def test_it_goes_through_peft_and_an_adapter_that_is_off_is_left_out(tmp_path: Any) -> None:
    peft = pytest.importorskip("peft")
    from quincunx.tuners.peft_plugin import config_class, register

    register()
    model = peft.get_peft_model(MODELS["bert"](), config_class("low_rank")(reduction_factor=4)).eval()
    model.add_adapter("other", config_class("low_rank")(reduction_factor=2))
    track(model)
    output_of(model, inputs_for(model))
    assert set(z_means(model)) == {
        f"bert.encoder.layer.{layer}.{name}.default"
        for layer in (0, 1)
        for name in ("attention.output.dense", "output.dense")
    }
    assert float(penalty(model, 1.0).detach()) > 0


def test_what_it_cannot_do_it_says() -> None:
    with pytest.raises(UsageError, match="no adapter with a bottleneck"):
        track(MODELS["bert"]())
    track(MODELS["bert"](), on=False)
    model = tuned("bert")
    with pytest.raises(UsageError, match=r"call track\(model\) before the model"):
        penalty(model, 1.0)
    track(model)
    inputs = inputs_for(model)
    with torch.no_grad():
        output_of(model, inputs)
        output_of(model, pick(inputs, torch.arange(3)))
    with pytest.raises(UsageError, match=r"4 and then 3 rows: call clear\(model\) before each chunk"):
        z_means(model)
    clear(model)
    with torch.no_grad():
        output_of(model, inputs)
    assert len(z_means(model)) == 4  # figures need no gradient
    with pytest.raises(UsageError, match=r"ask under torch\.no_grad"):
        penalty(model, 1.0)
    clear(model)
    output_of(model, inputs)
    with pytest.raises(UsageError, match=r"a mask of \[4, 6\] was given for the adapter .* passed with \[4, 7\]"):
        z_sums(model, {"*": inputs["attention_mask"][:, 1:]})
    with pytest.raises(UsageError, match=r"masks names \*decoder\*, and no adapter"):
        z_sums(model, {"*decoder*": inputs["attention_mask"]})
    track(model, on=False)
    output_of(model, inputs)
    with pytest.raises(UsageError, match="call track"):
        z_sums(model)


def test_half_precision_is_squared_in_single() -> None:
    model = tuned("bert").bfloat16()
    track(model)
    output_of(model, inputs_for(model))
    assert {mean.dtype for mean in z_means(model).values()} == {torch.float32}
    compacted = MODELS["bert"]().double()
    inject(compacted, place_compacter(compacted, CompacterConfig(reduction_factor=4, hypercomplex_division=2)))
    compacted.double()
    track(compacted)
    output_of(compacted, inputs_for(compacted))
    assert penalty(compacted, 1.0).dtype == torch.float64
