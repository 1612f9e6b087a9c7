"""Which of peft's own methods may be parts of a composite tuner, and with which options.

A part is a layer in a module's place. What stands before the text, is kept in common in peft's wrapper round the model,
or changes the model's own weights as it is put in is none.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quincunx.config.suggest import closest
from quincunx.errors import MissingExtra
from quincunx.tuners.peft_limits import OURS, REFUSED, UNSUITED
from quincunx.tuners.single import SINGLE

_BEFORE = "it stands before the text, in peft's own wrapper round the model: take prompts or prefix of this package"
_IN_COMMON = "what its layers have in common is kept by peft's own wrapper round the model: use it alone"
REFUSED_METHODS: Mapping[str, str] = {
    "prefix_tuning": _BEFORE,
    "prompt_tuning": _BEFORE,
    "p_tuning": _BEFORE,
    "trainable_tokens": "it stands at the head too where that has the embeddings' weight: use it alone, or `train`",
    **dict.fromkeys(("frod", "pvera", "randlora", "tinylora", "unilora", "vblora", "vera"), _IN_COMMON),
}
"""Methods of peft that are no parts, each with the reason; besides those that `attaching.UNSUITED` refuses anywhere."""

REFUSED_OPTIONS: Mapping[str, str] = {
    "modules_to_save": "what of the model itself is trained is said by `train`, beside `parts`",
    "bias": "biases of the model are trained by a word of `train`, beside `parts`: biases",
    "trainable_token_indices": "it stands at the head too where that has the embeddings' weight: use `train`",
    "layer_replication": "it makes another model of it, for all parts",
    "target_parameters": "its layers stand in one another, and parts are told apart by their modules: use lora alone",
    "init_lora_weights": "it changes the model's own weights, which all parts stand round: use lora alone",
    "kasa_config": "it changes the model's own weights, which all parts stand round: use lora alone",
}
"""Options that parts do not take, each with the reason; where they are left as they come they say nothing."""
PLAIN_STARTS = (True, False, "gaussian", "orthogonal")
"""Values of `init_lora_weights` that leave the model's own weights as they are."""

SHORT: Mapping[str, str] = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
"""Options of this package's task_lora -> those of peft's lora that say the same."""

UNMERGED: Mapping[str, str] = {"lily": "peft has no merging for it"}
"""Methods whose parts stay beside the weights, each with the reason."""
LASTING: Mapping[str, str] = {"osf": "peft cannot take it out of the weights again"}
"""Methods that are merged for good or not at all, each with the reason."""


@dataclass(frozen=True)
class TheirPart:
    """A part that is a method of peft."""

    number: int
    """Its place among all parts."""
    method: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def here(self) -> str:
        """How messages call it."""
        return f"parts[{self.number}]"

    def config(self, **more: Any) -> Any:
        """Return its options as peft's config class, with what peft's own loading and saving say besides."""
        return config_classes()[self.method](**copy.deepcopy(dict(self.options)), **more)


def config_classes() -> dict[str, Any]:
    """Return peft's own config classes by the name of the method; raises MissingExtra without peft."""
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils.peft_types import PeftType
    except ImportError as error:
        raise MissingExtra("peft", "peft", "a method of peft among the parts of composite") from error
    return {kind.value.lower(): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items() if isinstance(kind, PeftType)}


def check(part: TheirPart) -> None:
    """Say what is wrong with a part that is no method of this package.

    Raises:
        ValueError: There is no such method, it is no part, or it has no such option.
        MissingExtra: peft is not installed.
    """
    configs, here, method = config_classes(), part.here, part.method
    if method not in configs:
        suited = [name for name in configs if name not in UNSUITED and name not in REFUSED_METHODS]
        near = closest(method, [*SINGLE, *suited])
        remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join([*SINGLE, *suited])}"
        raise ValueError(f"{here}: there is no method {method} here or in peft; {remedy}")
    if reason := UNSUITED.get(method) or REFUSED_METHODS.get(method):
        raise ValueError(f"{here}: peft's method {method} is no part: {reason}")
    known = [name for name in inspect.signature(configs[method]).parameters if name not in OURS]
    for name, value in part.options.items():
        if name in OURS:
            raise ValueError(f"{here}: {name} says nothing here: {OURS[name]}; leave it out")
        if name not in known:
            near = [SHORT[name]] if SHORT.get(name) in known else closest(name, known)
            remedy = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise ValueError(f"{here}: {method} has no option {name}; {remedy}")
        values, reason = REFUSED.get((method, name), ((), ""))
        if reason and value is not None and (value in values or not values):
            raise ValueError(f"{here}: {name} of {method} cannot be {value}: {reason}; leave it out")
        if name in REFUSED_OPTIONS and value not in (None, [], "none") and not _harmless(name, value):
            raise ValueError(f"{here}: {name} of {method} cannot be {value}: {REFUSED_OPTIONS[name]}")
    try:
        part.config()
    except Exception as error:  # whatever peft finds wrong with its own options
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(f"{here}: {method} refuses these options: {said}") from error


def _harmless(name: str, value: Any) -> bool:
    return name == "init_lora_weights" and value in PLAIN_STARTS
