"""Options of the composite tuner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from quincunx.config.suggest import closest
from quincunx.tuners.checked import ill_typed, options_of
from quincunx.tuners.composite.theirs import TheirPart, check
from quincunx.tuners.method import TunerConfig
from quincunx.tuners.single import SINGLE


@dataclass
class CompositeConfig(TunerConfig):
    """Any list of methods, peft's own among them, and rules for which of the model's own parameters are trained."""

    parts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Each a mapping with `method` and that method's options. At one module the first stands innermost, peft's inside
    of this package's; parts of one method of peft stand at other modules, with the first one's place in the order."""
    train: list[str] = field(default_factory=list[str])
    """What of the model itself is trained: words (`biases`, `norms`, `head` ...) or full paths, as in `trainable.py`;
    it stays when the adapter is disabled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None or self.target_modules is not None or self.leave_out:
            raise ValueError("sites, target_modules and leave_out belong to each of the parts: write them there")
        if not self.parts and not self.train:
            raise ValueError("parts is empty, and train too: name at least one method, or something to train")
        given: list[Any] = list(self.parts)
        if strays := [number for number, part in enumerate(given) if not isinstance(part, dict)]:
            found = f"parts[{strays[0]}] must be a mapping with method and its options, found {given[strays[0]]!r}"
            raise ValueError(found)
        for number, part in enumerate(self.parts):
            self._check(number, part)
        for part in self.theirs():
            check(part)
        named = {tuple(part["tasks"]) for part in self.parts if part.get("tasks")}
        if len(named) > 1:
            shown = "; ".join(", ".join(names) for names in sorted(named))
            raise ValueError(f"parts have different tasks ({shown}): give all of them the same in the same order")

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that parts have weights of their own for."""
        return next((list(part["tasks"]) for part in self.parts if part.get("tasks")), [])

    def configs(self) -> list[tuple[int, str, TunerConfig]]:
        """Return the number, method and options of each part that is a method of this package."""
        return [
            (number, part["method"], SINGLE[part["method"]].config(**_options(part)))
            for number, part in enumerate(self.parts)
            if part["method"] in SINGLE
        ]

    def theirs(self) -> list[TheirPart]:
        """Return the parts that are methods of peft."""
        return [
            TheirPart(number, part["method"], _options(part))
            for number, part in enumerate(self.parts)
            if part["method"] not in SINGLE
        ]

    def _check(self, number: int, part: dict[str, Any]) -> None:
        here = f"parts[{number}]"
        method: Any = part.get("method")
        if method is None:
            raise ValueError(f"{here} has no method")
        if not isinstance(method, str) or method == "composite":
            raise ValueError(f"{here}: there is no method {method} here: a part is one method of its own")
        if method not in SINGLE:
            return
        form = SINGLE[method].config
        known = options_of(form)
        for name in part:
            if name != "method" and name not in known:
                near = closest(name, known)
                remedy = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
                raise ValueError(f"{here}: {method} has no option {name}; {remedy}")
        options = _options(part)
        for _, message in ill_typed(form, options):
            raise ValueError(f"{here}.{message}")
        try:
            form(**options)
        except ValueError as error:
            raise ValueError(f"{here}: {error}") from error

    @property
    def packs(self) -> bool:
        """Whether all parts allow several texts in one row; peft's look at each position by itself."""
        return all(config.packs for _, _, config in self.configs())


def _options(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "method"}
