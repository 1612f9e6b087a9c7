"""Outputs of bottleneck adapters and Compacter beside those of the library `adapters` 1.3, with copied weights.

Small BERT, BART and T5 models with random weights, a padded batch, weights of adapters made up by the peer and copied
to ours; what is compared are the last hidden states of all stacks, at all positions, in float32 and float64. The peer
runs in a Python of its own, named by --peer, for it needs another transformers than ours (`python -m venv peer;
peer/bin/pip install 'adapters==1.3.*' torch`).

    OMP_NUM_THREADS=1 python benchmarks/adapters_peer.py --peer peer/bin/python

Prints a Markdown table of what is the same function in both, and one of what is placed otherwise by design, where ours
is the nearest there is. Ends with 1 where the models differ without adapters, or something of the first table is above
its bar. What T5 differs by in float64 is theirs: the older transformers has its softmax in float32.

Dropout is off. In training theirs stands behind the dropout of its sub-layer's output, ours before it; and its own
dropout is on what it adds, ours on what its bottleneck holds. Their gate is a mean over all positions, in decoders too,
where ours is refused; it begins at a half, ours at 1, so that ours with half the scale is the same. They number the
layers of a decoder on from the encoder's, we begin anew. No counterpart here: a scale for each channel, large factors
of Compacter shared by all maps, invertible adapters.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from measure import machine, table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from quincunx.tuners.adapter import Placement, inject
from quincunx.tuners.methods import METHODS
from quincunx.tuners.residual import ResidualAdapter

BAR = 1e-5
BASE_BAR = 1e-6
"""How near the models are to be without adapters."""
DTYPES = (torch.float32, torch.float64)
SEQ2SEQ = ["input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"]
MODELS: Mapping[str, dict[str, Any]] = {
    "bert": {
        "config": "BertConfig",
        "model": "BertModel",
        "inputs": ["input_ids", "attention_mask"],
        "sizes": {
            "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 32,
        },
    },
    "bart": {
        "config": "BartConfig",
        "model": "BartModel",
        "inputs": SEQ2SEQ,
        "sizes": {
            "vocab_size": 100, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 32,
        },
    },
    "t5": {
        "config": "T5Config",
        "model": "T5Model",
        "inputs": SEQ2SEQ,
        "sizes": {
            "vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
            "attn_implementation": "eager",  # the peer's transformers has no other for T5
        },
    },
}  # fmt: skip

HOMES = {"attention_adapters": "self_attn", "cross_attention_adapters": "encoder_attn", "output_adapters": "fc2"}
"""Where theirs are modules of their own beside what they adapt: that module."""
PARTS = {"adapter_norm_before": "norm_before", "adapter_norm_after": "norm_after", "gate": "gate.score"}
WEIGHTS = {
    "weight": "weight", "bias": "bias", "b": "bias", "W_left": "left", "W_right": "weight", "W": "weight",
    "phm_rule": "rule.weight", "phm_rule_left": "rule.weight", "phm_rule_right": "rule.row",
}  # fmt: skip
"""Tensors of a map, theirs -> ours."""


@dataclass(frozen=True)
class Variant:
    """An adapter in the words of both."""

    model: str
    config: str
    """Their class."""
    theirs: dict[str, Any]
    ours: dict[str, Any]
    method: str = "bottleneck"
    fold: float = 1.0
    """Their factor inside a norm, where we have none: goes into the second map."""
    differs: str = ""
    """What is not the same function, if anything."""

    @property
    def request(self) -> dict[str, Any]:
        """What the peer is told."""
        return {"model": self.model, "config": self.config, "options": self.theirs}


HOULSBY, PARALLEL, PFEIFFER, COMPACTER = "DoubleSeqBnConfig", "ParBnConfig", "SeqBnConfig", "CompacterConfig"
ALL_SITES = {"cross_adapter": True, "reduction_factor": 4}
"""Theirs leave cross-attention out unless told."""
SWISH = {"reduction_factor": 4, "activation": "silu"}
PHM = {"cross_adapter": True, "reduction_factor": 4, "phm_dim": 4}
OUR_PHM = {"reduction_factor": 4, "activation": "gelu", "hypercomplex_division": 4}
NORM_BEFORE = (
    "theirs is fed the output with its residual, normed where the model has a norm there; ours the output alone"
)


def compacter(model: str, theirs: dict[str, Any] | None = None, ours: dict[str, Any] | None = None) -> Variant:
    """Return a variant of Compacter with some options."""
    return Variant(model, COMPACTER, {**PHM, **(theirs or {})}, {**OUR_PHM, **(ours or {})}, method="compacter")


SAME: Mapping[str, Variant] = {
    **{f"sequential, {model}": Variant(model, HOULSBY, ALL_SITES, SWISH) for model in MODELS},
    "feedforward only": Variant(
        "bart", HOULSBY, {"mh_adapter": False, "reduction_factor": 4}, {**SWISH, "sites": ["feedforward"]}
    ),
    "norms before and after": Variant(
        "bart", HOULSBY, {**ALL_SITES, "ln_before": True, "ln_after": True},
        {**SWISH, "norm_before": True, "norm_after": True},
    ),
    "norm after, scaled": Variant(
        "bert", HOULSBY, {**ALL_SITES, "ln_after": True, "scaling": 4.0}, {**SWISH, "norm_after": True}, fold=4.0
    ),
    "scaled": Variant("t5", HOULSBY, {**ALL_SITES, "scaling": 4.0}, {**SWISH, "scale": 4.0}),
    "learned scale": Variant("bart", HOULSBY, {**ALL_SITES, "scaling": "learned"}, {**SWISH, "learned_scale": True}),
    "gated": Variant(
        "bert", HOULSBY, {**ALL_SITES, "use_gating": True},
        {**SWISH, "gate": "small", "gate_of": "change", "scale": 0.5},
    ),
    "by layer": Variant(
        "bert", HOULSBY, {"reduction_factor": {"0": 2, "default": 8}, "non_linearity": "gelu_new"},
        {"reduction_factor": 8, "reduction_factors": {"0": 2}, "activation": "gelu_new"},
    ),
    "layers left out": Variant(
        "bert", HOULSBY, {**ALL_SITES, "leave_out": [0], "non_linearity": "tanh"},
        {"reduction_factor": 4, "leave_out": [0], "activation": "tanh"},
    ),
    **{
        f"parallel, scaled, {model}": Variant(
            model, PARALLEL, {"reduction_factor": 2},
            {"reduction_factor": 2, "activation": "relu", "parallel": True, "scale": 4.0, "sites": ["feedforward"]},
        )
        for model in ("bert", "bart")
    },
    "parallel, all sites, norms": Variant(
        "bart", PARALLEL, {**ALL_SITES, "mh_adapter": True, "scaling": 1.0, "ln_before": True, "ln_after": True},
        {"reduction_factor": 4, "activation": "relu", "parallel": True, "norm_before": True, "norm_after": True},
    ),
    "parallel, scaled, gated": Variant(
        "bert", PARALLEL, {"mh_adapter": True, "use_gating": True, "scaling": 4.0},
        {
            "reduction_factor": 2, "activation": "relu", "parallel": True, "gate": "small", "gate_of": "change",
            "scale": 2.0,
        },
    ),
    **{f"compacter, {model}": compacter(model) for model in MODELS},
    "compacter, rank 2": compacter("bart", {"phm_rank": 2}, {"phm_rank": 2}),
    "compacter, n = 2": compacter("bert", {"phm_dim": 2}, {"hypercomplex_division": 2}),
    "compacter, dense weights": compacter("bart", {"factorized_phm_W": False}, {"factorized_phm": False}),
    "compacter, own rules": compacter("bart", {"shared_phm_rule": False}, {"phm_rule": "none"}),
    "compacter, factorized rule": compacter("bart", {"factorized_phm_rule": True}, {"factorized_phm_rule": True}),
    "compacter, own factorized rules": compacter(
        "t5", {"shared_phm_rule": False, "factorized_phm_rule": True},
        {"phm_rule": "none", "factorized_phm_rule": True},
    ),
    "compacter, norms, scaled": compacter(
        "bart", {"ln_before": True, "scaling": 2.0}, {"norm_before": True, "scale": 2.0}
    ),
    "compacter, parallel": compacter("bert", {"is_parallel": True}, {"parallel": True}),
}  # fmt: skip
"""The same function in both."""

OTHERWISE: Mapping[str, Variant] = {
    **{
        f"Pfeiffer, {model}": Variant(
            model, PFEIFFER, {"reduction_factor": 4},
            {"reduction_factor": 4, "activation": "relu", "sites": ["feedforward"]}, differs=NORM_BEFORE,
        )
        for model in ("bert", "t5")
    },
    "Compacter++": Variant(
        "bert", "CompacterPlusPlusConfig", {"reduction_factor": 4}, {**OUR_PHM, "sites": ["feedforward"]},
        method="compacter", differs=NORM_BEFORE,
    ),
    "parallel, t5": Variant(
        "t5", PARALLEL, {"reduction_factor": 2},
        {"reduction_factor": 2, "activation": "relu", "parallel": True, "scale": 4.0, "sites": ["feedforward"]},
        differs="where norms stand before sub-layers, theirs is fed what comes before the norm; ours what the "
        "sub-layer's first map gets, behind it",
    ),
    "residual before the norm": Variant(
        "bert", HOULSBY, {**ALL_SITES, "ln_after": True, "adapter_residual_before_ln": True},
        {**SWISH, "norm_after": True}, differs="theirs norms the sum with the output, ours what is added to it",
    ),
}  # fmt: skip
"""What is placed otherwise by design."""


@dataclass
class Copied:
    """Their weights under our names: of each site's adapter by its path, and of the rule that all share."""

    sites: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, dict[str, Tensor]])
    rule: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


