"""Which of a model's own parameters are trained, said by words or by full paths; and norms that keep their statistics.

`biases` alone is BitFit (Ben Zaken et al., ACL 2022). Parts of adapters are never meant by a word or a path here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.hooks import RemovableHandle

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.method import TunerConfig
from quincunx.tuners.parts import Part, output_map, part_of
from quincunx.tuners.sites import find_sites, plain

HEADS = ("lm_head", "classifier", "classification_head", "score", "qa_outputs")
STAGE = re.compile(
    r"^(?P<stack>(?:.*?\.)?(?:layers|layer|blocks|block|resblocks|stages|h)(?=\.?\d))\.?(?P<number>\d+)\."
)
"""The outermost numbered list of layers that a path goes through; a ResNet's stages too, numbered or named layer1 .."""
RELATIVE = re.compile(r"relative_(attention|position)_bias")


@dataclass(frozen=True)
class Selection:
    """Parameters of a model."""

    names: tuple[str, ...]
    """As `named_parameters` has them, in the model's order."""
    notes: tuple[str, ...] = ()
    """What to say about them, in sentences."""


def select(model: nn.Module, rules: Sequence[str]) -> Selection:
    """Return the parameters of a model that rules name.

    Args:
        model: The model (of a `PeftModel`, its `get_base_model()`); parts of adapters in it are left alone.
        rules: Words of `WORDS`, or full paths of parameters or of modules that hold them, `*` for anything. A rule with
            a minus before it takes away what rules before it have chosen, so a later rule wins.

    Raises:
        UsageError: A rule names nothing in this model, or takes nothing away.
    """
    chosen: set[str] = set()
    notes: dict[str, None] = {}
    for rule in rules:
        takes, named = rule.startswith("-"), rule.removeprefix("-")
        found = _named(model, named)
        if takes and not chosen & found:
            raise UsageError(f"{rule} takes nothing away: no rule before it has chosen any of {named}")
        chosen = chosen - found if takes else chosen | found
        if not takes and (note := _note(model, named)):
            notes[note] = None
    return Selection(tuple(name for name in _own(model) if name in chosen), tuple(notes))


def unfreeze(model: nn.Module, rules: Sequence[str]) -> Selection:
    """Make parameters trained, and return them; `select` says what rules are and what it refuses."""
    return _set(model, select(model, rules), True)


def freeze(model: nn.Module, rules: Sequence[str]) -> Selection:
    """Make parameters not trained, and return them; `select` says what rules are and what it refuses."""
    return _set(model, select(model, rules), False)


def _set(model: nn.Module, selection: Selection, trained: bool) -> Selection:
    own = _own(model)
    for name in selection.names:
        own[name].requires_grad_(trained)
    return selection


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a layer norm or a root mean square norm of any model (a batch norm is not)."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
        return True
    if "norm" not in type(module).__name__.lower() or module._modules or is_batch_norm(module):
        return False
    return {parameter.ndim for parameter in module.parameters()} == {1}


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module is a batch norm, frozen ones of a model's own among them."""
    return isinstance(module, _BatchNorm) or (
        "batchnorm" in type(module).__name__.lower() and "running_mean" in module._buffers
    )


# The words


def _biases(model: nn.Module) -> set[str]:
    own = _own(model).items()
    return {name for name, weight in own if weight.ndim == 1 and name.rpartition(".")[2].endswith("bias")}


def _norms(model: nn.Module) -> set[str]:
    return _of_modules(model, is_norm)


def _batch_norms(model: nn.Module) -> set[str]:
    return _of_modules(model, is_batch_norm)


def _embeddings(model: nn.Module) -> set[str]:
    found = _of_modules(model, lambda module: isinstance(module, nn.Embedding))
    return found - _relative_bias(model)


def _relative_bias(model: nn.Module) -> set[str]:
    return {name for name in _own(model) if RELATIVE.search(name)}


def _head(model: nn.Module) -> set[str]:
    head = output_map(model)
    if head is not None:
        return _of_modules(model, lambda module: module is head)
    return {name for name in _own(model) if plain(name).split(".")[0] in HEADS}


def _language_model(model: nn.Module) -> set[str]:
    return _of_part(model, "language")


def _vision(model: nn.Module) -> set[str]:
    return _of_part(model, "vision")


def _connector(model: nn.Module) -> set[str]:
    return _of_part(model, "connector")


