"""Tuners in vision-language models of transformers: one test a property, one row a family of models and a method."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("peft")

from peft import PeftModel, get_peft_model

from quincunx.config.sections.peft import Peft
from quincunx.errors import UsageError
from quincunx.tuners import attach
from quincunx.tuners.ladder.layer import Rung
from quincunx.tuners.ladder.model import find_stacks
from quincunx.tuners.methods import METHODS
from quincunx.tuners.parts import output_map, part_of, sees_its_past_alone
from quincunx.tuners.peft_plugin import accept_tasks, config_class, register
from quincunx.tuners.sites import find_sites
from quincunx.tuners.trainable import select
from tiny_vision_language_models import FAMILIES

TASKS = ["vqa", "caption"]
CONNECTED = ("blip_2_opt", "blip_2_t5", "instructblip")
"""Families whose connector has layers too."""
CORE = ("llava", "qwen2_vl", "git", "blip", "blip_2_t5", "florence2")
OTHERS = tuple(name for name in FAMILIES if name not in CORE)


@dataclass(frozen=True)
class Row:
    """A method with options."""

    method: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    identity: bool = True
    restores: bool = True
    """Whether the model is as it was while the adapter is disabled."""


HYPER: dict[str, Any] = {"projected_task_embedding_dim": 4, "task_embedding_dim": 6, "hidden_dim": 5}
ROWS: dict[str, Row] = {
    "bottleneck": Row("bottleneck", {"reduction_factor": 4}),
    "parallel": Row("bottleneck", {"reduction_factor": 4, "parallel": True, "gate": "large", "gate_width": 2}),
    "low_rank": Row("low_rank", {"reduction_factor": 4}),
    "compacter": Row("compacter", {"reduction_factor": 4, "hypercomplex_division": 2}),
    "hyperformer": Row("hyperformer", {"reduction_factor": 4, "tasks": TASKS, **HYPER}),
    "task_lora": Row("task_lora", {"rank": 2, "tasks": TASKS}),
    "prefix": Row("prefix", {"prefix_len": 3}),
    "joint": Row("prefix", {"prefix_len": 3, "form": "joint"}, identity=False),
    "prompts": Row("prompts", {"decoder_prompt_len": 3}, identity=False),
    "head": Row("head", {"reduction_factor": 4}),
    "ladder": Row("ladder", {"reduction_factor": 4}),
    "bitfit": Row("bitfit", restores=False),
    "norms": Row("norms", restores=False),
    "composite": Row(
        "composite",
        {
            "parts": [
                {"method": "task_lora", "rank": 2},
                {"method": "bottleneck", "reduction_factor": 4, "sites": ["feedforward"], "leave_out": ["vision"]},
            ],
            "train": ["norms"],
        },
        restores=False,
    ),
}
REFUSED: dict[tuple[str, str], str] = {
    **dict.fromkeys(
        ((name, "prefix") for name in ("git", "blip", "blip_answers")), "computes attention in its own way"
    ),
    **dict.fromkeys(((name, "joint") for name in ("git", "blip", "blip_answers")), "computes attention in its own way"),
    **dict.fromkeys(((name, "prompts") for name in ("git", "blip", "blip_answers")), "takes inputs_embeds"),
    ("florence2", "prefix"): "does not say how wide a head is.*leave_out",
    ("florence2", "joint"): "does not say how wide a head is.*leave_out",
}
"""What is refused as a model is adapted, and why."""
IDLE: dict[str, tuple[str, ...]] = {
    "llava": ("vision_tower.encoder.layers.2.", "vision_tower.encoder.base_layer.layers.2.", "post_layernorm"),
    "paligemma": ("vision_tower.head.",),
    "instructblip": ("qformer.encoder.layer.1.intermediate.", "qformer.encoder.layer.1.output."),
}
"""What such a model holds and does not use: nothing that is trained there has a gradient."""


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Return a model of each family; a test takes copies."""
    return {name: family.model() for name, family in FAMILIES.items()}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Padding stands on the right here, of which generation warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tuned(base: nn.Module, method: str, **options: Any) -> Any:
    torch.manual_seed(1)
    model: Any = get_peft_model(copy.deepcopy(base), config_class(method)(**copy.deepcopy(options)))  # pyright: ignore
    return accept_tasks(model.eval()) if "tasks" in options else model.eval()


