"""Methods of peft by their names: what is trained, that nothing changes at the start, checkpoints, and refusals."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.config.document import ConfigError, Document
from quincunx.config.load import load
from quincunx.config.schema import RecipeSchema, Section
from quincunx.config.sections.peft import Peft
from quincunx.engine.checkpoint import Checkpoints, load_weights
from quincunx.engine.experiment import Parts
from quincunx.engine.footprint import count_groups
from quincunx.engine.objective import Objective
from quincunx.engine.optim import trainable
from quincunx.errors import CheckpointError, MissingExtra, UsageError
from quincunx.tuners import Attached, attach, check_peft
from quincunx.tuners.attaching import PROMPTS
from quincunx.tuners.peft_limits import UNSUITED
from tiny_models import MODELS

transformers = pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("peft", reason="needs peft")

WIDTH, LAYERS = 16, 2

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 8},
    "fourierft": {"n_frequency": 20},
    "ln_tuning": {"target_modules": ["LayerNorm"]},
    "lora": {"r": 4, "target_modules": ["query", "value"]},
    "miss": {"r": 4},
    "oft": {"oft_block_size": 4},
    "p_tuning": {"num_virtual_tokens": 3},
    "prefix_tuning": {"num_virtual_tokens": 3},
    "prompt_tuning": {"num_virtual_tokens": 3},
    "psoft": {"r": 8},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "trainable_tokens": {"token_indices": [1, 2]},
    "vblora": {"vector_length": 16, "num_vectors": 8},
    "waveft": {"n_frequency": 20},
}
"""What does not fit the tiny model by peft's defaults, or must be given."""
MOVED = {*PROMPTS, "c3a", "fourierft", "lily", "randlora", "vblora", "waveft", "unilora"}
"""Methods that peft does not begin with no change."""


def methods() -> list[str]:
    from peft import PeftType

    return [kind.value.lower() for kind in PeftType if kind.value.lower() not in UNSUITED]


def bert(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False)


TOKENS = torch.tensor([[2, 7, 1, 9, 4, 3], [2, 5, 3, 0, 0, 0], [1, 2, 8, 8, 3, 0]])
MASK = (TOKENS != 0).long()


def states(model: nn.Module, tokens: Tensor = TOKENS, mask: Tensor = MASK) -> Tensor:
    """Return the states of the valid tokens `[tokens, D]`."""
    found = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    assert found.shape == (*tokens.shape, WIDTH)
    return found[mask.bool()]


def section(method: str | None = "lora", train: list[str] | None = None, **options: Any) -> Peft:
    return Peft(method=method, train=train, options={**OPTIONS.get(method or "", {}), **options})


def loss(model: nn.Module) -> Tensor:
    """Return something that depends on every state (the last norm makes a sum of squares of them a constant)."""
    found = states(model)
    return (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum()


def disturb(attached: Attached) -> None:
    """Move everything that is trained a little."""
    torch.manual_seed(17)
    with torch.no_grad():
        for parameter in attached.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def test_lora_starts_from_the_model_and_trains_the_adapters_alone() -> None:
    model = bert()
    before = states(model)
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    attached = attach(model, section(r=4, lora_alpha=8))
    assert attached.model is model
    assert torch.equal(states(model), before)
    assert attached.modules == tuple(
        f"encoder.layer.{layer}.attention.self.{name}" for layer in range(LAYERS) for name in ("query", "value")
    )
    trained = dict(trainable([model]))
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert attached.trainable == sum(p.numel() for p in trained.values()) == LAYERS * 2 * 2 * 4 * WIDTH
    assert attached.total == attached.trainable + sum(weight.numel() for weight in weights.values())
    assert f"lora in 4 modules: {attached.trainable:,} of {attached.total:,} parameters" in attached.notes[0]

    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    for _ in range(2):  # B is zero at first, and so is the gradient of A
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    after = {name.replace(".base_layer", ""): parameter for name, parameter in model.named_parameters()}
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained.values())
    assert not torch.allclose(states(model), before)


def test_lora_is_the_sum_that_its_paper_writes() -> None:
    """W x + (alpha / r) B A x, Hu et al. 2021 (arXiv 2106.09685), equation 3."""
    model = bert()
    attached = attach(model, section(r=4, lora_alpha=12))
    disturb(attached)
    layer: Any = model.get_submodule("encoder.layer.0.attention.self.query")
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(5, WIDTH)
    expected = x @ layer.base_layer.weight.T + layer.base_layer.bias + 3.0 * (x @ down.T @ up.T)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("method", methods())
