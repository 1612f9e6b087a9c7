"""Every method of this package and of the library peft by its name and options, attached to a model.

Adapters go into the model in place wherever peft can do that, so that its other names in checkpoints stay as they are.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.config.document import ConfigError, Document, Problem
from quincunx.config.sections.peft import Peft
from quincunx.config.suggest import closest
from quincunx.errors import MissingExtra, UsageError
from quincunx.tuners.checked import ill_typed
from quincunx.tuners.methods import METHODS
from quincunx.tuners.parts import PART_WORDS, part_of
from quincunx.tuners.peft_limits import OURS, REFUSED, UNSUITED
from quincunx.tuners.residual import ResidualConfig
from quincunx.tuners.trainable import (
    WORDS,
    Held,
    freeze_batch_norm_statistics,
    freeze_layer_norms,
    select,
)

PROMPTS = ("prefix_tuning", "prompt_tuning", "p_tuning")
"""Methods that put trained vectors before a text; they need peft's wrapper round the model."""

WITH_BOTTLENECK = tuple(name for name, method in METHODS.items() if issubclass(method.config, ResidualConfig))
"""Methods whose adapters have a bottleneck."""

FREEZES: Mapping[str, Callable[[nn.Module], Held]] = {
    "batch_norms": freeze_batch_norm_statistics,
    "layer_norms": freeze_layer_norms,
}
"""Word of `frozen_statistics` -> what puts such norms into evaluation mode for good."""


@dataclass(frozen=True)
class Attached:
    """A model with what was put into it, ready to train."""

    model: nn.Module
    """What to call in the model's place, with the same arguments; the model itself, changed, for most methods."""
    modules: tuple[str, ...]
    """Names of the modules (or parameters) that were adapted, as they were before."""
    trainable: int
    """Parameters that are trained."""
    total: int
    """Parameters in all."""
    virtual_tokens: int
    """Trained vectors before each text: so many fewer tokens of it fit into the model's positions."""
    notes: tuple[str, ...]
    """What to say about it, in sentences."""


def check_peft(section: Peft, document: Document | None = None, *, tasks: Sequence[str] = ()) -> list[Problem]:
    """Return what is wrong with the section `peft`, each problem at its place in the document; imports peft.

    `tasks`: those that examples belong to, in order; none where they belong to no task. Raises MissingExtra when there
    is a method and peft is not installed.
    """
    method, options = section.method, section.options
    if method is None:
        return []
    configs = _config_classes()
    place = document or Document({})

    def problem(message: str, remedy: str, *below: str) -> Problem:
        path = ("peft", *below)
        return Problem("error", path, place.mark(path, key=below[-1] != "method"), message, remedy)

    if method not in configs:
        suited = [name for name in configs if name not in UNSUITED]
        near = closest(method, suited)
        remedy = f"did you mean {near[0]}?" if near else f"there are: {', '.join(suited)}"
        return [problem(f"there is no method {method}, here or in peft", remedy, "method")]
    if method in UNSUITED:
        return [problem(f"peft's method {method} cannot be used: {UNSUITED[method]}", "choose another one", "method")]
    known = [name for name in inspect.signature(configs[method]).parameters if name not in OURS]
    found: list[Problem] = []
    for name, value in options.items():
        values, reason = REFUSED.get((method, name), ((), ""))
        if name in OURS:
            found.append(problem(f"{name} says nothing here: {OURS[name]}", "leave it out", "options", name))
        elif name in known and (wrong := _misrouted(name, value, tasks)):
            found.append(problem(*wrong, "options", name))
        elif name not in known:
            near = closest(name, known)
            remedy = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            found.append(problem(f"method {method} has no option {name}", remedy, "options", name))
        elif reason and (value in values or not values) and value is not None:
            shown = f"{name}={value}" if values else name
            found.append(problem(f"{shown} cannot be used: {reason}", "leave it out", "options", name))
    if method in PROMPTS and not isinstance(options.get("num_virtual_tokens"), int):
        message = f"peft's method {method} needs the number of its vectors"
        found.append(problem(message, "set peft.options.num_virtual_tokens, for example to 16", "options"))
    if not found and method in METHODS:
        found += [problem(said, "", "options", name) for name, said in ill_typed(METHODS[method].config, options)]
    if not found:
        try:
            _configure(section)
        except Exception as error:
            found.append(problem(f"{method} refuses these options: {_said(error)}", "", "options"))
    blind = [name for name in ("z_weight", "track_z") if getattr(section, name) and not _has_bottleneck(section)]
    message = f"it looks into the bottlenecks of adapters, and method {method} has none"
    remedy = f"leave it out, or take {', '.join(WITH_BOTTLENECK)}"
    return found + [problem(f"peft.{name}: {message}", remedy, name) for name in blind]


