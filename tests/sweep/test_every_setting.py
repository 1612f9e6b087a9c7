"""No setting of a sweep is accepted without effect: each is seen to act, and refused or named where it cannot. So is
every form of a range. What runs measure is written down by hand, so that nothing is trained here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

from quincunx.config.beside import RESERVED
from quincunx.config.document import ConfigError, Problem
from quincunx.config.explain import as_json
from quincunx.config.names import split
from quincunx.errors import RunError
from quincunx.runs import RunFolder
from quincunx.sweep.choosing.sampling import point_of
from quincunx.sweep.forecast import to_come
from quincunx.sweep.records import Facts, RunRecord, SweepRecord, TrialRecord
from quincunx.sweep.running import worker
from quincunx.sweep.running.outcome import Exit, judge
from quincunx.sweep.running.placing import environment, placement
from quincunx.sweep.running.pruning import hopeless, ladder
from quincunx.sweep.running.scheduling import Done, New, Promote, choose
from quincunx.sweep.running.watching import Look
from quincunx.sweep.settings import ADAPTIVE, SCHEMA, Sweep
from quincunx.sweep.storage.database import WORKERS
from quincunx.sweep.storage.store import Store
from quincunx.sweep.storage.study import placed, proposed
from settings_looked_at import SettingRow
from studies import RATES, sweep_of

Settings = Mapping[str, Any]
RATE, DECAY, BATCH = "optimizer.learning_rate", "optimizer.weight_decay", "update.batch_size"
SPANS = {RATE: {"low": 1e-3, "high": 0.1, "log": True, "n": 40}, DECAY: {"low": 0.0, "high": 0.4, "n": 41}}
DRAWN = {"sweep.sampler": "random", "sweep.trials": 13, "ranges": SPANS}
ASHA = {"sweep.pruner": "asha", "budget.updates": 9, "sweep.pruning.first": 1}
MEDIAN = {"sweep.pruner": "median", "sweep.pruning.startup": 2}
ALONE = {"ranges": {RATE: [0.1]}}
NOWHERE = "postgresql://me@127.0.0.1:9/nowhere"

CURVES = {"accuracy": (0.5, 0.9, 0.7, 0.7, 0.6, 0.6), "loss": (2.0, 1.0, 1.5, 1.5, 1.6, 1.6)}
"""What a run that stands in its folder measured at each of its six updates."""


class Seen:
    """What is seen of settings: `ranges` as a whole, `sweep.` ones, and those of the config."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self._settings = {"ranges": RATES, **settings}

    @cached_property
    def spec(self) -> Any:
        sweep: dict[str, Any] = {}
        changes: dict[str, Any] = {}
        for path, value in self._settings.items():
            *above, last = path.split(".")
            if above[:1] == ["sweep"]:
                (sweep.setdefault("pruning", {}) if len(above) > 1 else sweep)[last] = value
            elif path != "ranges":
                changes[path] = value
        if isinstance(sweep.get("dir"), str):
            sweep["dir"] = str(self.folder / sweep["dir"])
        return sweep_of(self.folder, self._settings["ranges"], changes, **sweep)

    @property
    def settings(self) -> Sweep:
        return self.spec.settings

    @cached_property
    def problems(self) -> list[Problem]:
        try:
            return self.spec.warnings
        except ConfigError as error:
            return list(error.problems)

    @cached_property
    def outcome(self) -> RunRecord:
        """The first run, as the sweep reads it from a folder in which it is trained already."""
        store = Store.open(self.spec)
        [run] = store.add_trial(store.read())
        folder = RunFolder(self.spec.dir / run.folder)
        folder.path.mkdir()
        rows = [
            {"update": update + 1, "split": "dev", "name": name, "value": value}
            for name, values in CURVES.items()
            for update, value in enumerate(values)
        ]
        folder.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        folder.plan.write_text('{"total_updates": 6, "stop_at": 6}', encoding="utf-8")
        events: list[str] = []
        ended = {"state": "finished", "update": 6, "updates": 6, "reason": "trained to the end"}
        folder.summary.write_text(json.dumps(ended), encoding="utf-8")
        try:
            assert worker.run(self.spec, store, on_event=lambda kind, _: events.append(kind)).exit_code == 0
            assert "done" in events and "started" not in events
            return store.read().runs[0]
        finally:
            store.shut()


