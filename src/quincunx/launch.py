"""Putting a run together: folder, config, data, model, optimizer and state; then the loop; then what is left behind.

Everything that can be refused is refused before the run folder holds anything; from then on the folder alone is enough
to go on with the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from quincunx.config.check import check_sizes
from quincunx.config.document import ConfigError
from quincunx.config.load import Loaded, canonical, explicit_paths, load
from quincunx.config.plan import Plan, make_plan
from quincunx.config.schema import Metrics, Sizes
from quincunx.config.suggest import closest
from quincunx.data.loader import Updates
from quincunx.engine.checkpoint import Checkpoints, Restored, load_weights
from quincunx.engine.events import Callback, Requests
from quincunx.engine.experiment import Experiment, order_of
from quincunx.engine.footprint import count_parameters
from quincunx.engine.loop import Loop, evaluate
from quincunx.engine.objective import Summed
from quincunx.engine.optim import build_optimizer
from quincunx.engine.profile import Profile
from quincunx.engine.regularised import regularised
from quincunx.engine.runtime import Runtime, seed_torch, start_runtime
from quincunx.engine.schedule import build_schedule
from quincunx.engine.state import Best, State
from quincunx.engine.targets import try_targets
from quincunx.errors import CheckpointError, RunError, UsageError
from quincunx.journal import REASONS, Journal
from quincunx.recipes import recipe_of, schemas
from quincunx.report import write_report
from quincunx.runs import RunFolder, read_summary, reopen
from quincunx.seeds import address, draw_seed
from quincunx.settle import changes, claim_folder, existing_run, write_folder
from quincunx.track import Trackers, trackers_of
from quincunx.tuners import check_peft
from quincunx.tuners.adapter import fit_adapters

log = logging.getLogger("quincunx")


@dataclass(frozen=True)
class Wish:
    """What the caller asks for besides the config."""

    resume: bool | str = False
    """True: go on with this config's newest run (or its run.dir), or begin it; a path: go on with that run."""
    checkpoint: str | None = None
    """Name of the checkpoint to go on from; None: the newest."""
    allow_target: Sequence[str] = ()
    callbacks: Sequence[Callback] = ()
    on_progress: Callable[[int, int], None] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    path: Path
    """The run folder."""
    reason: str
    """`finished`, `stop_at`, `patience`, or the signal or file that stopped it."""
    main: bool
    """Whether this process is the one that speaks for the run."""

    @property
    def done(self) -> bool:
        """Whether the run came to an end of its own."""
        return self.reason in REASONS


def launch(loaded: Loaded, wish: Wish) -> Ended:
    """Train what a config describes and say how it ended.

    Raises ConfigError before anything is written, RunError when the folder cannot be used or a checkpoint not be
    restored, NonFiniteError when training diverges.
    """
    runtime = start_runtime(loaded.config.compute)
    try:
        _check_processes(loaded.config.compute.processes, runtime.world)
        return _launch(loaded, wish, runtime)
    finally:
        runtime.close()


def _launch(loaded: Loaded, wish: Wish, runtime: Runtime) -> Ended:
    recipe = recipe_of(loaded.schema.name)
    config, notes = recipe.decide(loaded.config)
    notes = [*loaded.notes, *notes]
    if runtime.world > 1:
        notes.append(f"{runtime.world} processes share every batch")
    _check_declared(config, loaded, recipe.chunk_samples(config), wish.allow_target)
    # opened before anything is read or written: a missing key or package is told at once
    trackers = trackers_of(config.log) if runtime.main else Trackers({})
    existing = runtime.share(existing_run(config, wish.resume) if runtime.main else None)
    if wish.checkpoint is not None and not existing:
        raise UsageError(f"there is no run to go on with from {wish.checkpoint}; name it: --resume RUN")
    folder = reopen(existing) if existing else claim_folder(config, runtime)
    if runtime.main:
        folder.lock()
    try:
        before = load(folder.config, schemas=schemas()).config if existing else None
        if config.seed is None:
            seed = before.seed if before is not None else runtime.share(draw_seed())
            config = config.model_copy(update={"seed": seed})
            notes += [] if existing else [f"no seed given: drew {seed}"]
        experiment = _build(recipe, config, loaded, runtime, wish)
        config = experiment.config
        section = getattr(config, "peft", None)
        parts = regularised(experiment.parts, section, compiled=config.compute.compile)
        experiment = replace(experiment, parts=parts)
        prelude = _prelude(recipe, config, folder)
        notes += [*experiment.notes, *changes(before, config, folder.path)]
        plan = make_plan(config, experiment.sizes, experiment.chunk_samples)
        problems = check_sizes(config, loaded.schema, experiment.sizes, loaded.document)
        if any(problem.severity == "error" for problem in problems):
            raise ConfigError(problems)
        notes += [problem.render() for problem in problems]
        return _train(
            config, loaded, experiment, plan, folder, runtime, wish, notes, prelude, trackers, fresh=not existing
        )
    except BaseException:
        if runtime.main and not existing:
            folder.abandon()
        raise
    finally:
        folder.release()


