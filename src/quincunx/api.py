"""What Python users import and the command line calls: load a config, train it, evaluate a run, look into it.

```python
from quincunx import load, train, evaluate

config = load("listops.yaml", "budget.epochs=2")
run = train(config)
print(run.metrics("dev/accuracy"))
print(evaluate(run, split="test").scalars)
```
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.config.beside import refusal
from quincunx.config.document import ConfigError
from quincunx.config.load import Loaded
from quincunx.config.load import load as load_config
from quincunx.errors import RunError, UsageError
from quincunx.recipes import recipe_of, schemas
from quincunx.runs import RunFolder, Summary, read_metrics, read_summary, reopen

if TYPE_CHECKING:
    from torch import nn

    from quincunx.engine.events import Callback
    from quincunx.engine.runtime import Runtime
    from quincunx.metrics.record import Evaluation
    from quincunx.report.rankings import RankingComparison

Source = str | os.PathLike[str] | Mapping[str, Any] | Loaded
log = logging.getLogger("quincunx")


def load(source: Source, *overrides: str, task: str | None = None, strict: bool = False) -> Loaded:
    """Read, merge and check a config; its settings are under `.config`.

    Args:
        source: A config file (YAML, JSON, JSON with comments, Python literal), a run folder, or nested mappings.
        overrides: `path=value`, `path+=item`, `~path`, `path=@file`.
        task: Which block of a file with several tasks.
        strict: Take warnings for errors.

    Raises:
        ConfigError: With every problem of the file at its place.
    """
    if isinstance(source, Loaded):
        if overrides or task is not None or strict:
            raise UsageError("overrides, task and strict belong to the first load(...): give them there")
        if source.sweep is not None:
            raise ConfigError([refusal(source.sweep)])
        return source
    if not isinstance(source, Mapping) and Path(source).is_dir():
        source = reopen(str(source)).config
    loaded = load_config(source, overrides, schemas=schemas(), task=task, strict=strict)
    for problem in loaded.warnings:
        log.warning("%s", problem.render())
    return loaded


class Run:
    """A run folder, to be read; nothing here changes it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder: RunFolder = reopen(os.fspath(path))
        self.path: Path = self.folder.path
        self._loaded: Loaded | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def loaded(self) -> Loaded:
        """The run's config as loaded from its folder."""
        if self._loaded is None:
            self._loaded = load_config(self.folder.config, (), schemas=schemas())
        return self._loaded

    @property
    def config(self) -> Any:
        """The run's config, with everything decided."""
        return self.loaded.config

    @property
    def summary(self) -> Summary:
        """State, updates done, best metric."""
        return read_summary(self.folder)

    @property
    def report(self) -> Path:
        """The report's path."""
        return self.folder.report

    def metrics(self, name: str | None = None) -> list[dict[str, Any]] | list[tuple[int, float]]:
        """Return all lines of the metrics file, or of one metric (`dev/accuracy`) its (update, value) pairs."""
        lines = read_metrics(self.folder.metrics)
        if name is None:
            return lines
        found = [(line["update"], line["value"]) for line in lines if f"{line['split']}/{line['name']}" == name]
        if not found:
            known = sorted({f"{line['split']}/{line['name']}" for line in lines})
            raise RunError(f"{self.path} has no metric {name}; it has {', '.join(known) or 'none yet'}")
        return found

    def checkpoint(self, which: str = "best") -> Path:
        """Return a checkpoint: `best`, `last`, or its name; `best` falls back to `last` where none was marked.

        Raises:
            RunError: There is none yet.
            UsageError: There is none of that name.
        """
        from quincunx.engine.checkpoint import Checkpoints

        return Checkpoints(self.folder.checkpoints).named(which)

    def model(self, which: str = "best") -> nn.Module:
        """Return the run's model with the weights of a checkpoint, in eval mode on the CPU."""
        from quincunx.engine.checkpoint import Checkpoints, load_weights

        path = self.checkpoint(which)
        model = recipe_of(self.config.recipe).parts(self.config, home=self.path).model
        saved = Checkpoints(self.folder.checkpoints).load(path)
        load_weights(model, saved.weights["model"], str(path))
        return model.eval()

    def predict(self, rows: Sequence[Mapping[str, Any]], which: str = "best") -> list[dict[str, Any]]:
        """Return one mapping for each row, as the run's recipe predicts."""
        from quincunx.engine.runtime import start_runtime

        runtime = start_runtime(self.config.compute)
        try:
            model = self.model(which).to(runtime.device)
            return recipe_of(self.config.recipe).predict(self.config, model, runtime, rows, home=self.path)
        finally:
            runtime.close()


def train(
    source: Source,
    *overrides: str,
    resume: bool | str = False,
    checkpoint: str | None = None,
    allow_target: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    on_progress: Callable[[int, int], None] | None = None,
    show: bool = False,
    **options: Any,
) -> Run:
    """Train what a config describes and return the run.

    Args:
        source: As for `load`, or what `load` returned.
        overrides: As for `load`.
        resume: True goes on with the config's run where there is one, a path with that run.
        checkpoint: With `resume`, the name of the checkpoint to go on from; the newest otherwise.
        allow_target: Import paths that `_target_` may name besides optimizers and schedules.
        callbacks: Observers.
        on_progress: Called with (done, total) while data is prepared.
        show: Print what the command line prints.
        options: `task` and `strict`, as for `load`.

    Raises:
        ConfigError: The config is wrong; nothing was written.
        RunError: The run folder cannot be used, or a checkpoint not be restored.
        NonFiniteError: Training diverged; the state before is saved.
    """
    from quincunx.launch import Wish, launch

    if show:
        from quincunx.console import ConsoleCallback, Terminal, progress_of

        console = Terminal(soft_wrap=True)
        callbacks = [*callbacks, ConsoleCallback(console)]
        on_progress = on_progress or progress_of(console)
    if resume is True and isinstance(source, str | os.PathLike) and Path(source).is_dir():
        resume = os.fspath(source)
    wish = Wish(resume, checkpoint, tuple(allow_target), tuple(callbacks), on_progress)
    return Run(launch(load(source, *overrides, **options), wish).path)


