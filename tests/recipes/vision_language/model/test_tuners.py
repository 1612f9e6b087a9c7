"""Every tuner for encoder-decoders, put into the whole model by the recipes' own function."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("peft", reason="the peft library is not installed")

from quincunx.config.sections.peft import Peft
from quincunx.nn.routing import routed
from quincunx.recipes.vision_language.model.joint import JointOptions
from quincunx.tuners.attaching import attach
from quincunx.tuners.trainable import part_of
from tiny_models import clip
from tuner_rows import ROWS, TASKS, Row
from vision_language_models import batch, model_of, wider

SUITED = [row for row in ROWS if row.model in ("bart", "t5")]
each = pytest.mark.parametrize("row", SUITED, ids=lambda row: row.id)
one_each = pytest.mark.parametrize(
    "row", {(row.method, row.model): row for row in SUITED}.values(), ids=lambda row: row.id
)
"""The last row of every method on every backbone."""
LIBRARY = ("lora", "ia3", "vera", "boft", "ln_tuning")


def tasks_of(row: Row) -> list[str] | None:
    parts = [row.options, *row.options.get("parts", [])]
    names = next((part["tasks"] for part in parts if "tasks" in part), None)
    return [names[0], names[-1], names[1], names[0]] if names else None


def tuned(row: Row, *, scattered: bool = True, joint: JointOptions | None = None) -> Any:
    model = model_of(row.model, joint=joint)
    torch.manual_seed(2)
    attached = attach(model, Peft(method=row.method, options=copy.deepcopy(dict(row.options))), tasks=TASKS)
    assert attached.model is model or row.method in LIBRARY
    if scattered:
        generator = torch.Generator().manual_seed(3)
        for parameter in attached.model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return attached.model


def look(model: Any, tasks: list[str] | None, inputs: dict[str, Tensor] | None = None) -> Tensor:
    with torch.no_grad():
        return model(**(inputs or batch()), **({"tasks": tasks} if tasks else {}))


@each
def test_it_begins_as_the_model_and_stands_in_the_backbone_alone(row: Row) -> None:
    model = tuned(row, scattered=False)
    if row.identity:
        assert torch.equal(look(model, tasks_of(row)), look(model_of(row.model), None))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    anywhere = row.method in ("bitfit", "norms") or "train" in row.options or "biases" in row.options
    if not anywhere:  # norms and biases are meant wherever they are
        assert all(name.startswith(("language_model.", "quincunx_shared.")) for name in trained)
    assert trained


@one_each
def test_visual_tokens_are_learned_beside_it(row: Row) -> None:
    model = model_of(row.model)
    section = Peft(method=row.method, options=copy.deepcopy(dict(row.options)), train=["connector"])
    attach(model, section, tasks=TASKS)
    tasks = tasks_of(row)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    (model(**batch(), **({"tasks": tasks} if tasks else {})) * torch.linspace(-1, 1, 40)).sum().backward()
    for name, parameter in model.visual_embedding.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name
    words = model.get_input_embeddings().weight
    assert words.grad is None  # frozen, and so is the order of objects


def test_the_published_share_of_bart_base_is_trained() -> None:
    from bart_base import bart_base
    from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
    from quincunx.recipes.vision_language.model.visual import make_visual_embedding

    with torch.device("meta"):
        backbone: Any = bart_base()
        backbone.resize_token_embeddings(50_265 + 200, mean_resizing=False)
        model = VisionLanguageModel(backbone, make_visual_embedding(backbone, 2048))
        section = Peft(method="bottleneck", options={"reduction_factor": 8}, train=["connector", "norms"])
        attached = attach(model, section)
    assert attached.trainable == 6_081_600 and len(attached.modules) == 30
    assert round(100 * attached.trainable / attached.total, 3) == 4.177


@each
def test_it_sees_pictures_and_never_padding(row: Row) -> None:
    model, tasks, inputs = tuned(row), tasks_of(row), batch()
    found = look(model, tasks)
    assert found.isfinite().all() and not torch.allclose(found, look(model_of(row.model), None), atol=1e-3)
    torch.testing.assert_close(look(model, tasks, wider(inputs)), found, rtol=1e-4, atol=1e-4)
    other = {**inputs, "features": inputs["features"] + 1}
    changed = (look(model, tasks, other) - found).abs().amax((1, 2)) > 1e-5
    assert changed.tolist() == [True, True, False, True]


@pytest.mark.parametrize("row", [row for row in SUITED if tasks_of(row)], ids=lambda row: row.id)
def test_mixed_tasks_are_those_of_each_task_apart_and_so_is_what_is_written(row: Row) -> None:
    model, tasks, inputs = tuned(row), tasks_of(row), batch()
    assert tasks is not None
    mixed = look(model, tasks)
    with routed(model, tasks):
        written = model.generate(inputs, num_beams=3, max_length=6)
    for name in sorted({*tasks}):
        rows = [place for place, task in enumerate(tasks) if task == name]
        own = {key: value[rows] for key, value in inputs.items()}
        torch.testing.assert_close(look(model, [name] * len(rows), own), mixed[rows], rtol=1e-4, atol=1e-4)
        with routed(model, [name] * len(rows)):
            alone = model.generate(own, num_beams=3, max_length=6)
        for place, row_of in enumerate(rows):
            length = min(alone.shape[1], written.shape[1])
            assert torch.equal(alone[place, :length], written[row_of, :length])
    others = [*tasks[1:], tasks[0]]
    assert not torch.allclose(look(model, others), mixed, atol=1e-4)


@one_each
def test_what_is_written_is_what_its_logits_say(row: Row) -> None:
    model, tasks, inputs = tuned(row), tasks_of(row), batch()
    config = model.language_model.config
    with routed(model, tasks):
        written = model.generate(inputs, max_length=6, min_length=6)
    reads = {name: tensor for name, tensor in inputs.items() if name != "labels"}
    logits = look(model, tasks, {**reads, "decoder_input_ids": written})
    logits[..., config.eos_token_id] = -torch.inf
    assert torch.equal(logits.argmax(-1)[:, :4], written[:, 1:5])  # the last word BART must end with


@one_each
def test_gradients_are_the_same_when_layers_are_computed_twice(row: Row) -> None:
    def gradients(checkpointed: bool) -> dict[str, Tensor]:
        model, tasks = tuned(row), tasks_of(row)
        if checkpointed:
            model.train()
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
            model.language_model.activation_checkpointing_enable({"use_reentrant": False})
        output = model(**batch(), **({"tasks": tasks} if tasks else {}))
        (output * torch.linspace(-1, 1, 40)).sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    expected, found = gradients(False), gradients(True)
    assert found.keys() == expected.keys() and found
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= 1e-3 * float(value.norm()) + 1e-5, name


class Tower(nn.Module):
    """A CLIP of the library as an image encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.model = clip()
        self.out = nn.Linear(16, 6)
        self.shown: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.shown.append(len(pixels))
        return self.out(self.model(pixel_values=pixels).last_hidden_state)