def copied(tensors: Mapping[str, Tensor], placement: Placement, variant: Variant) -> Copied:
    """Return their tensors under our names, for what was placed in our model."""
    found = Copied()
    paths = [path for path, part in placement.adapters.items() if isinstance(part, ResidualAdapter)]
    for name, value in tensors.items():
        if name.startswith("shared_parameters."):
            found.rule[WEIGHTS[name.rpartition(".")[2]].removeprefix("rule.")] = value
            continue
        home, _, rest = name.partition(".adapters.peer.")
        parent, _, last = home.rpartition(".")
        home = f"{parent}.{HOMES[last]}" if last in HOMES else home
        (path,) = (path for path in paths if path == home or path.startswith(f"{home}."))
        own = _own(rest, value, variant)
        if own is not None:
            found.sites.setdefault(path, {})[own[0]] = own[1]
    return found


def _own(name: str, value: Tensor, variant: Variant) -> tuple[str, Tensor] | None:
    """Return our name and form of one of an adapter's tensors; None where it is there under another name, too."""
    if name == "scaling":
        return "scale", value.squeeze()
    part, _, tensor = name.rpartition(".")
    if part == "gate":  # ours looks at the sub-layer's input, then at its output; theirs at what the adapter is fed
        if tensor == "weight":
            value = torch.cat([value, 0 * value] if variant.ours.get("parallel") else [0 * value, value], -1)
        return f"{PARTS[part]}.{tensor}", value
    if part in PARTS:
        return f"{PARTS[part]}.{tensor}", value
    match = re.fullmatch(r"adapter_(down|up)(?:\.(\d))?", part)
    if match is None:
        raise SystemExit(f"nobody knows what {name} is to be copied to")
    if match[1] == "down" and match[2] == "0" and variant.theirs.get("ln_before"):
        return None  # the norm, which is in that sequence as well
    if match[1] == "up":
        value = value * variant.fold if tensor in ("weight", "bias") else value
    return f"{match[1]}.{WEIGHTS[tensor]}", value.mT if tensor in ("W", "W_left") else value