def scatter(model: nn.Module) -> Any:
    """Give everything that is trained other values."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def options_of(name: str, row: Row) -> dict[str, Any]:
    """Return a row's options for a family: weights for each task stand where rows are examples."""
    if "tasks" not in row.options:
        return row.options
    base = FAMILIES[name].model()
    words = ("query", "value") if row.method == "task_lora" else ("attention", "cross_attention", "feedforward")
    parts = {part_of(base, site.path) for site in find_sites(base, words)} - {"language"}
    return {**row.options, "leave_out": sorted(parts)}


def tasks_of(row: Row) -> dict[str, Any]:
    return {"tasks": ["vqa", "caption"]} if "tasks" in row.options else {}


def loss_of(name: str, model: nn.Module, **more: Any) -> Tensor:
    with torch.no_grad():
        return FAMILIES[name].pass_of(model, **more).loss


def logits_of(name: str, model: nn.Module, **more: Any) -> Tensor:
    with torch.no_grad():
        return FAMILIES[name].pass_of(model, **more).logits


PAIRS = [(name, kind) for name in CORE for kind in ROWS] + [
    (name, kind) for name in OTHERS for kind in ("bottleneck", "prefix", "prompts", "ladder")
]
TAKEN = [pair for pair in PAIRS if pair not in REFUSED and pair != ("paligemma", "prompts")]
ALIKE = ("parallel", "low_rank", "compacter", "norms", "bitfit")
"""Rows whose files and passes are those of others."""
WRITING = [(name, kind) for name, kind in TAKEN if name in CORE and (kind not in ALIKE or name == "llava")]


@pytest.mark.parametrize(("name", "kind"), TAKEN)
def test_it_learns_by_its_own_weights_alone(made: dict[str, Any], name: str, kind: str) -> None:
    family, row = FAMILIES[name], ROWS[kind]
    base = made[name]
    model = tuned(base, row.method, **options_of(name, row))
    if row.identity:
        assert torch.equal(loss_of(name, model, **tasks_of(row)), loss_of(name, base))
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(trained.values(), lr=0.02, weight_decay=0.0)
    losses: list[float] = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = family.pass_of(model, **tasks_of(row)).loss
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < losses[0]
    still = [key for key, value in trained.items() if value.grad is None or not value.grad.any()]
    assert all(any(idle in key for idle in IDLE.get(name, ())) for key in still), still
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved and moved <= {*trained}
    assert all(".quincunx_" in f".{key}" or "lora_" in key for key in moved) or not row.restores


@pytest.mark.parametrize(("name", "kind"), WRITING)
def test_it_is_saved_and_loaded_and_switched_off_and_writes(
    made: dict[str, Any], name: str, kind: str, tmp_path: Path
) -> None:
    family, row = FAMILIES[name], ROWS[kind]
    base, tasks = made[name], tasks_of(row)
    model = scatter(tuned(base, row.method, **options_of(name, row)))
    changed, plain = logits_of(name, model, **tasks), logits_of(name, base)
    assert not torch.allclose(changed, plain, atol=1e-2)
    model.save_pretrained(str(tmp_path))
    again: Any = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path)).eval()
    again = accept_tasks(again) if tasks else again
    # what is mapped from a file lies elsewhere in memory, which may show in the last bit
    torch.testing.assert_close(logits_of(name, again, **tasks), changed, rtol=1e-5, atol=1e-5)
    found = family.written(model, **tasks)
    assert torch.equal(family.written(again, **tasks), found)
    assert family.written(model, num_beams=2, **tasks).shape == found.shape
    if row.restores:
        with model.disable_adapter():
            assert torch.equal(logits_of(name, model), plain)
            assert torch.equal(family.written(model), family.written(base))


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair in REFUSED])
def test_what_a_model_cannot_take_is_refused_with_the_reason(made: dict[str, Any], name: str, kind: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[name, kind]):
        tuned(made[name], ROWS[kind].method, **ROWS[kind].options)