def evaluate(
    run: Run | str | os.PathLike[str],
    split: str | None = None,
    which: str = "best",
    *,
    data: str | os.PathLike[str] | None = None,
    format: str = "auto",
    limit: int | None = None,
    skip_bad_rows: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Evaluate a run's checkpoint on one of its splits, or on other data.

    Nothing is written unless `data` or `out` is given: then the evaluation is kept in a folder, as its last note says,
    with every query's values and the ranking itself (retrieval alone).

    Args:
        run: The run, or its folder.
        split: None: `test`; of other data that has no splits (a single file), all of it.
        which: The checkpoint: `best`, `last`, or its name.
        data: A collection to measure on in place of the run's own; any form that `data.test` takes.
        format: Of `data`.
        limit: Of `data`, only the first so many queries; every document stays.
        skip_bad_rows: Of `data`, leave bad rows out; the folder lists them.
        out: The folder; None: `evaluations/<data>-<split>` within the run's.

    Raises:
        RunError: The run has no checkpoint, or the folder cannot be written.
        UsageError: The run has no such split, or no checkpoint of that name; its recipe measures no other data; the
            folder holds something else.
        DataError: `data` cannot be read.
    """
    from quincunx.engine.runtime import start_runtime

    run = run if isinstance(run, Run) else Run(run)
    run.checkpoint(which)  # before data is read, which may take a while
    asked = {"format": format, "limit": limit, "skip_bad_rows": skip_bad_rows}
    said = {"format": format != "auto", "limit": limit is not None, "skip_bad_rows": skip_bad_rows}
    if data is None and any(said.values()):
        given = " and ".join(name for name, there in said.items() if there)
        raise UsageError(f"{given} would say how other data is read, and none is given: give data as well")
    runtime = start_runtime(run.config.compute)
    try:
        if data is None and out is None:
            return _evaluate_split(run, split or "test", which, runtime)
        return _evaluate_kept(run, split, which, runtime, None if data is None else os.fspath(data), out, asked)
    finally:
        runtime.close()


def _evaluate_split(run: Run, split: str, which: str, runtime: Runtime) -> Evaluation:
    from quincunx.config.plan import make_plan
    from quincunx.engine.loop import evaluate as evaluate_model

    config = run.config
    experiment = recipe_of(config.recipe).build(config, (), None, home=run.path)
    evaluators = {**experiment.evaluators, **experiment.final_evaluators}
    if split not in evaluators:
        raise UsageError(f"{run.path} has no split {split!r}; it has {', '.join(evaluators)}")
    model = run.model(which).to(runtime.device)
    plan = make_plan(config, experiment.sizes, experiment.chunk_samples)
    return evaluate_model(model, evaluators[split], runtime, plan)


def _evaluate_kept(
    run: Run,
    split: str | None,
    which: str,
    runtime: Runtime,
    data: str | None,
    out: str | os.PathLike[str] | None,
    asked: Mapping[str, Any],
) -> Evaluation:
    from quincunx.report import kept

    recipe = recipe_of(run.config.recipe)
    if not hasattr(recipe, "measuring"):
        raise UsageError(
            f"{run.path} is a run of the recipe {run.config.recipe}, which is measured on its own splits and ranks "
            "nothing: leave data and out away"
        )
    measuring = recipe.measuring(run.config, split, data, **asked, home=run.path)
    path = run.checkpoint(which)
    if out is None:
        words = [measuring.name, *([which] if which != "best" else [])]
        words += [f"first-{asked['limit']}"] if asked["limit"] is not None else []
        place = run.folder.evaluations / "-".join(words)
    else:
        place = Path(out).expanduser()
    model = run.model(which).to(runtime.device)
    if not runtime.main:
        return runtime.share(measuring(model, runtime))
    with kept.place_for(place, measuring.fingerprint) as folder:
        measured = measuring(model, runtime)
        facts = {**measured.facts, "checkpoint": path.name, "run": run.path.name}
        kept.write(folder, measured.evaluation, facts, measured.skipped, measured.files)
    evaluation = measured.evaluation
    return runtime.share(replace(evaluation, notes=[*evaluation.notes, f"kept in {place}"]))


def compare_rankings(
    a: Run | str | os.PathLike[str],
    b: Run | str | os.PathLike[str],
    *,
    split: str = "test",
    data_name: str | None = None,
    qrels: str | os.PathLike[str] | None = None,
    measures: str | Sequence[str] | None = None,
    samples: int = 100_000,
    seed: int = 0,
) -> RankingComparison:
    """Compare two rankings of the same queries, query by query.

    See `quincunx.report.rankings.compare_rankings`.
    """
    from quincunx.report import rankings

    first, second = (side.path if isinstance(side, Run) else Path(side) for side in (a, b))
    return rankings.compare_rankings(
        first,
        second,
        split=split,
        data_name=data_name,
        qrels=None if qrels is None else Path(qrels),
        measures=measures,
        samples=samples,
        seed=seed,
    )