def _train(
    config: Any,
    loaded: Loaded,
    experiment: Experiment,
    plan: Plan,
    folder: RunFolder,
    runtime: Runtime,
    wish: Wish,
    notes: list[str],
    prelude: Loaded | None,
    trackers: Trackers,
    *,
    fresh: bool,
) -> Ended:
    plan = plan.with_model(count_parameters(experiment.parts))
    state, more = _state(config, experiment, plan, runtime, wish.allow_target)
    notes += more
    checkpoints = Checkpoints(folder.checkpoints, config.checkpoint.keep)
    saved = None if fresh else _restore(state, checkpoints, wish.checkpoint, runtime)
    if saved is None and config.init_from is not None:
        notes += _initialise(state, Path(config.init_from).expanduser(), config.init_partial)
    if runtime.main:
        checkpoints.clean()
        write_folder(folder, config, loaded, plan, experiment, state.update, notes)
    journal = Journal(folder, config, plan, state)
    callbacks = _callbacks(config, folder, journal, wish, runtime)
    requests = Requests(folder.path, callbacks)
    if runtime.main:
        requests.clear_files()
    if saved is None and prelude is not None:
        first = _launch_prelude(prelude, wish, runtime, folder, journal)
        if not first.done:
            return Ended(folder.path, first.reason, runtime.main)
        notes += _initialise(state, first.path, partial=True)
    _start(trackers, folder, config, None if fresh else saved.progress["trackers"] if saved else {})
    if saved is not None and wish.checkpoint is not None and runtime.main:
        checkpoints.rewind(saved.path, state.best.update if config.checkpoint.best else None)
    loop = Loop(
        plan=plan,
        state=state,
        data=_updates(config, experiment, runtime),
        seed=config.seed,
        runtime=runtime,
        checkpoints=checkpoints,
        trackers=trackers,
        requests=requests,
        evaluators=experiment.evaluators,
        callbacks=callbacks,
        clip_norm=config.update.clip_norm,
        patience=config.evaluate.patience,
        keep_best=config.checkpoint.best,
        evaluate_at_start=config.evaluate.at_start,
        workers=config.loading.workers,
    )
    try:
        reason = _go(loop, experiment, notes)
    except BaseException as error:
        for act in (partial(trackers.finish, 1), *(partial(callback.error, error) for callback in callbacks)):
            _attempt(act, "the record of a run that broke off is not complete")
        if remedy := _remedy(error):
            # torch ends its messages with advice to its own developers
            raise RunError(str(error).partition("\n\n")[0] + "\n" + remedy) from error
        raise
    finally:
        if runtime.main:
            # the run is what it is without its report
            _attempt(lambda: write_report(folder.path), f"no report; quincunx report {folder.path} writes it anew")
    return Ended(folder.path, reason, runtime.main)


def _start(trackers: Trackers, folder: RunFolder, config: Any, positions: Mapping[str, Any] | None) -> None:
    """Start the trackers; `positions` are those of the checkpoint that the run goes on from, None for a new run."""
    try:
        trackers.start(folder.path, canonical(config))
        if positions is not None:
            trackers.resume(positions)
    except BaseException:
        _attempt(partial(trackers.finish, 1), "not every tracker could be closed")
        raise


def _callbacks(config: Any, folder: RunFolder, journal: Journal, wish: Wish, runtime: Runtime) -> list[Callback]:
    if not runtime.main:
        return []
    return [journal, *wish.callbacks, *([Profile(folder.path, runtime.device)] if config.debug.profile else [])]