def test_a_prompt_says_whose_masks_it_cannot_lengthen(made: dict[str, Any]) -> None:
    model = tuned(made["paligemma"], "prompts", decoder_prompt_len=2)
    with pytest.raises(UsageError, match=r"a prompt lengthens a mask \[batch, positions\].*use the method prefix"):
        loss_of("paligemma", model)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_attention_and_feedforward_is_found_and_parts_can_be_left_out(made: dict[str, Any], name: str) -> None:
    family, base = FAMILIES[name], made[name]

    def stacks(*words: str, **options: Any) -> set[str]:
        return {site.stack for site in find_sites(base, words, **options)}

    between = {"qformer.encoder.layer"} if name in CONNECTED else set[str]()
    for word in ("attention", "feedforward"):
        assert stacks(word) == {family.vision, *family.language, *between}
        assert stacks(word, leave_out=["language_model"]) == {family.vision, *between}
        pictures = ["vision", "connector"] if between else ["vision"]
        found = find_sites(base, [word], leave_out=pictures)
        assert {site.stack for site in found} == {*family.language}
        assert all(site.entry is not None for site in find_sites(base, [word]))
    if not between:
        with pytest.raises(UsageError, match="leave_out names 'connector', and there is no such layer, module or part"):
            find_sites(base, ["attention"], leave_out=["connector"])
    with pytest.raises(UsageError, match="leave_out leaves no module"):
        find_sites(base, ["attention"], leave_out=["language_model", *(["connector"] if between else []), "vision"])


def test_florence_2_has_two_kinds_of_attention_and_blip_2_two_feedforwards(made: dict[str, Any]) -> None:
    found = find_sites(made["florence2"], ["attention"], leave_out=["language_model"])
    assert [site.path.rpartition("block.")[2] for site in found] == ["window_attn.proj", "channel_attn.proj"] * 2
    found = find_sites(made["instructblip"], ["feedforward"], leave_out=["language_model", "vision"])
    assert {site.path.rpartition(".1.")[2] for site in found if site.layer == 1} == {
        "output.dense", "output_query.dense",
    }  # fmt: skip


def test_a_prefix_may_be_left_out_of_parts(made: dict[str, Any]) -> None:
    for name, left, part in (("florence2", "vision", "language"), ("git", "language_model", "vision")):
        placement = METHODS["prefix"].place(made[name], config_class("prefix")(prefix_len=2, leave_out=[left]))
        assert {part_of(made[name], path) for path in placement.adapters} == {part}