def _has_bottleneck(section: Peft) -> bool:
    """Return whether some adapter of a method, or of a composite's parts, has a bottleneck."""
    parts: Any = section.options.get("parts") if section.method == "composite" else None
    methods = [part.get("method") for part in parts or () if isinstance(part, Mapping)]
    return any(method in WITH_BOTTLENECK for method in (section.method, *methods))


def attach(model: nn.Module, section: Peft, *, tasks: Sequence[str] = ()) -> Attached:
    """Put the adapters of a section into a model (a `PreTrainedModel`), freeze the rest, and say what is trained.

    `tasks` is as in `check_peft`. New weights come from torch's default generator. peft's methods that keep weights for
    several modules in common, and its prompts, come as peft's wrapper round the model: `Attached.model` takes and
    returns what the model does. It is in the mode (training or evaluation) that the model was in.
    Raises ConfigError for what `check_peft` finds; UsageError when no module or parameter has a name that is given,
    when peft cannot adapt this model, or when the model takes no notice of a prompt.
    """
    if problems := check_peft(section, tasks=tasks):
        raise ConfigError(problems)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    chosen = _chosen(model, section.train, list(names.values()))
    notes: list[str] = []
    modules: tuple[str, ...] = ()
    called, virtual = model, 0
    if section.method in PROMPTS:
        called = _prompted(model, section, notes)
        virtual = int(section.options["num_virtual_tokens"])
    elif section.method is not None:
        called, modules = _adapted(model, section, notes)
    elif section.train is not None:
        model.requires_grad_(False)
    called.train(model.training)
    for name, parameter in called.named_parameters():
        if names.get(id(parameter), name) in chosen:
            parameter.requires_grad_(True)
    parameters = list(called.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    notes.insert(0, _summary(section, modules, trainable, total))
    notes += [_held(model, word) for word in section.frozen_statistics]
    return Attached(called, modules, trainable, total, virtual, tuple(notes))


def _adapted(model: nn.Module, section: Peft, notes: list[str]) -> tuple[nn.Module, tuple[str, ...]]:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    config = _configure(section)
    tuner_class = PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            # the class itself: peft's function for this returns the model alone, which is too little for some methods
            tuner = tuner_class(model, config, "default")
        except UsageError as error:
            raise UsageError(f"peft.method {section.method}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, AssertionError) as error:
            ends = sorted({name.rpartition(".")[2] for name in linear})
            raise UsageError(
                f"peft cannot put {section.method} into {type(model).__name__}: {_said(error)}. Its linear maps are "
                f"named {', '.join(ends)}: name some, or others of its modules, in peft.options.target_modules"
            ) from error
    for warning in said:
        text = _said(warning.message)
        # what names nothing in the model: peft goes on without it
        if issubclass(warning.category, RuntimeWarning) or "no modules were excluded" in text:
            raise UsageError(f"peft.options of {section.method}: {text}; leave it out, or name what is there")
        if issubclass(warning.category, UserWarning):
            notes.append(f"peft: {text}")
    modules = (*tuner.targeted_module_names, *tuner.targeted_parameter_names)
    notes += _surprises(model, tuner.targeted_module_names, linear, ours=section.method in METHODS)
    if section.method in METHODS:
        notes += tuner.notes
        if len(tuner.quincunx_shared):  # beside the model's own modules, so that it stays what is called
            model.add_module("quincunx_shared", tuner.quincunx_shared)
        return tuner.model, modules
    return (tuner if tuner_class.uses_shared_state else tuner.model), modules


def _surprises(model: nn.Module, modules: Sequence[str], linear: Sequence[str], *, ours: bool) -> list[str]:
    """Return what may not have been meant by what was adapted, in sentences."""
    parts = sorted({part_of(model, path) for path in modules} - {""})
    found: list[str] = []
    if len(parts) > 1:
        words = ", ".join(word for word, part in PART_WORDS.items() if part in parts)
        remedy = f"leave parts out by leave_out ({words})" if ours else "name modules by target_modules"
        found.append(f"adapters stand in {' and '.join(parts)} alike: {remedy} if one was meant")
    if len(linear) > 1 and {*linear} <= {*modules}:
        found.append("every linear map of the model is adapted, its head too")
    return found


def _held(model: nn.Module, word: str) -> str:
    """Put norms of a model into evaluation mode for good, and return what to say about it."""
    held = FREEZES[word](model)
    kind = word.replace("_", " ")
    if held.frozen:
        return f"{len(held.frozen)} {kind} keep their statistics"
    if held.without_effect:
        why = f"the {len(held.without_effect)} {kind} of {type(model).__name__} have no statistics"
    else:
        why = f"{type(model).__name__} has no {kind}"
    return f"peft.frozen_statistics: {word} changes nothing: {why}"


def _prompted(model: nn.Module, section: Peft, notes: list[str]) -> nn.Module:
    from peft import get_peft_model

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            prompted = get_peft_model(model, _configure(section))  # pyright: ignore[reportArgumentType]
            if section.method != "prefix_tuning":
                prompted.register_forward_hook(_cut)
            noticed = _notices(prompted)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, AssertionError) as error:
            raise UsageError(
                f"peft cannot put {section.method} before {type(model).__name__}: {_said(error)}; choose lora, say"
            ) from error
    notes += [f"peft: {_said(warning.message)}" for warning in said if issubclass(warning.category, UserWarning)]
    if not noticed:
        raise UsageError(
            f"{type(model).__name__} takes no notice of the vectors of {section.method}: it is not made for them; "
            "choose lora, say"
        )
    return prompted


def _cut(module: nn.Module, arguments: Any, output: Any) -> Any:
    """Take the states of the prompt's own vectors out of what a model returns."""
    virtual = module.active_peft_config.num_virtual_tokens  # pyright: ignore[reportAttributeAccessIssue]
    output.last_hidden_state = output.last_hidden_state[:, virtual:]
    if getattr(output, "hidden_states", None) is not None:
        output.hidden_states = tuple(state[:, virtual:] for state in output.hidden_states)
    return output


def _notices(model: nn.Module) -> bool:
    """Tell whether the states of a text depend on what is trained; the model is left as it was."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        tokens = torch.ones(2, 3, dtype=torch.long, device=trained[0].device)
        states: Tensor = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        if states.shape[:2] != tokens.shape or not states.requires_grad:
            return False
        weights = torch.linspace(1, 2, states.numel(), device=states.device).view_as(states)
        gradients = torch.autograd.grad((states * weights).sum(), trained, allow_unused=True)
        return any(gradient is not None and bool(gradient.any()) for gradient in gradients)
    finally:
        for module, training in modes:
            module.training = training


def _chosen(model: nn.Module, patterns: Sequence[str] | None, names: Iterable[str]) -> set[str]:
    """Return the parameters that the patterns name, themselves or by a module they are in."""
    names = list(names)
    chosen: set[str] = set()
    for pattern in patterns or ():
        matched = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not matched and pattern in WORDS:
            matched = list(select(model, [pattern]).names)
        if not matched:
            modules = {name[:end] for name in names for end, letter in enumerate(name) if letter == "."}
            near = closest(pattern, [*sorted(modules), *names], 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"its parameters are named like {names[0]}"
            raise UsageError(f"peft.train: no parameter or module of the model has the name {pattern}; {hint}")
        chosen.update(matched)
    return chosen


def _configure(section: Peft) -> Any:
    options = dict(section.options)
    assert section.method is not None
    return _config_classes()[section.method](task_type="FEATURE_EXTRACTION", **options)


def _config_classes() -> dict[str, Any]:
    """Return peft's config classes by the name of the method."""
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    except ImportError as error:
        raise MissingExtra("peft", "peft", "peft.method") from error
    from quincunx.tuners.peft_plugin import register

    register()
    return {kind.value.lower(): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def _misrouted(name: str, value: Any, tasks: Sequence[str]) -> tuple[str, str] | None:
    """Return what is wrong with the tasks that an option, or one of a composite's parts, names, and what to do."""
    parts = [value] if name == "tasks" else []
    if name == "parts" and isinstance(value, list):
        parts = [part.get("tasks") for part in value if isinstance(part, Mapping)]
    named = [part for part in parts if part]
    if named and not tasks:
        reason = "examples belong to no task here, so that nothing could choose between weights"
        return f"tasks says nothing here: {reason}", "leave it out"
    others = [part for part in named if isinstance(part, list | tuple) and [*part] != [*tasks]]
    if not others:
        return None
    # an example comes with the number of its task: in another order it would get the weights of another
    message = f"tasks are {', '.join(map(str, others[0]))} here, and examples belong to {', '.join(tasks)}"
    return message, f"give all of them, in this order: [{', '.join(tasks)}]"


def _summary(section: Peft, modules: Sequence[str], trainable: int, total: int) -> str:
    share = f"{trainable:,} of {total:,} parameters are trained ({100 * trainable / max(total, 1):.3g} %)"
    if section.method is None:
        return share
    where = f"in {len(modules)} modules" if section.method not in PROMPTS else "before every text"
    whole = "; the model itself is trained whole, so the adapters add nothing" if trainable == total else ""
    return f"{section.method} {where}: {share}{whole}"


def _said(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
