"""The z-regulariser beside an objective: as computed by hand, however a batch is cut, and no change where it is off."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.objective import Objective, Part, Representations, Represented, Summed
from quincunx.engine.regularised import regularised
from quincunx.engine.step import Outcome, Step
from quincunx.errors import UsageError
from quincunx.tuners.adapter import inject
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place
from quincunx.tuners.residual import ResidualAdapter
from tiny_models import MODELS
from toys import cpu, plan

LENGTHS = (7, 3, 5, 1, 6, 3)
TARGETS = (2, 4, 1, 3, 4, 2)
WEIGHT = 0.7


class Reading(Summed):
    """Squares of a model's outputs, and a temperature, so that an objective has a parameter and a module."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.scale = nn.Linear(1, 1, bias=False).double()
        self.register_buffer("seen", torch.zeros(()))
        self.modes: list[bool] = []

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(batch["lengths"].sum())}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        self.modes.append(self.training)
        output, mask = read(model, chunk)
        weight = self.factor * self.scale.weight.sum()
        return {"loss": weight * (output.square().mean(-1) * mask).sum()}

    def after_update(self) -> None:
        self.seen += 1


class Comparing(Represented):
    """Means of two texts' states against one another."""

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def parts(self, batch: Batch) -> Sequence[Part]:
        return [Part("first", batch), Part("second", other(batch))]

    def represent(self, model: nn.Module, rows: Part) -> dict[str, Tensor]:
        output, mask = read(model, rows.batch)
        mean = (output * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {"vector": functional.normalize(mean, dim=1)}

    def loss(self, model: nn.Module, representations: Representations, batch: Batch) -> dict[str, Tensor]:
        assert all({*of} == {"vector"} for of in representations.values())
        scores = representations["first"]["vector"] @ representations["second"]["vector"].T
        return {"loss": functional.cross_entropy(scores, torch.arange(len(batch)), reduction="sum")}


def read(model: Any, chunk: Batch) -> tuple[Tensor, Tensor]:
    """Return a model's outputs, and which of them count."""
    inputs = {"input_ids": chunk["tokens"], "attention_mask": mask_of(chunk["tokens"], chunk["lengths"])}
    if "targets" not in chunk.tensors:
        return model(**inputs).logits, inputs["attention_mask"].double()
    targets = chunk["targets"]
    mask = mask_of(targets, chunk["target_lengths"])
    output = model(**inputs, decoder_input_ids=targets, decoder_attention_mask=mask)
    return output.logits, mask.double()


def mask_of(tokens: Tensor, lengths: Tensor) -> Tensor:
    return (torch.arange(tokens.shape[1]) < lengths[:, None]).long()


def batch(kind: str, rows: Sequence[int] = range(6), seed: int = 0) -> Batch:
    """Return texts of mixed lengths, with targets for a model that has a decoder."""
    generator = torch.Generator().manual_seed(seed)
    lengths, sizes = torch.tensor(LENGTHS), torch.tensor(TARGETS)
    tokens, targets = (torch.randint(4, 40, (6, int(each.max())), generator=generator) for each in (lengths, sizes))
    tensors = {"tokens": tokens, "lengths": lengths}
    extents: dict[str, Tensor] = {}
    if kind in ("bart", "t5"):
        tensors |= {"targets": targets, "target_lengths": sizes}
        extents["targets"] = sizes
    return Batch(tensors, torch.arange(6), list(range(6)), lengths, frozenset({"tokens"}), extents).select(rows)


def other(rows: Batch) -> Batch:
    """Return other texts of other lengths."""
    tokens = (rows["tokens"].flip(1) * 3 + 1) % 36 + 4
    lengths = (rows["lengths"] % 4) + 1
    width = int(lengths.max())
    tokens = functional.pad(tokens, (0, max(0, width - tokens.shape[1])), value=5)[:, :width]
    tensors = {"tokens": tokens, "lengths": lengths}
    return Batch(tensors, rows.rows, rows.ids, lengths, frozenset({"tokens"}))


def tuned(kind: str, **options: Any) -> Any:
    model = MODELS[kind]().double()
    inject(model, place(model, BottleneckConfig(reduction_factor=4, **options)))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.double().parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model.train()


def parts(model: nn.Module, objective: Objective, weight: float = WEIGHT, *, each: bool = True) -> Parts:
    section = Peft(method="bottleneck", z_weight=weight, track_z=each)
    return regularised(Parts(model, objective), section)


def stepped(made: Parts, batches: Sequence[Batch], size: int | None = None, **more: Any) -> tuple[Outcome, Tensor]:
    """Return an update's losses and its gradient."""
    for module in (made.model, made.objective):
        module.zero_grad(set_to_none=True)
    step = Step(made.model, made.objective.train(), cpu(), plan(chunk_samples=size, **more), seed=5)
    outcome = step.gradient(2, batches)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in step.parameters]
    return outcome, torch.cat([grad.flatten() for grad in grads])