def test_a_prefix_beside_a_joined_map_is_that_of_a_plain_computation(made: dict[str, Any]) -> None:
    """BLIP-2 makes queries, keys and values of pictures by one map."""
    model = scatter(tuned(made["blip_2_opt"], "prefix", prefix_len=3, leave_out=["language_model", "connector"]))
    site: Any = model.get_base_model().get_submodule("vision_model.encoder.layers.1.self_attn")
    seen: dict[str, Tensor] = {}
    site.base_layer.qkv.register_forward_hook(lambda module, args, output: seen.update(joined=output))
    site.base_layer.projection.register_forward_hook(lambda module, args, output: seen.update(found=args[0]))
    loss_of("blip_2_opt", model)
    queries, keys, values = seen["joined"].unflatten(-1, (3, 2, 8)).movedim(2, 0)  # each [pictures, pieces, heads, 8]
    prefix: Any = next(part for part in site.modules() if hasattr(part, "gate"))
    own_keys, own_values = prefix.vectors(queries).unflatten(-1, (2, 2, 8)).movedim(2, 0)
    gate = torch.tanh(prefix.gate)[0]
    for picture in range(2):
        for head in range(2):
            of = (picture, slice(None), head)
            within = (queries[of] @ keys[of].T / 8**0.5).softmax(-1) @ values[of]
            beside = (queries[of] @ own_keys[of].T / 8**0.5).softmax(-1) @ own_values[of]
            found = seen["found"][picture].unflatten(-1, (2, 8))[:, head]
            torch.testing.assert_close(found, within + gate[head] * beside, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_a_prompt_stands_before_pictures_and_words(made: dict[str, Any], name: str) -> None:
    """It is what it would be to hand the language model so many more positions, which are the first ones."""
    base = made[name]
    model = scatter(tuned(base, "prompts", decoder_prompt_len=3))
    stack, given = base.model.language_model, dict[str, Any]()
    handle = stack.register_forward_pre_hook(lambda module, args, kwargs: given.update(kwargs), with_kwargs=True)
    logits_of(name, base)
    handle.remove()
    prompt = next(value for key, value in model.named_parameters() if value.requires_grad).detach()
    longer = torch.cat([prompt.expand(2, -1, -1), given["inputs_embeds"]], 1)
    mask = torch.cat([torch.ones(2, 3, dtype=torch.long), FAMILIES[name].batch()["attention_mask"]], 1)
    positions = given["position_ids"]
    if positions is not None:
        first = torch.arange(3).expand(*positions.shape[:-1], 3)
        positions = torch.cat([first, positions + 3], -1)
    with torch.no_grad():
        states = stack(inputs_embeds=longer, attention_mask=mask, position_ids=positions).last_hidden_state
        expected = base.lm_head(states[:, 3:])
    real = FAMILIES[name].batch()["attention_mask"].bool()
    torch.testing.assert_close(logits_of(name, model)[real], expected[real], rtol=1e-4, atol=1e-5)


# Tasks


@pytest.mark.parametrize("method", ["bottleneck", "hyperformer", "task_lora", "prefix"])
def test_weights_for_each_task_are_refused_where_rows_are_pictures(made: dict[str, Any], method: str) -> None:
    """An example may have several pictures, or none: rows would go to others' weights, and nobody would notice."""
    options = {"tasks": TASKS, **({} if method in ("task_lora", "prefix") else {"reduction_factor": 4})}
    with pytest.raises(UsageError, match=r"are pictures and not examples.*leave_out: .vision"):
        tuned(made["smolvlm"], method, **options)
    with pytest.raises(UsageError, match=r"leave_out: .connector"):
        tuned(made["blip_2_t5"], method, leave_out=["vision"] if method != "task_lora" else [], **options)
    parts = [{"method": method, **options}]
    with pytest.raises(UsageError, match="are pictures and not examples"):
        tuned(made["smolvlm"], "composite", parts=parts)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "git", "blip", "blip_2_t5", "kosmos2"])