def seeing(method: str, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(4)
    model = model_of("bart", vision=Tower())
    attached = attach(model, Peft(method=method, options=options), tasks=options.get("tasks", ()))
    return model, attached


@pytest.mark.parametrize(
    ("method", "options", "parts"),
    [
        ("bottleneck", {"reduction_factor": 4}, {"language", "vision"}),
        ("bottleneck", {"reduction_factor": 4, "leave_out": ["vision_tower.*"]}, {"language"}),
        ("bottleneck", {"reduction_factor": 4, "target_modules": ["vision_tower.*.fc2"]}, {"vision"}),
        ("prompts", {"encoder_prompt_len": 2}, {"language"}),
        ("head", {"reduction_factor": 4}, {"language"}),
        ("ladder", {"target_modules": ["language_model.*"]}, {"language"}),
        ("lora", {}, {"language", "vision"}),
    ],
)
def test_with_an_image_encoder_of_the_library_in_the_model(method: str, options: Any, parts: set[str]) -> None:
    model, attached = seeing(method, **options)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {part_of(model, name) for name in trained} == parts
    assert any("language and vision alike" in note for note in attached.notes) == (len(parts) == 2)
    inputs, pixels = batch(), torch.randn(4, 2, 3, 32, 32)
    reads = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
    assert model(**reads, pixels=pixels).isfinite().all()


def test_pictures_go_by_the_task_of_their_example_even_where_some_are_missing() -> None:
    names = ["colour", "shape"]
    model, _ = seeing("bottleneck", reduction_factor=4, tasks=names, target_modules=["vision_tower.*.fc2"])
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    inputs, pixels = batch(), torch.randn(4, 2, 3, 32, 32)
    reads = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
    reads |= {"pixels": pixels, "visual_mask": torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]])}
    tasks = ["shape", "colour", "colour", "shape"]
    mixed = look(model, tasks, reads)
    for row, task in enumerate(tasks):
        own = {name: tensor[row : row + 1] for name, tensor in reads.items()}
        torch.testing.assert_close(look(model, [task], own)[0], mixed[row], rtol=1e-4, atol=1e-5)
        other = look(model, [names[task == "colour"]], own)[0]
        assert torch.allclose(other, mixed[row], atol=1e-5) == (row == 2)