def _vision_last_layer(model: nn.Module) -> set[str]:
    return _last_layers(_vision(model))


def _last_layer(model: nn.Module) -> set[str]:
    return _last_layers(_language_model(model) or {*_own(model)})


WORDS: Mapping[str, Callable[[nn.Module], set[str]]] = {
    "biases": _biases,
    "norms": _norms,
    "batch_norms": _batch_norms,
    "head": _head,
    "embeddings": _embeddings,
    "relative_bias": _relative_bias,
    "language_model": _language_model,
    "last_layer": _last_layer,
    "vision": _vision,
    "vision_last_layer": _vision_last_layer,
    "connector": _connector,
}
"""Word -> the parameters that it means. `norms` are layer norms and root mean square norms; `last_layer` is the last
one of each stack of the language model."""


def _named(model: nn.Module, rule: str) -> set[str]:
    if rule in WORDS:
        found = WORDS[rule](model)
        if not found:
            raise UsageError(f"{type(model).__name__} has no parameters that are {rule}: leave the word out")
        return found
    found = {name for name in _own(model) if _matches(plain(name), rule)}
    if not found:
        paths = {plain(path): None for path, _ in model.named_modules() if path}
        near = closest(rule, [*WORDS, *paths, *(plain(name) for name in _own(model))], 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the words are {', '.join(WORDS)}"
        raise UsageError(
            f"{type(model).__name__} has no parameters {rule}; {hint} (or full paths of parameters or modules, * for "
            "anything)"
        )
    return found


def _matches(name: str, rule: str) -> bool:
    words = name.split(".")
    return any(fnmatchcase(".".join(words[:end]), rule) for end in range(len(words), 0, -1))


def adapter_parameters(model: nn.Module) -> set[str]:
    """Return the names of the parameters in a model that are no part of the model itself.

    They are known by where they are, whatever they are called: beside a module that something stands round, or in what
    adapters share.
    """
    own = _own(model)
    return {name for name, _ in model.named_parameters() if name not in own}


def _own(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's parameters by name, without those of adapters; what is shared stands under its first name."""
    parts = {path for path, _ in _modules(model)}
    return {name: weight for name, weight in model.named_parameters() if name.rpartition(".")[0] in parts}


def _modules(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield a model's own modules, passing over what stands round them and round the whole."""
    inner = _inner(model)
    if inner is not None:
        children = [(inner, model._modules[inner])]
    else:
        yield path, model
        children = [(name, child) for name, child in model._modules.items() if not name.startswith("quincunx_")]
    for name, child in children:
        if child is not None:
            yield from _modules(child, f"{path}.{name}" if path else name)


def _inner(module: nn.Module) -> str | None:
    """Return under which name a module holds the one that it stands round; None where it stands round none."""
    there, kind = module._modules, type(module)
    if "base_layer" in there:
        return "base_layer"
    if "original_module" in there and "modules_to_save" in there:  # peft's copies of whole modules
        return "original_module"
    if "base_model" in there and hasattr(kind, "get_base_model"):  # peft's model, with its prompts
        return "base_model"
    if "model" in there and hasattr(kind, "inject_adapter"):  # peft's tuner, with what its layers share
        return "model"
    return None


def _of_modules(model: nn.Module, wanted: Callable[[nn.Module], bool]) -> set[str]:
    """Return the parameters of wanted modules, under the names that `_own` has for them."""
    names = {id(weight): name for name, weight in _own(model).items()}
    weights = (weight for _, module in _modules(model) if wanted(module) for weight in module.parameters())
    return {names[id(weight)] for weight in weights if id(weight) in names}


def _of_part(model: nn.Module, part: Part) -> set[str]:
    return {name for name in _own(model) if part_of(model, plain(name)) == part}


def _last_layers(names: set[str]) -> set[str]:
    """Return those parameters that are in the last layer of the stack of layers which they are in."""
    places = {name: match for name in names if (match := STAGE.match(plain(name))) is not None}
    last: dict[str, int] = {}
    for match in places.values():
        last[match["stack"]] = max(last.get(match["stack"], 0), int(match["number"]))
    return {name for name, match in places.items() if int(match["number"]) == last[match["stack"]]}


def _note(model: nn.Module, word: str) -> str:
    """Return what must be said about a word in this model; empty for nothing."""
    head = output_map(model)
    if head is None or word not in ("head", "embeddings"):
        return ""
    mine = {id(weight) for weight in head.parameters()}
    tied = [
        plain(path)
        for path, module in _modules(model)
        if isinstance(module, nn.Embedding) and id(module.weight) in mine
    ]
    return f"The head's weight is that of {', '.join(tied)} too: training one trains the other." if tied else ""


# Methods that train nothing but the model's own parameters


@dataclass
class OwnConfig(TunerConfig):
    """Options of methods without parts of their own; they cannot be switched off: what is trained is the model itself.

    `target_modules` names modules whose parameters are meant; `leave_out` counts layers, or names modules.
    """


@dataclass
class BitFitConfig(OwnConfig):
    """The biases are trained, and nothing else (E. Ben Zaken et al., ACL 2022)."""


@dataclass
class NormsConfig(OwnConfig):
    """The weights and biases of layer norms and root mean square norms are trained, and nothing else."""

    batch_norms: bool = False
    """Those of batch norms as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None:
            raise ValueError("sites names linear maps, norms trains norms: leave sites out, or use target_modules")


def place_bitfit(model: nn.Module, config: BitFitConfig) -> Placement:
    """Return the model's biases as what is trained; UsageError where it has none."""
    return _place_own(model, ["biases"], config)


def place_norms(model: nn.Module, config: NormsConfig) -> Placement:
    """Return the parameters of the model's norms as what is trained; UsageError where it has none."""
    words = ["norms", "batch_norms"] if config.batch_norms else ["norms"]
    # a model may have norms of one sort alone
    return _place_own(model, [word for word in words if WORDS[word](model)] or words, config)


def _place_own(model: nn.Module, words: Sequence[str], config: OwnConfig) -> Placement:
    chosen = select(model, words)
    names = chosen.names
    if config.sites or config.target_modules is not None or config.leave_out:
        holders = list(dict.fromkeys(plain(name).rpartition(".")[0] for name in names))
        patterns = config.target_modules if config.target_modules is not None else None if config.sites else holders
        found = find_sites(model, config.sites or (), patterns=patterns, leave_out=config.leave_out)
        within = tuple(site.path for site in found)
        names = tuple(name for name in names if plain(name).rpartition(".")[0] in within)
        if not names:
            raise UsageError(f"the modules that were named have no parameters that are {' or '.join(words)}")
    note = "The model's own parameters are trained: an adapter that is disabled or unloaded leaves them as they became."
    return Placement(trained=names, notes=(*chosen.notes, note))


# Norms that keep their statistics


@dataclass(frozen=True)
class Held:
    """Norms that stay in eval mode, whatever mode the model is put into."""

    frozen: tuple[str, ...]
    """Those whose running statistics no longer change."""
    without_effect: tuple[str, ...]
    """Those that have no statistics that could change: nothing is another for them."""
    _handles: tuple[tuple[nn.Module, RemovableHandle], ...] = field(default=(), repr=False)

    def release(self) -> None:
        """Let them follow the model's mode again, from the next call of `train()` on."""
        for module, handle in self._handles:
            handle.remove()
            del module.train


def freeze_batch_norm_statistics(model: nn.Module) -> Held:
    """Keep the running statistics of a model's batch norms, those of adapters left out; their weights may be trained.

    A later `train()` changes nothing: a norm does not follow it, and puts itself back into eval mode when it is called.
    """
    return _hold(model, is_batch_norm)


def freeze_layer_norms(model: nn.Module) -> Held:
    """Keep layer norms and root mean square norms in eval mode; they have no statistics, so that nothing changes."""
    return _hold(model, is_norm)


def _hold(model: nn.Module, wanted: Callable[[nn.Module], bool]) -> Held:
    frozen: list[str] = []
    without: list[str] = []
    handles: list[tuple[nn.Module, RemovableHandle]] = []
    for path, module in _modules(model):
        if not wanted(module):
            continue
        changes = isinstance(module, _NormBase) and module.running_mean is not None
        (frozen if changes else without).append(path)
        module.eval()
        if _stay_in_eval not in module._forward_pre_hooks.values():
            handles.append((module, module.register_forward_pre_hook(_stay_in_eval)))
            setattr(module, "train", partial(_remain, module))  # noqa: B010 - what looks at modes before a pass sees it
    return Held(tuple(frozen), tuple(without), tuple(handles))


def _remain(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _stay_in_eval(module: nn.Module, args: object) -> None:
    if module.training:
        module.eval()