def _go(loop: Loop, experiment: Experiment, notes: Sequence[str]) -> str:
    """Train, evaluate the final splits where training came to its end, and close the records; return why it ended."""
    state = loop.state
    for callback in loop.callbacks:
        callback.start(loop.plan, state.update, notes)
    with loop.requests:
        reason = loop.run()
        if reason in REASONS:
            _final_evaluation(loop, experiment)
    loop.trackers.finish(0 if reason in REASONS else 1)
    for callback in loop.callbacks:
        callback.end(state.update, reason)
    return reason


def _attempt(act: Callable[[], object], otherwise: str) -> None:
    """Do something whose failure must not take the place of what came before it; a failure is logged."""
    try:
        act()
    except Exception as error:
        log.warning("%s: %s", otherwise, error)


def _remedy(error: BaseException) -> str | None:
    """Return what to do about an error of torch's that a setting can cure."""
    # without memory on the CPU it is a plain RuntimeError
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return (
            "Compute fewer examples at once, with the same gradient, by chunking.samples or chunking.tokens; "
            "--resume goes on with them"
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return "torch.compile cannot be had here: set compute.compile=false, or install what it misses"
    return None


def _check_processes(wanted: int | str | None, world: int) -> None:
    """Refuse to train in one process, or in as many as a launcher started, what the config wants in another number."""
    if isinstance(wanted, int) and wanted != world:
        raise UsageError(
            f"compute.processes is {wanted}, and there {'is one' if world == 1 else f'are {world}'}: start it by "
            "quincunx train, which starts them itself, or leave compute.processes out"
        )


def _check_declared(config: Any, loaded: Loaded, chunk_samples: int | None, allowed: Sequence[str]) -> None:
    """Refuse what declared sizes, `_target_` nodes and adapters show to be wrong before any data is read."""
    sizes = loaded.schema.sizes(config) if loaded.schema.sizes else Sizes(train=1)
    problems = check_sizes(config, loaded.schema, sizes, loaded.document) if loaded.schema.sizes else []
    problems += try_targets(config, make_plan(config, sizes, chunk_samples), loaded.document, allowed)
    if (section := getattr(config, "peft", None)) is not None:
        tasks = loaded.schema.tasks_of(config) if loaded.schema.tasks_of else ()
        problems += check_peft(section, loaded.document, tasks=tasks)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise ConfigError(errors)


def _prelude(recipe: Any, config: Any, folder: RunFolder) -> Loaded | None:
    """Return the run that comes before this one (self-pretraining, say), in a folder within its folder, if any."""
    changed = recipe.prelude(config)
    if changed is None:
        return None
    tree = canonical(config)
    for dotted, value in {**changed, "run": {"dir": str(folder.path / "pretraining")}, "init_from": None}.items():
        *parents, last = dotted.split(".")
        node = tree
        for part in parents:
            node = node[part]
        node[last] = value
    path = folder.path / "pretraining"
    return replace(load(tree, schemas=schemas()), notes=[f"first a run that this one starts from, in {path}"])


class _Relay(Callback):
    """Hands what is asked of a run by a file on to the run that comes before it, in a folder within its folder."""

    def __init__(self, outer: RunFolder, inner: RunFolder) -> None:
        self._files = [(outer.stop, inner.stop), (outer.save, inner.save)]

    def update(self, update: int) -> None:
        """Move the files that are there."""
        for asked, place in self._files:
            if asked.exists():
                asked.replace(place)


def _launch_prelude(prelude: Loaded, wish: Wish, runtime: Runtime, folder: RunFolder, journal: Journal) -> Ended:
    """Train the run that comes first, or go on with it, or find it trained; where it ends early, so does this one."""
    inner = RunFolder(Path(prelude.config.run.dir))
    if runtime.share(read_summary(inner).get("state") == "finished" if runtime.main else None):
        return Ended(inner.path, "finished", runtime.main)
    callbacks = (*wish.callbacks, _Relay(folder, inner))
    close: Callable[[], object] | None = None
    try:
        ended = _launch(prelude, replace(wish, resume=True, checkpoint=None, callbacks=callbacks), runtime)
        if not ended.done:
            close = partial(journal.end, 0, ended.reason)
        return ended
    except BaseException as error:
        close = partial(journal.error, error)
        raise
    finally:
        if close is not None and runtime.main:
            _attempt(close, "the record of a run that broke off is not complete")
            _attempt(lambda: write_report(folder.path), f"no report; quincunx report {folder.path} writes it anew")


def _build(recipe: Any, config: Any, loaded: Loaded, runtime: Runtime, wish: Wish) -> Experiment:
    seed_torch(address(config.seed, "initial weights"), runtime.device)
    build = lambda: recipe.build(config, explicit_paths(loaded), wish.on_progress if runtime.main else None)  # noqa: E731
    # rank 0 first: it generates what the others then find in the cache
    experiment = build() if runtime.main else None
    runtime.barrier()
    return experiment if experiment is not None else build()


def _state(
    config: Any, experiment: Experiment, plan: Plan, runtime: Runtime, allowed: Sequence[str]
) -> tuple[State, list[str]]:
    model = experiment.parts.model.to(runtime.device)
    objective = experiment.parts.objective.to(runtime.device)
    optimizer, notes = build_optimizer(config.optimizer, config.update, (model, objective), allowed)
    rates, more = build_schedule(config.schedule, optimizer, plan.total_updates, plan.updates_per_epoch, allowed)
    if config.compute.compile:
        model.compile(dynamic=True)  # in place, so that names in checkpoints stay as they are
    metric, goal = Metrics(experiment.metric, experiment.goal, tuple(experiment.metrics)).chosen(config)
    if experiment.metrics and metric not in experiment.metrics:
        near = closest(metric, experiment.metrics)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"evaluate.metric is {metric}; {hint}there are: {', '.join(experiment.metrics)}")
    return State(model, objective, optimizer, rates, Best(metric, goal), runtime.scaler()), [*notes, *more]