@pytest.mark.parametrize("backbone", ["bart", "t5"])
@pytest.mark.parametrize("method", LIBRARY)
def test_methods_of_the_library_peft_go_into_the_whole_model(method: str, backbone: str) -> None:
    if method == "ln_tuning":
        names = ["layernorm_embedding", "final_layer_norm"] if backbone == "bart" else ["layer_norm"]
    else:
        names = ["q_proj", "v_proj"] if backbone == "bart" else ["q", "v"]
    options: dict[str, Any] = {"target_modules": names}
    if method == "ia3":
        options["feedforward_modules"] = []
    if method == "boft":
        options["boft_block_size"] = 4
    row = Row(method, backbone, options)
    plain = look(model_of(backbone), None)
    torch.testing.assert_close(look(tuned(row, scattered=False), None), plain, rtol=1e-5, atol=1e-5)
    model = tuned(row)
    found = look(model, None)
    assert not torch.allclose(found, plain, atol=1e-4)
    torch.testing.assert_close(look(model, None, wider(batch())), found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["own", "shared"])
@pytest.mark.parametrize("positions", ["none", "learned"])
def test_prompts_stand_before_words_and_leave_visual_tokens_where_they_are(norm: Any, positions: Any) -> None:
    """The states of what is read are those of the encoder's layers over prompt, words and visual tokens."""
    row = Row("prompts", "bart", {"encoder_prompt_len": 3})
    joint = JointOptions(positions=positions, norm=norm)
    model, inputs = tuned(row, joint=joint), batch()
    inputs = {name: tensor[:1] for name, tensor in inputs.items()}
    inputs = {name: tensor[:, :4] if tensor.shape[1] == 6 else tensor for name, tensor in inputs.items()}
    reads = {name: tensor for name, tensor in inputs.items() if name != "labels"}
    seen: list[Tensor] = []
    encoder = model.language_model.get_encoder()
    encoder.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        states = model.encode(**reads).states
    prompt = next(
        part for name, part in model.named_modules() if name.endswith("encoder.quincunx_tuned.default.prompt")
    )
    plain = model_of("bart", joint=joint)
    plain_seen: list[Tensor] = []
    plain.language_model.get_encoder().layers[0].register_forward_pre_hook(
        lambda module, args: plain_seen.append(args[0])
    )
    with torch.no_grad():
        plain.encode(**reads)
    torch.testing.assert_close(seen[0][:, 3:], plain_seen[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen[0][:, :3], prompt.vectors(seen[0]), rtol=1e-5, atol=1e-5)
    assert states.shape[1] == 3 + 7 + 4


def test_prompts_count_as_words_in_t5_s_bias() -> None:
    row = Row("prompts", "t5", {"encoder_prompt_len": 2})
    model, inputs = tuned(row), batch()
    given: list[Any] = []
    attention = model.language_model.get_encoder().block[1].layer[0].SelfAttention
    attention.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["position_bias"]), with_kwargs=True
    )
    look(model, None)
    [bias] = given
    assert bias.shape[-2:] == (2 + 7 + 6, 2 + 7 + 6)
    first = model.language_model.get_encoder().block[0].layer[0].SelfAttention
    with torch.no_grad():
        torch.testing.assert_close(bias[..., :9, :9], first.compute_bias(9, 9))
    assert not bias[..., 9:, :].any() and not bias[..., :, 9:].any() and len(inputs) == 8
