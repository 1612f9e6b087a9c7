"""Where a run lives, what it reports and keeps, and on what it computes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quincunx.config.schema import Accepts, AnyCase, Frequency, Section, unless, when


class Run(Section):
    """The run's folder."""

    name: Annotated[str, Accepts("a name without / and \\")] | None = Field(
        default=None, min_length=1, pattern=r"^[^/\\\x00]+$"
    )
    """Name of the run; its folder becomes `runs/<name>-<number>`. Unset: the recipe's name and the task's."""
    dir: str | None = Field(default=None, min_length=1)
    """Folder of the run, relative to the working folder; parents are made. Unset: `runs/<name>-<number>`."""
    note: str = ""
    """Free text kept with the run and shown in its report."""


class Evaluate(Section):
    """When and how the model is evaluated during training; never changes training."""

    BY_TOKENS: ClassVar[bool] = False
    """Whether a budget of tokens says how many examples make a batch, where `batch_size` is not set."""

    every: Frequency | None = "epoch"
    """`epoch`, an int number of updates, or a float share of an epoch in (0, 1]; null: only at the end."""
    at_start: bool = False
    """Evaluate once before the first update."""
    batch_size: int | None = Field(default=None, ge=1)
    """Examples per evaluation batch. Unset: the size of a training chunk."""
    max_batches: int | None = Field(default=None, ge=1)
    """Evaluate at most this many batches of `update.batch_size` development examples, in order. Unset: all."""
    metric: str | None = None
    """Metric that chooses the best checkpoint and stops early, for example `dev/accuracy`. Unset: the recipe's."""
    goal: Annotated[Literal["max", "min"], AnyCase] | None = None
    """Whether a larger or a smaller metric is better. Unset: the recipe's for its own metrics."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many evaluations in a row without a better metric. Unset: never."""


class Checkpoint(Section):
    """When the run is saved and how much is kept."""

    every: Frequency | None = "epoch"
    """`epoch`, an int number of updates, or a float share of an epoch in (0, 1]; null: only at the end."""
    every_batches: int | None = Field(default=None, ge=1)
    """Save after every so many logical batches, in place of `every`."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints are kept, besides the best."""
    best: bool = True
    """Keep the checkpoint with the best metric as well."""


USED = when("log.wandb.use", True)


class Wandb(Section):
    """Weights & Biases, as a further tracker."""

    use: bool = False
    """Send metrics and this config to Weights & Biases; needs `pip install 'quincunx[wandb]'`."""
    mode: Annotated[Literal["online", "offline"], AnyCase, USED] | None = None
    """`online`, or `offline`: only written into the run folder, for `wandb sync`. Unset: WANDB_MODE, else online."""
    credentials: Annotated[str, USED] | None = Field(default=None, min_length=1)
    """Text file that holds the API key and nothing else; only its path is kept with the run. Unset: WANDB_API_KEY, else
    what `wandb login` stored."""
    project: Annotated[str, USED] | None = Field(default=None, min_length=1)
    """Project of the run. Unset: WANDB_PROJECT, else `quincunx`."""
    entity: Annotated[str, USED] | None = Field(default=None, min_length=1)
    """User or team that the project belongs to. Unset: WANDB_ENTITY, else the key's own."""
    name: Annotated[str, USED] | None = Field(default=None, min_length=1)
    """Name of the run there. Unset: WANDB_NAME, else the run folder's. A pretraining has `/pretraining` added to it."""
    notes: Annotated[str, USED] | None = None
    """Free text beside the run. Unset: `run.note`, else WANDB_NOTES."""
    tags: Annotated[list[Annotated[str, Field(min_length=1)]], USED] = Field(default_factory=list[str])
    """Words by which runs are found again. Empty: WANDB_TAGS."""


class Log(Section):
    """What is printed and tracked."""

    every: int = Field(default=50, ge=1)
    """Updates between two lines of the log, of the metrics file and of every tracker."""
    console: bool = True
    """Show lines of the log at the terminal; false: only in files and trackers."""
    trackers: list[Literal["jsonl", "tensorboard"]] = Field(default_factory=lambda: ["jsonl"])
    """Where metrics go: `jsonl` (metrics.jsonl, always written) and `tensorboard`."""
    wandb: Wandb = Field(default_factory=Wandb)
    """Weights & Biases as a further tracker: one run there for this one, resumed or not. Its files lie in the run
    folder, under `wandb`; whatever fails on its side is a warning, never the end of training."""


class Compute(Section):
    """Hardware, precision and compilation."""

    device: Annotated[str, Accepts("one of auto, cpu, mps, cuda, cuda:N")] = Field(
        default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    """`auto` (CUDA, else MPS, else CPU), `cpu`, `mps`, `cuda` or `cuda:N`."""
    precision: Annotated[Literal["float32", "bf16", "fp16", "auto"], AnyCase] = "float32"
    """Arithmetic of the forward pass: `auto` is bf16 where the hardware computes it natively, else float32."""
    force_precision: Annotated[bool, when("compute.precision", "bf16", "fp16")] = False
    """Accept a half precision that this hardware only emulates (slow)."""
    compile: bool = False
    """Run the model through torch.compile; names in checkpoints stay the same."""
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Processes that share every batch, with the same gradient: `quincunx train` starts them itself, by torchrun.
    `auto`: one for each CUDA device. Unset: one, or as many as torchrun has started."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch. Unset: torch's choice, or OMP_NUM_THREADS."""
    deterministic: bool = False
    """Allow only deterministic kernels, so that a GPU repeats a run bit by bit too (slower)."""


class Debug(Section):
    """Short looks at a run; none of them belongs in a finished experiment."""

    limit: int | None = Field(default=None, ge=1)
    """Use only the first so many examples of every split (`--limit N`)."""
    overfit_batch: bool = False
    """Train on the first logical batch again and again (`--overfit-batch`)."""
    profile: bool = False
    """Record updates 5 to 10 with torch.profiler into the run folder (`--profile`)."""


class Common(Section):
    """What every recipe's config begins with."""

    recipe: str
    """Which recipe the file describes."""
    seed: Annotated[int, Accepts("int from 0 to 2^63 - 1")] | None = Field(default=None, ge=0, le=2**63 - 1)
    """Seed of everything random. Unset: drawn at the start and recorded in the run folder."""
    init_from: str | None = Field(default=None, min_length=1)
    """Run folder (or one of its checkpoints) whose weights a new run starts from."""
    init_partial: Annotated[bool, unless("init_from", None)] = False
    """With `init_from`: allow missing and unexpected weights; each is listed."""
    run: Run = Field(default_factory=Run)
    """The run's folder."""