def _restore(state: State, checkpoints: Checkpoints, name: str | None, runtime: Runtime) -> Restored | None:
    """Restore the named or newest checkpoint; None when the run was killed before its first."""
    found = checkpoints.all()
    if name is not None:
        path = checkpoints.folder / name
        if path not in found:
            known = ", ".join(p.name for p in found) or "none"
            raise CheckpointError(f"{checkpoints.folder} has no checkpoint {name}; there are: {known}")
    elif not found:
        return None
    else:
        path = found[-1]
    saved = checkpoints.load(path, runtime.device)
    state.restore(saved)
    return saved


def _initialise(state: State, source: Path, partial: bool) -> list[str]:
    """Give the model the weights of a run or checkpoint; return what to say about it."""
    checkpoints = Checkpoints(source / "checkpoints" if (source / "checkpoints").is_dir() else source.parent)
    path = source
    if (source / "checkpoints").is_dir():
        found = checkpoints.all()
        path = checkpoints.best() or (found[-1] if found else source)
    if not path.is_dir():
        raise RunError(f"init_from: {source} is neither a run folder nor a checkpoint")
    saved = checkpoints.load(path)
    weights, said = fit_adapters(state.model, saved.weights["model"])
    lines = load_weights(state.model, weights, str(path), partial=partial)
    return [f"weights from {path}", *said, *lines]


def _updates(config: Any, experiment: Experiment, runtime: Runtime) -> Updates:
    order = order_of(config, experiment.sizes.train, experiment.source.lengths, config.seed, experiment.arrangement)
    # a summed loss needs this rank's rows only; a represented one sees the whole logical batch everywhere
    summed = isinstance(experiment.parts.objective, Summed)
    shard = (runtime.rank, runtime.world) if summed else (0, 1)
    return Updates(experiment.source, experiment.collate, order, config.seed, shard)


def _final_evaluation(loop: Loop, experiment: Experiment) -> None:
    """Evaluate the final splits on the best weights as they were saved, then put the last ones back."""
    if not experiment.final_evaluators:
        return
    state, checkpoints, runtime = loop.state, loop.checkpoints, loop.runtime
    last = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    best = checkpoints.best()
    update = state.update
    if best is not None and runtime.main:
        saved = checkpoints.load(best, runtime.device)
        load_weights(state.model, saved.weights["model"], str(best))
        update = saved.progress["update"]
    for split, evaluator in experiment.final_evaluators.items():
        evaluation = evaluate(state.model, evaluator, runtime, loop.plan)
        loop.trackers.log(update, split, evaluation.scalars)
        for callback in loop.callbacks:
            callback.evaluation(update, split, evaluation)
    if best is not None and runtime.main:
        load_weights(state.model, last, "the last update")
