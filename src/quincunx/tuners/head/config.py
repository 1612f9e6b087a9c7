"""Options of the head adapter."""

from __future__ import annotations

from dataclasses import dataclass

from quincunx.tuners.residual import ResidualConfig


@dataclass
class HeadConfig(ResidualConfig):
    """A bottleneck from the last hidden state to the logits, beside the head (VL-Adapter, Sung et al., CVPR 2022).

    `reduction_factor` divides the width of the state. Where T5's embeddings are tied to its head, the state is divided
    by the root of its width before; `norm_before` undoes that for the adapter.
    """

    parallel: bool = True
    """A head adapter is fed what the head gets; nothing else is possible."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.parallel:
            raise ValueError("a head adapter is fed what the head gets: leave parallel out")
        if self.gate != "none":
            raise ValueError(f"gates stand over attention and feedforward, not over logits: leave gate {self.gate} out")
        if self.sites is not None or self.leave_out:
            raise ValueError("a model has one head: leave sites and leave_out out (target_modules may name it)")
        if self.reduction_factors:
            raise ValueError("a model has one head: give reduction_factor rather than reduction_factors")