def by_hand(model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
    """Return the sum over texts of each adapter's mean of z squared, text by text and without any padding."""
    sums: dict[str, Tensor] = {}

    def watch(path: str) -> Any:
        def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            sums[path] = sums.get(path, torch.zeros((), dtype=torch.float64)) + args[0].square().mean()

        return look

    handles = [
        module.dropout.register_forward_pre_hook(watch(path.removesuffix(".quincunx_tuned")))
        for path, module in model.named_modules()
        if isinstance(module, ResidualAdapter)
    ]
    for row in range(len(chunk)):
        one = chunk.select([row])
        if "targets" in one.tensors:
            size = int(one["target_lengths"][0])
            one = Batch({**one.tensors, "targets": one["targets"][:, :size]}, one.rows, one.ids, one.lengths)
        read(model, one)
    for handle in handles:
        handle.remove()
    return sums


CASES = pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {}),
        ("llama", {}),
        ("bart", {}),
        ("t5", {"sites": ["attention", "cross_attention", "feedforward", "key", "value"]}),
        ("bart", {"sites": ["key", "value"], "parallel": True}),
    ],
    ids=["bert", "llama", "bart", "t5", "bart-keys"],
)


@CASES
def test_it_is_what_is_computed_by_hand(kind: str, options: dict[str, Any]) -> None:
    model = tuned(kind, **options)
    rows = batch(kind)
    expected = by_hand(model, rows)
    outcome, _ = stepped(parts(model, Reading()), [rows])
    assert len(expected) == len(outcome.sums) - 2
    for path, value in expected.items():
        torch.testing.assert_close(outcome.sums[f"z/{path}"], value.detach(), rtol=1e-10, atol=0)
    mean = torch.stack(list(expected.values())).mean().detach()
    torch.testing.assert_close(outcome.sums["z"], mean, rtol=1e-10, atol=0)
    assert {outcome.weights[term] for term in outcome.sums if term != "loss"} == {6.0}


@CASES
def test_chunks_of_any_size_give_the_same_losses_and_gradient(kind: str, options: dict[str, Any]) -> None:
    model = tuned(kind, **options)
    batches = [batch(kind), batch(kind, [0, 3, 4], seed=1)]
    made = parts(model, Reading())
    whole, expected = stepped(made, batches)
    for size in (1, 2, 3):
        outcome, found = stepped(made, batches, size)
        assert (found - expected).norm() <= 1e-12 * expected.norm(), size
        for term, value in whole.sums.items():
            assert abs(float(outcome.sums[term] - value)) <= 1e-12 * abs(float(value)), (size, term)
    _, without = stepped(parts(tuned(kind, **options), Reading(), 0.0), batches)
    assert (expected - without).norm() > 1e-3 * without.norm(), "it moves the adapters"


def test_without_the_mask_chunks_would_differ() -> None:
    """What `test_chunks_of_any_size` shows is the doing of the mask."""
    model = tuned("bert")
    made = parts(model, Reading())
    watch: Any = made.objective
    watch.watch.positions.of = lambda *args, **kwargs: None
    _, whole = stepped(made, [batch("bert")])
    _, cut = stepped(made, [batch("bert")], 1)
    assert (whole - cut).norm() > 1e-4 * whole.norm()


@pytest.mark.parametrize("graphs", ["keep", "replay", "auto"])
def test_rows_that_are_compared_give_the_same_however_their_graphs_are_kept(graphs: str) -> None:
    model = tuned("bert")
    made = parts(model, Comparing())
    batches = [batch("bert"), batch("bert", [0, 3, 4], seed=1)]
    whole, expected = stepped(made, batches, graphs="keep")
    for size in (1, 2, 3):
        outcome, found = stepped(made, batches, size, graphs=graphs)
        assert (found - expected).norm() <= 1e-12 * expected.norm(), size
        for term, value in whole.sums.items():
            assert abs(float(outcome.sums[term] - value)) <= 1e-12 * abs(float(value)), (size, term)
    first, second = (by_hand(model, rows) for rows in (batches[0], other(batches[0])))
    outcome, _ = stepped(made, batches[:1])
    for path, value in first.items():  # a mean over the texts of both sides, times the rows of the batch
        expected_sum = (value + second[path]).detach() / 2
        torch.testing.assert_close(outcome.sums[f"z/{path}"], expected_sum, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("kind", "objective"), [("bert", Reading), ("bart", Reading), ("bert", Comparing), ("llama", Comparing)]
)
def test_layers_that_are_computed_twice_change_nothing(kind: str, objective: Any) -> None:
    model = tuned(kind)
    made = parts(model, objective())
    rows = batch(kind)
    whole, expected = stepped(made, [rows], 2)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    outcome, found = stepped(made, [rows], 2)
    assert (found - expected).norm() <= 1e-12 * expected.norm()
    assert outcome.sums.keys() == whole.sums.keys()
    assert float(outcome.sums["z"]) == pytest.approx(float(whole.sums["z"]), rel=1e-12)