def test_every_method_trains_little_and_comes_back_from_a_checkpoint(method: str, tmp_path: Path) -> None:
    """Built again from another seed, the model has the same outputs once the checkpoint is loaded, strictly."""
    model = bert().eval()
    before = states(model)
    attached = attach(model, section(method))
    assert attached.model.training is False
    if method not in MOVED:
        torch.testing.assert_close(states(attached.model), before, rtol=1e-5, atol=1e-5)
    assert 0 < attached.trainable < attached.total
    disturb(attached)
    loss(attached.model).backward()
    grown = [name for name, p in attached.model.named_parameters() if p.requires_grad and p.grad is None]
    assert not grown
    wanted = states(attached.model)
    if method != "trainable_tokens":
        assert (wanted - before).abs().max() > 1e-4

    torch.manual_seed(99)
    again = attach(copy.deepcopy(bert()).eval(), section(method))
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(1, {"model": attached.model.state_dict()}, {}, {})
    assert load_weights(again.model, checkpoints.load(path).weights["model"], "it") == []
    torch.testing.assert_close(states(again.model), wanted, rtol=0, atol=0)


def test_a_checkpoint_with_other_adapters_does_not_load() -> None:
    small, large = attach(bert(), section(r=2)), attach(bert(), section(r=4))
    with pytest.raises(CheckpointError, match=r"of another shape: .*lora_A\.default\.weight is \[2, 16\]"):
        load_weights(large.model, small.model.state_dict(), "it")
    with pytest.raises(CheckpointError, match=r"missing: .*lora_A"):
        load_weights(large.model, bert().state_dict(), "it")


@pytest.mark.parametrize("method", PROMPTS)
def test_a_prompt_stands_before_every_text_and_out_of_its_states(method: str) -> None:
    """A text has the same states whatever it is padded to, and the prompt's own states are not among them."""
    attached = attach(bert().eval(), section(method))
    assert attached.virtual_tokens == 3
    disturb(attached)
    together = attached.model(input_ids=TOKENS, attention_mask=MASK).last_hidden_state
    for row, count in enumerate(MASK.sum(1).tolist()):
        alone = states(attached.model, TOKENS[row : row + 1, :count], MASK[row : row + 1, :count])
        torch.testing.assert_close(together[row, :count], alone, rtol=1e-4, atol=1e-5)
    longest = SIZES["max_position_embeddings"] - attached.virtual_tokens
    full = torch.full((1, longest), 5)
    assert states(attached.model, full, torch.ones_like(full)).isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        states(attached.model, torch.full((1, longest + 1), 5), torch.ones(1, longest + 1))


def test_prompt_tuning_is_the_model_on_longer_embeddings() -> None:
    model = bert().eval()
    plain = copy.deepcopy(model)
    attached = attach(model, section("prompt_tuning"))
    [prompt] = [p for p in attached.model.parameters() if p.requires_grad]
    words = plain.embeddings.word_embeddings(TOKENS)  # pyright: ignore[reportCallIssue]
    embedded = torch.cat([prompt.expand(3, 3, WIDTH), words], dim=1)
    mask = torch.cat([torch.ones(3, 3), MASK], dim=1)
    expected = plain(inputs_embeds=embedded, attention_mask=mask).last_hidden_state[:, 3:]
    torch.testing.assert_close(states(attached.model), expected[MASK.bool()])


def test_a_model_that_takes_no_notice_of_a_prompt_is_refused() -> None:
    config = transformers.DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    with pytest.raises(UsageError, match=r"prefix_tuning"):
        attach(transformers.DistilBertModel(config), section("prefix_tuning"))


def test_further_parameters_are_trained_by_their_names() -> None:
    model = bert()
    attached = attach(model, section("lora", train=["embeddings", "*.1.output.LayerNorm.*", "*.1.*.query.bias"]))
    trained = {name for name, _ in trainable([attached.model]) if "lora" not in name}
    assert trained == {
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias",
        "encoder.layer.1.output.LayerNorm.weight",
        "encoder.layer.1.output.LayerNorm.bias",
        "encoder.layer.1.attention.self.query.base_layer.bias",
    }


def test_without_a_method_only_what_is_named_is_trained() -> None:
    model = bert()
    attached = attach(model, section(None, train=["*.bias"]))
    assert attached.model is model
    assert all(parameter.requires_grad == name.endswith(".bias") for name, parameter in model.named_parameters())
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith(".bias"))
    assert attached.trainable == biases
    whole = attach(bert(), Peft())
    assert whole.trainable == whole.total == sum(p.numel() for p in whole.model.parameters())