def of(*runs: dict[str, Any], hours: float = 0.0) -> SweepRecord:
    """Return a sweep with a run a trial, of nine updates."""
    common = {"replicate": 0, "seed": 0, "folder": "folder", "total": 9}
    made = [RunRecord(number=n, trial=n, hash=str(n), **{**common, **run}) for n, run in enumerate(runs)]
    return SweepRecord([TrialRecord(run.trial, {}, {}, [run]) for run in made], hours)


DONE = {"state": "done", "update": 9, "value": 0.5, "values": {1: 0.5, 9: 0.5}}
FAILED = {"state": "failed"}


def expected(seen: Seen) -> list[tuple[Settings, int]]:
    """Return the runs that there will be."""
    return [(each.settings, each.replicate) for each in to_come(seen.spec, SweepRecord([]))]


def thirteenth(seen: Seen) -> Settings:
    """Return what the sampler chooses after twelve trials that were drawn, the same ones for all samplers."""
    spec, space = seen.spec, seen.spec.space
    if spec.sampler not in ADAPTIVE:
        return space.settings(point_of(space, spec.sampler, spec.settings.seed, 12))
    points = [point_of(space, "random", 7, number) for number in range(12)]
    record = of(*({**DONE, "value": -abs(point[RATE] - 0.01)} for point in points))
    before = [(each, placed(space, point, {})) for each, point in zip(record.trials, points, strict=True)]
    return proposed(space, spec.sampler, spec.settings.seed, "max", before, {}).user_attrs["settings"]


def step(record: SweepRecord) -> Callable[[Seen], Any]:
    """Return what looks at what is done next."""
    return lambda seen: choose(record, seen.settings, "max", Facts(more=True))


def ends(text: str) -> Callable[[Any, Any], bool]:
    """Return whether there was more to do before, and the sweep ends for this reason after."""
    return lambda before, after: before == New() and isinstance(after, Done) and text in after.reason


def rungs(seen: Seen) -> list[list[int]]:
    """Return the rungs of some trials."""
    record = of(*({} for _ in range(12)))
    return [ladder(trial, record, seen.settings) for trial in record.trials]


def goes_on(seen: Seen) -> int | None:
    """Return which of three trials that came to the first rung goes on, with more to come."""
    paused = [{"state": "paused", "update": 1, "values": {1: value}} for value in (0.1, 0.2, 0.3)]
    chosen = choose(of(*paused), seen.settings, "max", Facts(more=True))
    return chosen.trial if isinstance(chosen, Promote) else None


def verdict(seen: Seen) -> str | None:
    """Return what is said of a trial that is the worst of four at update 1."""
    bad = {"state": "running", "update": 1, "value": 0.1, "values": {1: 0.1}}
    return hopeless(of(bad, DONE, DONE, DONE), 0, seen.settings, "max")


def after_failure(seen: Seen) -> str:
    """Return the state of a run whose process failed for the first time."""
    run = of({"state": "running"}).runs[0]
    return judge(run, Look({}, 9, False, False), Exit(1, "no memory"), seen.settings.retries).state


def places(seen: Seen) -> list[str | None]:
    return placement(seen.settings, ["0", "1"])


def variables(seen: Seen) -> dict[str, str]:
    return environment(seen.settings, None, seen.spec.base.config, {})


def kept(seen: Seen) -> list[str] | str:
    """Return the databases below the folder and the sweeps in each, or why there is none."""
    from optuna import get_all_study_names

    try:
        Store.open(seen.spec).shut()
    except RunError as error:
        return str(error)
    found = [(path.parent.name, f"sqlite:///{path}") for path in sorted(seen.folder.glob("*/sweep.db"))]
    return [f"{name}: {' '.join(get_all_study_names(url))}" for name, url in found]


def gone(seen: Seen) -> bool:
    """Return whether another machine's worker counts as gone that gave its last sign of life 100 seconds ago."""
    here, there = (Store.open(seen.spec, host=host) for host in ("alpha", "beta"))
    here.beat()
    [run] = here.add_trial(here.read())
    assert here.claim(run, None) is not None
    with here._database.begin() as connection:
        connection.execute(WORKERS.update().values(beat=WORKERS.c.beat - 100))
    orphans = there.facts(there.read()).orphans
    here.shut()
    there.shut()
    return orphans == {0}


