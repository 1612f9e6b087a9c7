"""Linear maps that are sums of Kronecker products, H = sum_i A_i (x) W_i (A. Zhang et al., ICLR 2021).

The A_i `[n, n]` are the rule, the W_i `[I/n, O/n]` the weights, or W_i = L_i R_i of rank K (Compacter, R. Karimi
Mahabadi et al., NeurIPS 2021). y = x H + b; row a I/n + p, column b O/n + q of H is sum_i A_i[a, b] W_i[p, q].
B examples, S positions, I input width, O output width, n division, K rank, T tasks.
"""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.nn.routing import TaskRouted
from quincunx.tuners.task_linear import task_linear


class Rule(nn.Module):
    """The small factors of the products.

    Args:
        division: Their number and width n.
        tasks: Number of tasks T with rules of their own; None: one rule.
        factorized: Whether each factor is a column times a row.
        std: Standard deviation of the starting values.
    """

    def __init__(self, division: int, *, tasks: int | None, factorized: bool, std: float) -> None:
        super().__init__()
        many = () if tasks is None else (tasks,)
        self.row: nn.Parameter | None = None
        if factorized:
            self.weight = nn.Parameter(torch.empty(*many, division, division, 1))
            self.row = nn.Parameter(torch.empty(*many, division, 1, division))
            std = std**0.5  # so that the products have it
            nn.init.normal_(self.row, std=std)
        else:
            self.weight = nn.Parameter(torch.empty(*many, division, division, division))
        nn.init.normal_(self.weight, std=std)

    def forward(self) -> Tensor:
        """Return A `[n, n, n]`, or `[T, n, n, n]`."""
        return self.weight if self.row is None else self.weight * self.row


class PhmLinear(TaskRouted):
    """A linear map that is a sum of Kronecker products, of all tasks or of each.

    Factorised, H is never made: x is projected on the L_i, and the rule, which mixes what comes out, is multiplied into
    the R_i before that is expanded. That takes 2 K (n I + n^2 O) operations for a token rather than 2 I O.

    Args:
        in_features: Input width I, a multiple of the division.
        out_features: Output width O, a multiple of the division.
        division: The number of products n.
        rank: Rank K of the large factors; None: they are not factorised.
        rule: One that other maps use too, or one of this map's own.
        own_rule: Whether the rule is this map's own, and saved with it.
        tasks: Number of tasks T with weights of their own; None: one map for all.
        zero: Whether the weights begin such that the map gives nothing (one factor is then not zero, so that the other
            has a gradient).

    Raises:
        UsageError: The division does not divide both widths.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        division: int,
        rank: int | None,
        rule: Rule,
        own_rule: bool,
        tasks: int | None,
        zero: bool,
    ) -> None:
        super().__init__()
        if in_features % division or out_features % division:
            common = gcd(in_features, out_features)
            suited = [number for number in range(2, min(common, 64) + 1) if common % number == 0]
            raise UsageError(
                f"hypercomplex_division {division} does not divide both {in_features} and {out_features}: "
                f"{', '.join(map(str, suited)) or 'only 1'} would do, or another reduction factor"
            )
        many = () if tasks is None else (tasks,)
        inner, outer = in_features // division, out_features // division
        self.rule = rule if own_rule else None
        self._shared: tuple[Rule, ...] = () if own_rule else (rule,)
        self.left: nn.Parameter | None = None
        if rank is None:
            self.weight = nn.Parameter(torch.zeros(*many, division, outer, inner))
            self._uniform(self.weight, 0.0 if zero else (6 / (inner + outer)) ** 0.5)
        else:
            self.left = nn.Parameter(torch.zeros(*many, division, rank, inner))
            self.weight = nn.Parameter(torch.zeros(*many, division, rank, outer))
            self._uniform(self.left, (6 / (inner + rank)) ** 0.5)
            self._uniform(self.weight, 0.0 if zero else (6 / (rank + outer)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(*many, out_features))

    @staticmethod
    def _uniform(weight: Tensor, bound: float) -> None:
        """Fill as X. Glorot and Y. Bengio (2010) do, each product's factor by its own widths."""
        if bound > 0:
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, S, O]` for `x [B, S, I]`."""
        rule = (self.rule or self._shared[0])()
        tasks = self.tasks(x) if self.bias.ndim == 2 else None
        if self.left is None:
            # H is small beside the tokens that go through it: made once a pass, it is the fastest way
            matrix = torch.einsum("...iab,...iqp->...bqap", rule, self.weight).flatten(-2).flatten(-3, -2)
            return _linear(x, matrix, self.bias, tasks)
        blocks = x.unflatten(-1, (-1, self.left.shape[-1]))
        projected = _linear(blocks, self.left.flatten(-3, -2), None, tasks).flatten(-2)
        expand = torch.einsum("...iab,...ikq->...bqaik", rule, self.weight).flatten(-3).flatten(-3, -2)
        return _linear(projected, expand, self.bias, tasks)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, tasks: Tensor | None) -> Tensor:
    """Return x W^T + b, with each example's own task's where there are tasks."""
    if tasks is None:
        return functional.linear(x, weight, bias)
    return task_linear(x, weight, bias, tasks)
