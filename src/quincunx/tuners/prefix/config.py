"""Options of the key-value prefix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from quincunx.tuners.method import TunerConfig
from quincunx.tuners.prompts.config import check_vectors
from quincunx.tuners.sites import ATTENTION, CROSS

Form = Literal["gated", "joint"]


@dataclass
class PrefixConfig(TunerConfig):
    """Trained keys and values in the attention of each layer.

    `sites` are attention (the default) and cross_attention; `target_modules` and `leave_out` name attention modules.
    """

    prefix_len: int = 10
    """Keys and values in each layer."""
    form: Form = "gated"
    """gated: a softmax over the prefix of its own, times tanh of a trained gate of each head that begins at 0, is added
    (LLaMA-Adapter, R. Zhang et al., ICLR 2024); the model begins as it is without. joint: one softmax over prefix and
    text (prefix-tuning, X. L. Li & P. Liang, ACL 2021); the model begins changed."""
    mid_dim: int | None = None
    """Width between the two maps that make keys and values; the first is one for a stack of layers. Unset or 0: keys
    and values are trained themselves."""
    std: float = 0.3
    """About the standard deviation of keys and values at the start."""
    tasks: list[str] = field(default_factory=list[str])
    """Names of tasks that have a prefix of their own, maps and gates included; none: the same for everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in get_args(Form):
            raise ValueError(f"form must be gated or joint, found {self.form!r}")
        if self.prefix_len < 1:
            raise ValueError(f"prefix_len must be above 0, found {self.prefix_len}")
        unknown = [word for word in self.sites or () if word not in (ATTENTION, CROSS)]
        if unknown:
            raise ValueError(f"a prefix stands in {ATTENTION} or {CROSS}: sites may name these, found {unknown[0]!r}")
        check_vectors(self.mid_dim, self.std, self.tasks)

    @property
    def packs(self) -> bool:
        """Whether several texts may be laid behind one another in one row: a joint prefix stands before the first."""
        return self.form == "gated" and not self.tasks
