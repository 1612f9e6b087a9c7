"""Options of soft prompts."""

from __future__ import annotations

from dataclasses import dataclass, field

from quincunx.tuners.method import TunerConfig, check_tasks


@dataclass
class PromptsConfig(TunerConfig):
    """Soft prompts: trained vectors before the input (Lester et al., EMNLP 2021), as VL-Adapter (Sung et al., CVPR
    2022) has them. They are attended to, so that a model with them does not begin as the one without."""

    encoder_prompt_len: int = 0
    """Vectors before what the encoder reads; its decoder attends to their states too. 0: none."""
    decoder_prompt_len: int = 0
    """Vectors before what the decoder, or a language model without an encoder, reads. 0: none."""
    mid_dim: int | None = None
    """Width between the two maps that vectors go through, with tanh between them; unset or 0: no maps."""
    std: float = 0.3
    """About the standard deviation of the prompts' numbers at the start."""
    tasks: list[str] = field(default_factory=list[str])
    """Names of tasks that have prompts of their own, maps included; none: the same prompts for everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None or self.leave_out:
            raise ValueError(
                "prompts stand before a whole encoder or decoder: leave sites and leave_out out, and choose by "
                "encoder_prompt_len and decoder_prompt_len, or name encoders and decoders in target_modules"
            )
        lengths = (self.encoder_prompt_len, self.decoder_prompt_len)
        if min(lengths) < 0 or not any(lengths):
            raise ValueError(
                "encoder_prompt_len and decoder_prompt_len must be 0 or more, and one of them above 0; found "
                f"{lengths[0]} and {lengths[1]}"
            )
        check_vectors(self.mid_dim, self.std, self.tasks)

    @property
    def packs(self) -> bool:
        """No: vectors stand before the first of several texts in a row alone."""
        return False


def check_vectors(mid_dim: int | None, std: float, tasks: list[str]) -> None:
    """Raise ValueError where trained vectors cannot be had so."""
    if mid_dim is not None and mid_dim < 0:
        raise ValueError(f"mid_dim must be above 0, or 0 for no maps, found {mid_dim}")
    if not std > 0:
        raise ValueError(f"std must be above 0, found {std}")
    check_tasks(tasks)