def value(seen: Seen) -> float | None:
    return seen.outcome.value


def turns(before: Any, after: Any) -> Callable[[Any, Any], bool]:
    """Return whether exactly this is seen."""
    return lambda first, then: (first, then) == (before, after)


@dataclass(frozen=True)
class Row(SettingRow):
    """One setting."""

    idle: tuple[Settings, ...] = ()
    """Settings, each set of them in place of `base`, under which it must be refused or named as without effect."""


GRID = {"sweep.sampler": "grid"}
OWN_THREADS, FREE_THREADS = {"compute.threads": 1}, {"compute.threads": None}
NO_RUNGS = ({}, {"sweep.pruner": "median"})
NO_MEDIAN = ({}, {"sweep.pruner": "asha"})
BY_LOSS = {**ALONE, "sweep.metric": "dev/loss"}
BY_ACCURACY = {**ALONE, "sweep.metric": "dev/accuracy"}

ROWS = (
    Row("sweep.dir", "elsewhere", kept, lambda _, then: [each.split(":")[0] for each in then] == ["elsewhere"]),
    *(Row("sweep.sampler", word, thirteenth, base=DRAWN) for word in ("grid", "qmc", "tpe", "gp", "cmaes")),
    Row("sweep.sampler", "random", thirteenth, base={**DRAWN, "sweep.sampler": "grid"}),
    Row("sweep.trials", 9, expected, lambda first, then: first[:9] == then, DRAWN, idle=(GRID,)),
    Row("sweep.updates", 18, step(of(DONE, DONE)), ends("18 updates")),
    Row("sweep.hours", 1.5, step(of(DONE, hours=1.5)), ends("1.5 hours")),
    Row("sweep.seed", 1, expected, base=DRAWN, idle=(GRID,)),
    Row("sweep.seed", 1, expected, base={**DRAWN, "sweep.sampler": "qmc"}),
    Row("sweep.seed", 1, thirteenth, base={**DRAWN, "sweep.sampler": "tpe"}),
    Row("sweep.n_seeds", 3, expected, lambda first, then: [(one, n) for one, _ in first for n in range(3)] == then),
    Row("sweep.metric", "dev/loss", value, turns(0.9, 1.0), ALONE),
    Row("sweep.goal", "min", value, turns(0.9, 0.5), BY_ACCURACY, idle=({},)),
    Row("sweep.goal", "max", value, turns(1.0, 2.0), BY_LOSS, idle=({},)),
    Row("sweep.value", "last", value, turns(0.9, 0.6), ALONE),
    Row("sweep.pruner", "median", verdict, lambda first, _: first is None, {"sweep.pruning.startup": 3}),
    Row("sweep.pruner", "asha", rungs, turns([[]] * 12, [[1, 3]] * 12), {"sweep.pruning.first": 1}),
    Row("sweep.pruner", "hyperband", rungs, lambda _, then: {len(each) for each in then} == {0, 1, 2}, ASHA),
    Row("sweep.pruning.first", 2, rungs, turns([[1, 3]] * 12, [[2, 6]] * 12), ASHA, idle=NO_RUNGS),
    Row("sweep.pruning.factor", 2, rungs, turns([[1, 3]] * 12, [[1, 2, 4, 8]] * 12), ASHA, idle=NO_RUNGS),
    Row("sweep.pruning.gather", 4, goes_on, turns(2, None), ASHA, idle=NO_RUNGS),
    Row("sweep.pruning.after", 2, verdict, lambda first, then: first is not None is then, MEDIAN, idle=NO_MEDIAN),
    Row("sweep.pruning.startup", 4, verdict, lambda first, then: first is not None is then, MEDIAN, idle=NO_MEDIAN),
    Row(
        "sweep.exclude",
        [{RATE: [0.1, 0.03]}, {RATE: 0.02}],
        expected,
        lambda first, then: [one for one in first if one[0][RATE] not in (0.1, 0.03, 0.02)] == then,
    ),
    Row("sweep.retries", 0, after_failure, turns("waiting", "failed")),
    Row("sweep.fail_fast", True, step(of(FAILED)), ends("a run failed (folder), and sweep.fail_fast is set")),
    Row("sweep.workers", 3, places, turns([None], ["0", "1", "0"])),
    Row("sweep.devices", "all", places, turns(["0", "1"], [None, None]), {"sweep.workers": 2}),
    Row("sweep.devices", [1], places, turns([None], ["1"])),
    Row(
        "sweep.threads",
        5,
        variables,
        turns({}, {"OMP_NUM_THREADS": "5"}),
        {"compute.threads": None},
        idle=(OWN_THREADS,),
    ),
    Row("sweep.storage", NOWHERE, kept, lambda _, then: "127.0.0.1:9/nowhere" in then),
    Row("sweep.name", "mine", kept, lambda first, then: then == ["study: mine"] != first),
    Row("sweep.lease", 300, gone, turns(True, False)),
)


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Row, Settings], Any]:
    """Return a function that looks at settings as a row does, once at the same ones in the same way."""
    made: dict[Any, Any] = {}

    def looked(row: Row, settings: Settings) -> Any:
        key = row.see, json.dumps(settings, sort_keys=True)
        if key not in made:
            made[key] = row.see(Seen(settings, tmp_path_factory.mktemp("seen")))
        return made[key]

    return looked


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.path}-{row.value}")
def test_a_setting_acts(row: Row, look: Callable[[Row, Settings], Any]) -> None:
    first, then = look(row, row.base), look(row, {**row.base, row.path: row.value})
    assert first != then
    assert row.wanted is None or row.wanted(first, then), (first, then)