def test_examples_of_a_batch_go_to_their_own_tasks(made: dict[str, Any], name: str) -> None:
    options = options_of(name, Row("bottleneck", {"reduction_factor": 2, "tasks": TASKS}))
    model = scatter(tuned(made[name], "bottleneck", **options))

    mixed = logits_of(name, model, tasks=TASKS)
    for row, task in enumerate(TASKS):
        torch.testing.assert_close(mixed[row], logits_of(name, model, tasks=[task] * 2)[row], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(mixed[row], logits_of(name, model, tasks=TASKS[::-1])[row], atol=1e-3)
    beams = FAMILIES[name].written(model, num_beams=3, tasks=["vqa", "caption"])
    again = FAMILIES[name].written(model, num_beams=3, tasks=["caption", "caption"])
    assert torch.equal(beams[1], again[1])


def test_examples_may_have_other_numbers_of_pictures(made: dict[str, Any]) -> None:
    """Three pictures, two of them in the first example: rows of the image encoder are no longer examples."""
    batch = FAMILIES["llava"].batch()
    ids = batch["input_ids"]
    first = torch.cat([ids[0, :4], ids[0]])
    second = torch.cat([ids[1], torch.zeros(4, dtype=torch.long)])
    batch["input_ids"] = torch.stack([first, second])
    batch["attention_mask"] = (batch["input_ids"] != 0).long()
    batch["labels"] = batch["input_ids"].where(batch["input_ids"] % 39 != 0, torch.tensor(-100))
    batch["pixel_values"] = torch.cat([batch["pixel_values"], batch["pixel_values"][:1] + 1])
    base = made["llava"]
    everywhere = tuned(base, "bottleneck", reduction_factor=4)
    with torch.no_grad():
        assert torch.equal(everywhere(**batch).loss, base(**batch).loss)
    model = tuned(base, "bottleneck", reduction_factor=4, leave_out=["vision"], tasks=TASKS)
    model(**batch, tasks=["caption", "vqa"]).loss.backward()
    assert all(value.grad is not None for key, value in model.named_parameters() if value.requires_grad)


# Gates, heads, rules


def test_a_mean_over_positions_is_refused_where_words_to_come_would_be_seen(made: dict[str, Any]) -> None:
    """Neither GIT nor BLIP says so of any module of its decoder."""
    for name in ("git", "blip", "llava", "blip_2_opt"):
        with pytest.raises(UsageError, match=r"may not see those to come.*leave_out: \[language_model"):
            tuned(made[name], "bottleneck", reduction_factor=4, gate="small")
        model = tuned(made[name], "bottleneck", reduction_factor=4, gate="small", leave_out=["language_model"])
        assert torch.equal(loss_of(name, model), loss_of(name, made[name]))


def test_which_layers_see_their_past_alone(made: dict[str, Any]) -> None:
    found = {
        (name, stack): sees_its_past_alone(made[name], f"{stack}.0")
        for name, family in FAMILIES.items()
        for stack in (*family.language, family.vision)
    }
    whole = {(name, family.vision) for name, family in FAMILIES.items()}
    encoders = {("blip_answers", "text_encoder.encoder.layer")}
    coupled = {(name, s) for name in ("blip_2_t5", "instructblip", "florence2") for s in FAMILIES[name].language}
    assert {pair for pair, past in found.items() if not past} == whole | encoders | coupled


@pytest.mark.parametrize("name", FAMILIES)
def test_the_map_to_the_vocabulary_is_found(made: dict[str, Any], name: str) -> None:
    base = made[name]
    head: Any = output_map(base)
    assert head.weight.shape == (40, 16)
    (path,) = METHODS["head"].place(base, config_class("head")(reduction_factor=4)).adapters
    assert base.get_submodule(path) is head and part_of(base, path) == "language"
    tied = {key for key, value in base.named_parameters() if value is head.weight}
    assert tied & {*select(base, ["head"]).names}
    second = tuned(base, "head", reduction_factor=4)
    second.add_adapter("second", config_class("head")(reduction_factor=8))
    second.set_adapter("second")
    assert torch.equal(loss_of(name, second.eval()), loss_of(name, base))


@pytest.mark.parametrize("name", FAMILIES)
def test_words_for_parts_share_a_model_out(made: dict[str, Any], name: str) -> None:
    base = made[name]
    words = ["language_model", "vision", *(["connector"] if not name.startswith("blip_a") and name != "blip" else [])]
    parts = [{*select(base, [word]).names} for word in words]
    every = {key for key, _ in base.named_parameters()}
    assert set().union(*parts) == every and sum(map(len, parts)) == len(every)
    last = select(base, ["last_layer"]).names
    assert {key.partition(".1.")[0] for key in last} == {*FAMILIES[name].language}


# Ladders


@pytest.mark.parametrize("name", FAMILIES)
def test_a_ladder_stands_beside_the_language_model(made: dict[str, Any], name: str) -> None:
    family, base = FAMILIES[name], made[name]
    placement = METHODS["ladder"].place(base, config_class("ladder")(reduction_factor=4))
    assert {path.rpartition(".")[0] for path, part in placement.adapters.items() if isinstance(part, Rung)} == {
        *family.language
    }
    unread = any(part_of(base, stack.path) != "language" for stack in find_stacks(base))
    assert ("let no gradient back" in placement.notes[-1]) == unread
    if name != "kosmos2":  # which lists its image encoder behind its language model
        model = tuned(base, "ladder", reduction_factor=4).train()
        towers = [module for path, module in model.named_modules() if path.endswith(family.vision)]
        assert towers and not any(module.training for tower in towers for module in tower.modules())


def test_a_ladder_beside_pictures_alone_learns(made: dict[str, Any]) -> None:
    model = tuned(made["smolvlm"], "ladder", reduction_factor=4, target_modules=["model.vision_model.encoder"])
    FAMILIES["smolvlm"].pass_of(scatter(model)).loss.backward()
    trained = [value for value in model.parameters() if value.requires_grad]
    assert trained and all(value.grad is not None and value.grad.any() for value in trained)
    by_word = tuned(made["smolvlm"], "ladder", reduction_factor=4, leave_out=["language_model"])
    assert sum(v.numel() for v in by_word.parameters() if v.requires_grad) == sum(v.numel() for v in trained)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("llava", {"target_modules": ["*vision_tower*"]}, "reads layer -2 of its image encoder .vision_feature_layer"),
        ("smolvlm", {"leave_out": ["language_model"], "cache": "x"}, "rows of model.vision_model.encoder are pictures"),
        ("smolvlm", {"leave_out": ["connector"]}, "leave_out names connector, and SmolVLM.*no stack of layers there"),
        ("smolvlm", {"leave_out": ["language_model", "vision"]}, "no stack is left.*without language, vision"),
        ("blip_2_t5", {"target_modules": ["qformer.encoder", "language_model.encoder"]}, "nobody knows which of"),
    ],
)
def test_ladders_that_could_not_learn_are_refused(
    made: dict[str, Any], name: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    options = {**options, **({"cache": str(tmp_path)} if "cache" in options else {})}
    with pytest.raises(UsageError, match=said):
        tuned(made[name], "ladder", reduction_factor=4, **options)


def test_a_ladder_needs_rows(made: dict[str, Any]) -> None:
    model = tuned(made["qwen2_vl"], "ladder", reduction_factor=4, target_modules=["model.visual"])
    with pytest.raises(UsageError, match=r"model.visual got states of shape \[32, 16\].*no rows"):
        loss_of("qwen2_vl", model)


def test_layers_of_other_widths_are_no_stack_for_a_ladder(made: dict[str, Any]) -> None:
    assert [stack.path for stack in find_stacks(made["florence2"])] == [
        "model.language_model.encoder", "model.language_model.decoder",
    ]  # fmt: skip


# By the section of a config


def test_methods_are_attached_and_say_what_is_trained(made: dict[str, Any]) -> None:
    base = copy.deepcopy(made["qwen2_vl"])
    names = {key: value.detach().clone() for key, value in base.named_parameters()}
    section = Peft(method="bottleneck", options={"reduction_factor": 4, "leave_out": ["vision"]}, train=["connector"])
    attached = attach(base, section)
    merger = sum(value.numel() for key, value in names.items() if ".merger." in key)
    assert attached.trainable == 4 * (2 * 16 * 4 + 4 + 16) + merger
    assert attached.total == sum(value.numel() for value in names.values()) + attached.trainable - merger
    assert "2 attention in model.language_model.layers" in attached.notes[1]
    everywhere = attach(copy.deepcopy(made["qwen2_vl"]), Peft(method="bottleneck", options={"reduction_factor": 4}))
    assert any("alike: leave parts out by leave_out (language_model, vision)" in note for note in everywhere.notes)
    theirs = Peft(method="lora", options={"r": 2, "target_modules": ["q_proj", "qkv"]})
    found = attach(copy.deepcopy(made["qwen2_vl"]), theirs)
    assert any("alike: name modules by target_modules" in note for note in found.notes)
    FAMILIES["qwen2_vl"].pass_of(found.model).loss.backward()
    assert found.trainable == sum(value.numel() for value in found.model.parameters() if value.grad is not None)


@pytest.mark.parametrize("name", [name for name in CORE if name != "git"])
def test_gradients_are_the_same_when_layers_are_computed_twice(made: dict[str, Any], name: str) -> None:
    """GIT adds positions to its embeddings in place, which transformers' own checkpointing does not survive."""
    model = scatter(tuned(made[name], "bottleneck", reduction_factor=4))

    def gradients() -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        FAMILIES[name].pass_of(model).loss.backward()
        return {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}

    expected = gradients()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients()
    assert found.keys() == expected.keys() and expected
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