def test_adapters_in_a_model_that_is_trained_whole_are_said_to_add_nothing() -> None:
    assert "trained whole, so the adapters add nothing" in attach(bert(), section(train=["*"])).notes[0]


def test_names_that_are_not_there_are_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"peft\.train: .* the name embedings; did you mean embeddings"):
        attach(bert(), section(train=["embedings"]))
    with pytest.raises(UsageError, match=r"Target modules .*q_proj.* dense, key, query, value.*target_modules"):
        attach(bert(), section(target_modules=["q_proj"]))
    with pytest.raises(UsageError, match=r"target_modules.*named dense, key, query, value"):
        attach(bert(), Peft(method="ln_tuning"))


def test_options_that_name_nothing_in_the_model_are_refused() -> None:
    with pytest.raises(UsageError, match=r"rank_pattern keys did not match .*kuery"):
        attach(bert(), section(rank_pattern={"kuery": 8}))
    with pytest.raises(UsageError, match=r"exclude_modules=.*kuery"):
        attach(bert(), section(exclude_modules=["kuery"]))


def test_what_peft_warns_of_is_said() -> None:
    notes = attach(bert(), section("vera", r=4, save_projection=False)).notes
    assert [note for note in notes if note.startswith("peft: ")] == []
    [note] = [note for note in attach(bert(), section(fan_in_fan_out=True)).notes if note.startswith("peft: ")]
    assert "fan_in_fan_out is set to True" in note


@pytest.mark.parametrize(
    ("given", "place", "said"),
    [
        ({"method": "loora"}, ("method",), "no method loora, here or in peft; did you mean lora?"),
        ({"method": "xyz"}, ("method",), "no method xyz, here or in peft; there are: lora, adamss"),
        ({"method": "xlora"}, ("method",), "xlora cannot be used: it mixes adapters"),
        ({"method": "lora", "options": {"lora_alfa": 2}}, ("options", "lora_alfa"), "did you mean lora_alpha?"),
        ({"method": "ia3", "options": {"rank": 2}}, ("options", "rank"), "no option rank; it takes target_modules"),
        ({"method": "lora", "options": {"task_type": "SEQ_CLS"}}, ("options", "task_type"), "says nothing here"),
        ({"method": "lora", "options": {"init_lora_weights": "eva"}}, ("options", "init_lora_weights"), "the data"),
        ({"method": "prefix_tuning"}, ("options",), "set peft.options.num_virtual_tokens"),
        ({"method": "lora", "options": {"layers_pattern": "layer"}}, ("options",), "lora refuses these options"),
    ],
)
def test_wrong_methods_and_options_are_told(given: dict[str, Any], place: tuple[str, ...], said: str) -> None:
    wrong = Peft(**given)
    [problem] = check_peft(wrong)
    assert problem.path == ("peft", *place)
    assert said in f"{problem.message}; {problem.remedy}"
    with pytest.raises(ConfigError):
        attach(bert(), wrong)


class Toy(Section):
    """A config that has nothing but adapters."""

    recipe: str = "toy"
    """The recipe."""
    peft: Peft = Peft()
    """Adapters."""


def test_problems_stand_at_their_place_in_the_file(tmp_path: Path) -> None:
    schema = RecipeSchema(name="toy", summary="", config=Toy)
    (file := tmp_path / "f.yaml").write_text("recipe: toy\npeft:\n  method: LoRA\n  options:\n    r: 4\n    alpha: 8\n")
    loaded = load(file, ["peft.options.lora_dropuot=0.1"], schemas=[schema])
    assert (loaded.config.peft.method, loaded.config.peft.options["r"], loaded.warnings) == ("lora", 4, [])
    alpha, dropout = check_peft(loaded.config.peft, loaded.document)
    assert alpha.mark is not None
    assert (alpha.mark.line, alpha.mark.column) == (6, 5)
    assert dropout.remedy == "did you mean lora_dropout?"
    idle = load({"recipe": "toy", "peft": {"options": {"r": 4}}}, schemas=[schema])
    assert ["peft.options` has no effect" in warning.message for warning in idle.warnings] == [True]


