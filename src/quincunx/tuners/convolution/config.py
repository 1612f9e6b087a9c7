"""Options of convolution adapters."""

from __future__ import annotations

from dataclasses import dataclass

from quincunx.tuners.method import TunerConfig

FRONT, MIDDLE, BACK, TRANSITION = "front", "middle", "back", "transition"
POSITIONS = (FRONT, MIDDLE, BACK, TRANSITION)
BOTTLENECK, BASIC = "bottleneck", "basic"


@dataclass
class ConvolutionConfig(TunerConfig):
    """Adapters in the residual blocks of a ResNet (VL-Adapter, Sung et al., CVPR 2022).

    `target_modules` names blocks by their full paths, and `leave_out` too, or by their number in the whole network.
    """

    adapter_type: str = "middle-bottleneck"
    """`<positions>-<kind>`. Positions, joined by `/`: `front`, `middle`, `back` stand beside a block's first, second,
    third convolution (a block with two has no middle), `transition` after the whole block. Kinds: `bottleneck`, a 1x1
    convolution to fewer channels, ReLU, a 1x1 convolution; `basic`, one 1x1 convolution."""
    reduction_factor: float = 2.0
    """A bottleneck has the number of channels that come in, divided by this, rounded down."""
    remove_batch_norm: bool = False
    """No batch norms in the adapters; what they give is added before the block's own batch norm rather than after."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None:
            raise ValueError(
                "convolution adapters go by adapter_type: leave sites out (target_modules may name blocks by path)"
            )
        positions, dash, kind = self.adapter_type.partition("-")
        named = positions.split("/")
        if not dash or kind not in (BOTTLENECK, BASIC) or any(name not in POSITIONS for name in named):
            raise ValueError(
                f"adapter_type must be positions ({', '.join(POSITIONS)}, joined by /), a dash and {BOTTLENECK} or "
                f"{BASIC}, such as front/middle-{BOTTLENECK}; found {self.adapter_type!r}"
            )
        if len({*named}) < len(named):
            raise ValueError(f"adapter_type names a position twice: {self.adapter_type!r}")
        if not self.reduction_factor > 0:
            raise ValueError(f"reduction_factor must be above 0, found {self.reduction_factor}")
        if kind == BASIC and self.reduction_factor != 2.0:
            raise ValueError(f"adapter_type {self.adapter_type!r} has no bottleneck: leave reduction_factor out")

    @property
    def positions(self) -> tuple[str, ...]:
        """Where adapters go in each block, in the block's order."""
        named = self.adapter_type.partition("-")[0].split("/")
        return tuple(position for position in POSITIONS if position in named)

    @property
    def kind(self) -> str:
        """`bottleneck` or `basic`."""
        return self.adapter_type.partition("-")[2]