def test_what_is_not_asked_for_changes_nothing() -> None:
    model = tuned("bert")
    plain = Parts(model, Reading())
    assert regularised(plain, None) is plain
    assert regularised(plain, Peft(method="bottleneck")) is plain
    once = parts(tuned("bert"), Reading())
    assert regularised(once, Peft(method="bottleneck", z_weight=2.0)) is once
    _, expected = stepped(plain, [batch("bert")])
    tracked = parts(model, plain.objective, 0.0)
    outcome, found = stepped(tracked, [batch("bert")])
    assert torch.equal(found, expected) and len(outcome.sums) == 2 + 4


def test_single_adapters_are_logged_where_that_is_asked_for() -> None:
    made = parts(tuned("bert"), Reading(), each=False)
    assert made.objective.terms == ("loss", "z") and dict(made.objective.coefficients) == {"z": WEIGHT}
    outcome, _ = stepped(made, [batch("bert")])
    assert {*outcome.sums} == {"loss", "z"}
    every = parts(tuned("bert"), Reading())
    paths = [f"bert.encoder.layer.{n}.{name}" for n in (0, 1) for name in ("attention.output.dense", "output.dense")]
    assert every.objective.terms == ("loss", "z", *(f"z/{path}" for path in paths))


def test_it_has_the_state_of_the_objective_that_it_stands_for() -> None:
    inner = Reading()
    made = parts(tuned("bert"), inner).objective
    assert made.state_dict().keys() == inner.state_dict().keys() == {"factor", "scale.weight", "seen"}
    made.load_state_dict({name: value + 1 for name, value in made.state_dict().items()})
    assert float(inner.factor.detach()) == pytest.approx(1.3)
    made.after_update()
    assert float(inner.get_buffer("seen")) == 2
    made.eval()
    assert not inner.training and not inner.scale.training
    assert made.train() is made and inner.training
    assert made.pads(nn.Linear(1, 1), torch.device("cpu"))


def test_evaluation_and_copies_are_left_alone() -> None:
    model = tuned("bert")
    rows = batch("bert")
    expected = model.eval()(input_ids=rows["tokens"]).logits
    made = parts(model, Reading())
    stepped(Parts(model.train(), made.objective), [rows])
    kept = [module.z for module in model.modules() if isinstance(module, ResidualAdapter)]
    assert torch.equal(model.eval()(input_ids=rows["tokens"]).logits, expected)
    assert {*made.objective.eval().loss(model, rows)} == {"loss"}  # pyright: ignore
    copied = copy.deepcopy(model).train()
    assert all(module.z.watcher is None for module in copied.modules() if isinstance(module, ResidualAdapter))
    copied(input_ids=rows["tokens"])
    assert not any(each.passes for each in kept)


class Odd(Reading):
    """Reads a batch in a way that says nothing of its padding."""

    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self.inputs = inputs

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        return {"loss": model(**self.inputs(chunk)).logits.square().sum()}


def whole_mask(chunk: Batch) -> Tensor:
    return torch.zeros(len(chunk), 1, chunk["tokens"].shape[1], chunk["tokens"].shape[1], dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "inputs", "said"),
    [
        (
            "bart",
            lambda b: {"input_ids": b["tokens"]},
            "given no decoder_attention_mask, and reads padding",
        ),
        (
            "bert",
            lambda b: {"input_ids": b["tokens"], "attention_mask": whole_mask(b)},
            r"layer\.0\.attention\.output\.dense are padding is not known: .* mask of shape \[6, 1, 7, 7\]",
        ),
        ("bert", lambda b: {"input_ids": b["tokens"][:4]}, r"passed with 4 texts .* for 6 rows of a batch"),
    ],
    ids=["decoder", "pairs", "rows"],
)
def test_what_is_not_known_to_be_padding_is_refused(kind: str, inputs: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        stepped(parts(tuned(kind), Odd(inputs)), [batch(kind)])


def test_an_objective_may_read_another_number_of_texts_than_there_are_rows() -> None:
    class Twice(Odd):
        def texts(self, batch: Batch) -> int:
            return 2 * len(batch)

    def doubled(chunk: Batch) -> dict[str, Tensor]:
        mask = mask_of(chunk["tokens"], chunk["lengths"])
        return {"input_ids": chunk["tokens"].repeat(2, 1), "attention_mask": mask.repeat(2, 1)}

    made = parts(tuned("bert"), Twice(doubled))
    whole, _ = stepped(made, [batch("bert")])
    cut, _ = stepped(made, [batch("bert")], 2)
    single, _ = stepped(parts(tuned("bert"), Reading()), [batch("bert")])
    assert whole.weights["z"] == 12 and single.weights["z"] == 6
    for outcome in (whole, cut):
        assert float(outcome.sums["z"]) / 12 == pytest.approx(float(single.sums["z"]) / 6, rel=1e-12)


def test_models_without_a_bottleneck_and_compiled_ones_are_refused() -> None:
    section = Peft(method="task_lora", track_z=True)
    with pytest.raises(UsageError, match=r"peft\.track_z: BertForMaskedLM has no adapter with a bottleneck"):
        regularised(Parts(MODELS["bert"](), Reading()), section)
    with pytest.raises(UsageError, match=r"peft\.z_weight .* set compute\.compile=false"):
        regularised(Parts(tuned("bert"), Reading()), Peft(method="bottleneck", z_weight=1.0), compiled=True)