def test_peft_is_needed_only_for_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "peft" or name.startswith("peft.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert attach(bert(), Peft(train=["embeddings"])).trainable > 0
    with pytest.raises(MissingExtra, match=r"pip install 'quincunx\[peft\]'"):
        check_peft(Peft(method="lora"), Document({}))


class Sees(nn.Module):
    """A model of pictures and a model of words, named as vision-language models name them."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_tower, self.language_model = MODELS["clip"](), MODELS["llama"]()


def test_adapters_in_two_parts_or_everywhere_are_told() -> None:
    both = "adapters stand in language and vision alike"
    section = Peft(method="bottleneck", options={"reduction_factor": 4})
    assert any(both in note for note in attach(Sees(), section).notes)
    one = Peft(method="bottleneck", options={"reduction_factor": 4, "target_modules": ["language_model.*o_proj"]})
    assert not any(both in note for note in attach(Sees(), one).notes)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    everything = Peft(method="task_lora", options={"rank": 1, "target_modules": ["*"]})
    assert any("every linear map" in note for note in attach(model, everything).notes)


def test_norms_keep_their_statistics_where_they_have_some_and_else_it_is_said() -> None:
    words: Any = {"frozen_statistics": ["batch_norms", "layer_norms"]}
    resnet = MODELS["resnet"]()
    section = Peft(method="convolution", options={"adapter_type": "back-bottleneck"}, train=["batch_norms"], **words)
    notes = attach(resnet, section).notes
    assert "15 batch norms keep their statistics" in notes
    assert any("layer_norms changes nothing: ResNetForImageClassification has no layer norms" in n for n in notes)
    own = [m for n, m in resnet.train().named_modules() if isinstance(m, nn.BatchNorm2d) and "quincunx" not in n]
    assert len(own) == 15 and not any(norm.training for norm in own)
    assert all(norm.weight.requires_grad for norm in own)
    notes = attach(bert(), Peft(train=["embeddings"], **words)).notes
    assert any("batch_norms changes nothing: BertModel has no batch norms" in note for note in notes)
    assert any("layer_norms changes nothing: the 5 layer norms of BertModel have no statistics" in n for n in notes)


@pytest.mark.parametrize(("name", "value"), [("z_weight", 0.5), ("track_z", True)])
def test_a_method_without_a_bottleneck_has_nothing_to_regularise(name: str, value: Any) -> None:
    lacks = {"lora": {}, "task_lora": {}, "composite": {"parts": [{"method": "task_lora"}]}, "bitfit": {}}
    for method, options in lacks.items():
        (problem,) = check_peft(Peft.model_validate({"method": method, "options": options, name: value}))
        assert problem.path == ("peft", name) and problem.severity == "error"
        assert (
            f"peft.{name}: it looks into the bottlenecks of adapters, and method {method} has none" in problem.message
        )
    for method, options in (
        ("bottleneck", {}),
        ("head", {}),
        ("composite", {"parts": [{"method": "task_lora"}, {"method": "low_rank"}]}),
    ):
        assert not check_peft(Peft.model_validate({"method": method, "options": options, name: value}))


def test_what_is_trained_besides_may_be_said_by_words() -> None:
    model = MODELS["t5"]()
    attach(model, Peft(method="bottleneck", options={"reduction_factor": 4}, train=["norms", "relative_bias"]))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    besides = {name for name in trained if "quincunx" not in name}
    norms = {name for name, _ in MODELS["t5"]().named_parameters() if "norm" in name}
    assert len(norms) == 12 and {name for name in besides if "norm" in name} == norms
    assert besides - norms == {
        f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for stack in ("encoder", "decoder")
    }
    alone = MODELS["bert"]()
    attach(alone, Peft(train=["biases"]))
    assert {name for name, each in alone.named_parameters() if each.requires_grad} == {
        name for name, _ in alone.named_parameters() if name.endswith("bias")
    }
    with pytest.raises(UsageError, match="no parameters that are batch_norms"):
        attach(MODELS["t5"](), Peft(train=["batch_norms"]))


OURS_TOO: dict[str, dict[str, Any]] = {
    "bottleneck": {"reduction_factor": 4.0},
    "compacter": {"reduction_factor": 4.0, "hypercomplex_division": 2},
    "prefix": {"prefix_len": 2, "mid_dim": 4},
    "ladder": {"reduction_factor": 2.0},
}


@pytest.mark.parametrize("method", [*methods(), *OURS_TOO])
def test_what_stands_beside_the_model_is_counted_apart(method: str) -> None:
    """By where it is, so that a method of peft's whose parts have other names is none the less one."""
    model = bert()
    alone = sum(parameter.numel() for parameter in model.parameters())
    attached = attach(model, Peft(method=method, options={**OPTIONS, **OURS_TOO}.get(method, {})))
    found = count_groups(Parts(attached.model, Objective()))
    trained, apart = found.groups["adapters"]
    assert apart == found.total - alone
    assert sum(total for name, (_, total) in found.groups.items() if name != "adapters") == alone
    assert trained == found.trainable > 0