def built(description: Mapping[str, Any]) -> Any:
    """Return a model with random weights, whatever is zero or one at the start among them."""
    torch.manual_seed(0)
    config = getattr(transformers, description["config"])(**description["sizes"])
    model: nn.Module = getattr(transformers, description["model"])(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batch(rows: int = 4, length: int = 11) -> dict[str, Tensor]:
    """Return a batch whose rows are padded behind, each to another length."""
    generator = torch.Generator().manual_seed(1)
    found: dict[str, Tensor] = {}
    for prefix in ("", "decoder_"):
        lengths = torch.tensor([length, length - 2, length - 5, 3]).repeat(rows // 4)
        mask = torch.arange(length) < lengths[:, None]
        found[f"{prefix}input_ids"] = torch.randint(5, 100, (rows, length), generator=generator).masked_fill(~mask, 1)
        found[f"{prefix}attention_mask"] = mask.long()
        length -= 3
    return found


def outputs(model: Any, inputs: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the last hidden states of a model's stacks."""
    with torch.no_grad():
        given = model.to(dtype)(**inputs)
    return {key: given[key] for key in ("last_hidden_state", "encoder_last_hidden_state") if key in given}


def largest(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], dtype: torch.dtype) -> float:
    """Return the largest difference between hidden states; theirs are of every precision."""
    pairs = ((value, theirs[f"{dtype}/{key}"]) for key, value in ours.items())
    return max(float((one - other).abs().max()) for one, other in pairs)


def tuned(variant: Variant, weights: Mapping[str, Tensor], model: nn.Module) -> nn.Module:
    """Return a model with adapters of ours that have their weights: every tensor of ours has one of theirs."""
    method = METHODS[variant.method]
    placement = method.place(model, method.config(**variant.ours))
    new = copied(weights, placement, variant)
    for path, part in placement.adapters.items():
        if isinstance(part, ResidualAdapter):
            part.load_state_dict(new.sites.pop(path))
    if len(placement.shared) or new.rule:
        placement.shared["rule"].load_state_dict(new.rule)
    model.quincunx_shared = inject(model, placement)  # so that it is cast with the model
    return model


class Comparison:
    """Both libraries' outputs for some variants."""

    def __init__(self, python: str, folder: Path, variants: Mapping[str, Variant]) -> None:
        self.folder, self.inputs = folder, batch()
        self.names = {name: re.sub(r"\W+", "-", name) for name in variants}
        for name, description in MODELS.items():
            save_file({key: value.clone() for key, value in built(description).state_dict().items()}, self._file(name))
        save_file(self.inputs, self._file("inputs"))
        requests = {self.names[name]: variant.request for name, variant in variants.items()}
        (folder / "request.json").write_text(json.dumps({"models": MODELS, "variants": requests}), encoding="utf-8")
        script = Path(__file__).with_name("adapters_peer_theirs.py")
        done = subprocess.run([python, str(script), str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the peer ended with {done.returncode}:\n{done.stderr[-3000:]}")
        self.versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _inputs(self, kind: str) -> dict[str, Tensor]:
        return {key: self.inputs[key] for key in MODELS[kind]["inputs"]}

    def bases(self) -> dict[str, float]:
        """Return how far the models differ without adapters, in float32."""
        found: dict[str, float] = {}
        for kind, description in MODELS.items():
            theirs = load_file(self._file(f"{kind}-base"))
            ours = outputs(built(description), self._inputs(kind), torch.float32)
            found[kind] = largest(ours, theirs, torch.float32)
        return found

    def differences(self, name: str, variant: Variant) -> tuple[float, float, float]:
        """Return how far outputs differ in float32 and in float64, and how far the adapters change them at all."""
        weights = load_file(self._file(f"{self.names[name]}-weights"))
        theirs = load_file(self._file(f"{self.names[name]}-outputs"))
        model = tuned(variant, weights, built(MODELS[variant.model]))
        single, double = (
            largest(outputs(model, self._inputs(variant.model), dtype), theirs, dtype) for dtype in DTYPES
        )
        base = outputs(built(MODELS[variant.model]), self._inputs(variant.model), torch.float32)
        return single, double, largest(base, theirs, torch.float32)


def shown(options: Mapping[str, Any]) -> str:
    """Return options in a cell of a table."""
    return ", ".join(f"{key}={value}" for key, value in options.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="Adapters beside those of the library adapters")
    parser.add_argument("--peer", metavar="PYTHON", required=True, help="one that has adapters 1.3")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        comparison = Comparison(arguments.peer, Path(name), {**SAME, **OTHERWISE})
        versions = ", ".join(f"{key} {value}" for key, value in comparison.versions.items())
        print(f"{machine(torch.get_num_threads())}; transformers {transformers.__version__}\npeer: {versions}\n")
        bases = comparison.bases()
        print("without adapters: " + ", ".join(f"{kind} {value:.1e}" for kind, value in bases.items()) + "\n")
        passed = all(value <= BASE_BAR for value in bases.values())
        rows: list[list[str]] = []
        for label, variant in SAME.items():
            single, double, change = comparison.differences(label, variant)
            passed = passed and single <= BAR  # which nothing that is no number is
            rows.append(
                [
                    label, variant.model, f"{variant.config}({shown(variant.theirs)})", shown(variant.ours),
                    f"{single:.1e}", f"{double:.1e}", f"{change:.2f}",
                ]
            )  # fmt: skip
        head = ["", "model", "theirs", "ours", f"largest difference, float32 (bar {BAR:.0e})", "float64"]
        print(table([*head, "changed by the adapters"], rows))
        print("\nOtherwise by design: the nearest of ours with the same weights\n")
        others: list[list[str]] = []
        for label, variant in OTHERWISE.items():
            single, _, change = comparison.differences(label, variant)
            others.append([label, variant.model, variant.config, variant.differs, f"{single:.2f}", f"{change:.2f}"])
        print(table(["", "model", "theirs", "what differs", "largest difference", "changed by the adapters"], others))
        if not passed:
            sys.exit(1)


if __name__ == "__main__":
    main()
