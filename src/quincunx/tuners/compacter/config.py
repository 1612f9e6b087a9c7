"""Options of Compacter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quincunx.tuners.residual import ResidualConfig

RULES = ("model", "tasks", "none")


@dataclass
class CompacterConfig(ResidualConfig):
    """Adapters whose maps are sums of Kronecker products (R. Karimi Mahabadi et al., NeurIPS 2021)."""

    hypercomplex_division: int = 4
    """Number n of products, and width of the rule; both widths of a map must be its multiples."""
    factorized_phm: bool = True
    """The large factor of each product is itself a product of two thin matrices."""
    phm_rank: int = 1
    """Their rank, where there are any."""
    phm_rule: Literal["model", "tasks", "none"] = "model"
    """What shares a rule, the small factors of the products: all maps of the model, the tasks of each map, or nothing.
    A half that all tasks share (`share_down`, `share_up`) has one rule and one bias as well."""
    factorized_phm_rule: bool = False
    """Each small factor is the product of a column and a row."""
    phm_init_range: float = 0.01
    """Standard deviation of the starting values of the rule."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hypercomplex_division < 1:
            raise ValueError(f"hypercomplex_division must be at least 1, found {self.hypercomplex_division}")
        if self.phm_rule not in RULES:
            raise ValueError(f"phm_rule must be one of {', '.join(RULES)}, found {self.phm_rule!r}")
        if self.phm_rank < 1 or (self.phm_rank > 1 and not self.factorized_phm):
            raise ValueError(
                f"phm_rank is the rank of factorized maps, at least 1: found {self.phm_rank} with factorized_phm="
                f"{self.factorized_phm}"
            )
        if not self.phm_init_range > 0:
            raise ValueError(f"phm_init_range must be above 0, found {self.phm_init_range}")
        if self.phm_rule == "tasks" and (len(self.tasks) < 2 or (self.share_down and self.share_up)):
            raise ValueError(
                "phm_rule: tasks shares a rule between maps that each task has of its own, and there are none: name at "
                "least two tasks that do not share both halves, or take model or none"
            )