@pytest.mark.parametrize(
    ("row", "settings"),
    [pytest.param(row, each, id=f"{row.path}-{number}") for row in ROWS for number, each in enumerate(row.idle)],
)
def test_a_setting_that_cannot_act_is_refused_or_named(row: Row, settings: Settings, tmp_path: Path) -> None:
    assert Seen(settings, tmp_path).problems == []
    found = Seen({**settings, row.path: row.value}, tmp_path).problems
    assert [each.path for each in found] == [split(row.path)]


def test_every_setting_that_explain_lists_is_shown() -> None:
    listed = {each["path"] for each in as_json([SCHEMA]) if each["type"] != "section"}
    assert {row.path for row in ROWS} == listed


def test_every_word_of_a_setting_is_shown() -> None:
    seen = {(row.path, row.value) for row in ROWS if isinstance(row.value, str)}
    listed = {
        (f"sweep.{name}", word)
        for name, info in Sweep.model_fields.items()
        for word in words(info.annotation)
        if word != info.default  # what others are told from
    }
    assert len(listed) > 10 and listed - seen == set()


def words(annotation: Any) -> Iterator[str]:
    """Yield the words that a type allows."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Annotated, Union, UnionType):
        for each in get_args(annotation):
            yield from words(each)


@dataclass(frozen=True)
class Form:
    """One form of a range, or a key in it."""

    shows: str
    before: Settings
    after: Settings
    chosen: list[tuple[Any, ...]] | Callable[[list[tuple[Any, ...]], list[tuple[Any, ...]]], bool]
    """The combinations after, value by value, or what must hold of those before and after."""
    config: Settings = field(default_factory=dict)


def span(**keys: Any) -> Settings:
    return {DECAY: {"low": 0.1, "high": 0.4, **keys}}


def ones(*values: Any) -> list[tuple[Any, ...]]:
    return [(each,) for each in values]


def within(low: float, high: float, middle: float) -> Callable[[Any, Any], bool]:
    """Return whether numbers, with few repeated, reach from low to high, about half of them below the middle."""

    def holds(before: list[tuple[float]], after: list[tuple[float]]) -> bool:
        numbers = [each for (each,) in after]
        tenth = (high - low) / 10
        reach = low <= min(numbers) <= low + tenth and high - tenth <= max(numbers) <= high
        return reach and len(set(numbers)) > 90 and 35 < sum(each < middle for each in numbers) < 65

    return holds


SLOW, FAST = 0.001, 0.1
ONE, TWO = {BATCH: [8]}, {BATCH: [8, 16]}
ONLY = {"when": {BATCH: 16}}

FORMS = (
    Form("list", TWO, {**TWO, DECAY: [0, 0.1]}, [(8, 0), (8, 0.1), (16, 0), (16, 0.1)]),
    Form("list", {DECAY: [0], **TWO}, {DECAY: [0, 0.1], **TWO}, [(0, 8), (0, 16), (0.1, 8), (0.1, 16)]),
    Form("zip", {**TWO, DECAY: [0, 0.1]}, {"both": {**TWO, DECAY: [0, 0.1]}}, [(8, 0), (16, 0.1)]),
    Form("low", span(n=4), span(low=0.25, n=4), ones(0.25, 0.3, 0.35, 0.4)),
    Form("high", span(n=4), span(high=0.7, n=4), ones(0.1, 0.3, 0.5, 0.7)),
    Form("step", span(step=0.1), span(step=0.15), ones(0.1, 0.25, 0.4)),
    Form("step", {BATCH: {"low": 8, "high": 16}}, {BATCH: {"low": 8, "high": 16, "step": 3}}, ones(8, 11, 14)),
    Form("n", span(step=0.3), span(n=3), ones(0.1, 0.25, 0.4)),
    Form(
        "log",
        {RATE: {"low": SLOW, "high": FAST, "n": 3}},
        {RATE: {"low": SLOW, "high": FAST, "n": 3, "log": True}},
        ones(SLOW, 0.01, FAST),
    ),
    Form("low", span(), span(low=0.3), within(0.3, 0.4, 0.35)),
    Form("high", span(), span(high=0.9), within(0.1, 0.9, 0.5)),
    Form(
        "log",
        {RATE: {"low": SLOW, "high": FAST}},
        {RATE: {"low": SLOW, "high": FAST, "log": True}},
        within(SLOW, FAST, 0.01),
    ),
    Form("values", ONE, {BATCH: {"values": [8, 16]}}, ones(8, 16)),
    Form("when", {**TWO, DECAY: [0, 0.1]}, {**TWO, DECAY: {"values": [0, 0.1], **ONLY}}, [(8,), (16, 0), (16, 0.1)]),
    Form("when", {**TWO, **span(n=2)}, {**TWO, **span(n=2, **ONLY)}, [(8,), (16, 0.1), (16, 0.4)]),
    Form(
        "when",
        {BATCH: [8, 16, 32], "both": {DECAY: [0, 0.1], "optimizer.eps": [1e-8, 1e-6]}},
        {BATCH: [8, 16, 32], "both": {DECAY: [0, 0.1], "optimizer.eps": [1e-8, 1e-6], "when": {BATCH: [8, 32]}}},
        [(8, 0, 1e-8), (8, 0.1, 1e-6), (16,), (32, 0, 1e-8), (32, 0.1, 1e-6)],
    ),
    Form(
        "when",
        {**TWO, DECAY: {"values": [0, 0.1], "when": {"attention.kind": "softmax"}}},
        {**TWO, DECAY: {"values": [0, 0.1], "when": {"attention.kind": "none"}}},
        ones(8, 16),
    ),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.shows}-{'-'.join(form.after)}")
def test_every_form_of_a_range_acts(form: Form, tmp_path: Path) -> None:
    found: list[list[tuple[Any, ...]]] = []
    for ranges in (form.before, form.after):
        spec = sweep_of(tmp_path, ranges, sampler=None, updates=10**6)
        points = spec.space.grid() if spec.space.finite else drawn(spec)
        found.append([tuple(spec.space.settings(point).values()) for point in points])
    before, after = found
    assert before != after
    if callable(form.chosen):
        assert form.chosen(before, after), (before, after)
    else:
        assert repr(after) == repr(form.chosen)  # 1 and 1.0 are two things


def drawn(spec: Any) -> Iterator[Any]:
    """Return a hundred draws."""
    assert spec.sampler == "random"
    return (point_of(spec.space, spec.sampler, 0, number) for number in islice(range(100), 100))


def test_every_form_is_shown() -> None:
    assert {form.shows for form in FORMS} == {"list", "zip", *RESERVED}
