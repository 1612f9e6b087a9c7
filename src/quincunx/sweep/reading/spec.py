"""What a sweep is: its config, its ranges and its settings, read, checked and put together; and kept for later.

The configs of its runs are made from it: the config's files, the values of a point laid over them, then everything as
for any config, so that references, defaults and checks see the values of the run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quincunx.config import beside
from quincunx.config.check import check
from quincunx.config.compare import HARMLESS, flat, within
from quincunx.config.document import ConfigError, Document, Problem
from quincunx.config.load import Draft, Loaded, draft, explicit_paths, finish
from quincunx.config.paths import KeyPath, dotted, is_mapping
from quincunx.config.read import FORMS, read_text
from quincunx.config.schema import lookup
from quincunx.config.write import canonical, literal, scalar, to_yaml, yaml_text
from quincunx.errors import UsageError
from quincunx.recipes import schemas
from quincunx.sweep.choosing.adaptive import notes_of
from quincunx.sweep.choosing.space import Point, Range, Space
from quincunx.sweep.reading.checking import Tried, check_space, lasting_errors, warnings_of, wrong_values
from quincunx.sweep.reading.deciding import Goal, folder_of, idle_beside, metric_of, metric_problem, section_of
from quincunx.sweep.reading.laying import AT, changes_of, plain_changes
from quincunx.sweep.reading.meaning import Meaning, Names
from quincunx.sweep.reading.passwords import covered, scrubbed, without_password
from quincunx.sweep.reading.ranges import read_ranges
from quincunx.sweep.reading.ranges_file import read_ranges_file
from quincunx.sweep.records import RunRecord
from quincunx.sweep.settings import SCHEMA, Sweep

FORMAT = 1
"""Of snapshots; counted up when an older one cannot be read any more."""

FOLDERS = ("root", "version")
"""Settings of `run` that say where a run's folder is made, which the sweep says."""


@dataclass(frozen=True)
class Spec:
    """A sweep."""

    dir: Path
    """Its folder."""
    name: str
    """The word that the folders of its runs begin with."""
    settings: Sweep
    """The section `sweep`, the sampler decided."""
    space: Space
    sampler: str
    metric: str | None
    """`split/name` that is compared; None where the recipe names none."""
    goal: Goal
    base: Loaded = field(compare=False)
    """The config without its ranges; where it is none without them, with the values of the first combination."""
    seed: int | None
    """The config's; None: to be drawn once and kept."""
    warnings: list[Problem] = field(compare=False)
    notes: list[str] = field(compare=False)
    """What was decided without being asked, in sentences."""
    ranged: tuple[str, ...]
    """The ranged settings under their present names, in the order of the file."""
    ranges: Document = field(repr=False, compare=False)
    """The root keys `ranges` and `sweep` as read."""
    draft: Draft = field(repr=False, compare=False)
    task: str | None = None

    def load(self, point: Point, seed: int | None = None, **changes: Any) -> Loaded:
        """Return the config of a run; a value that it does not accept is told at its place in the ranges.

        Args:
            point: A combination.
            seed: In place of the config's.
            changes: Further settings by dotted path, for example `**{"run.dir": folder}`, which takes the place of
                `run.root`.

        Raises:
            ConfigError: The combination is contradictory.
        """
        more = {**({} if seed is None else {"seed": seed}), **changes}
        read = _without_folders(self.draft) if "run.dir" in changes else self.draft
        return finish(read, [*changes_of(self.ranges, self.space, point), *plain_changes(more)])

    def hash_of(self, loaded: Loaded) -> str:
        """Return what tells the runs of this sweep apart; see `config_hash`."""
        return config_hash(loaded, self.ranged)

    def config_text(self) -> str:
        """Return the config's own settings as YAML; see `run_text`."""
        return run_text(self.base, self.draft)

    def ranges_text(self) -> str:
        """Return the ranges, and the settings of the sweep that are set, as YAML; without a password."""
        return yaml_text(_beside(self.ranges))

    def snapshot(self) -> dict[str, Any]:
        """Return plain containers from which `restore` makes an equal sweep without the files; without a password."""
        sources = [layer.places[()].value.source for layer in self.draft.layers]
        changes = [
            f"~{dotted(each.path)}"
            if each.kind == "delete"
            else f"{dotted(each.path)}{'+' if each.kind == 'append' else ''}={scalar(each.value)}"
            for each in self.draft.changes
        ]
        settings = self.settings.model_dump(by_alias=True)
        return {
            "format": FORMAT,
            "recipe": self.base.schema.name,
            "dir": str(self.dir),
            "name": self.name,
            "sampler": self.sampler,
            "metric": self.metric,
            "goal": self.goal,
            "seed": self.seed,
            "settings": settings | {"storage": without_password(self.settings.storage)},
            **_beside(self.ranges),
            "ranged": list(self.ranged),
            "config": canonical(self.base.config),
            "task": self.task,
            "layers": [
                {"name": each.name, "text": scrubbed("\n".join(each.lines), self.settings.storage)} for each in sources
            ],
            "changes": changes,
        }


def open_sweep(
    source: str | os.PathLike[str] | Mapping[str, Any],
    ranges_file: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    task: str | None = None,
    strict: bool = False,
    check_all: bool = True,
) -> Spec:
    """Return the sweep of a config that has `ranges`, or of a config and a file of ranges.

    Args:
        source: The config, as for `quincunx.load`.
        ranges_file: Ranges alone, or the root keys `ranges` and `sweep`.
        overrides: Of the config, and of `ranges.` and `sweep.`.
        task: Which block of a file with several tasks.
        strict: Take warnings for errors.
        check_all: Read the configurations; without it only names and forms are judged.

    Raises:
        ConfigError: With everything that is wrong with config, ranges and settings, each at its place.
    """
    further, problems = read_ranges_file(ranges_file)
    try:
        read = draft(source, overrides, schemas=schemas(), task=task, ranges=further)
        read.stages.problems.extend(problems)
        return _Opening(read, task, strict).open(check_all)
    except ConfigError as error:
        raise covered(error) from None


def open_draft(read: Draft, task: str | None = None, *, strict: bool = False, check_all: bool = True) -> Spec:
    """Return the sweep of a draft that has something beside its settings; arguments and errors as of `open_sweep`.

    One with the section `sweep` alone, for a file of ranges to come, has a space without ranges here.
    """
    try:
        return _Opening(read, task, strict).open(check_all, alone=True)
    except ConfigError as error:
        raise covered(error) from None


def run_text(base: Loaded, read: Draft, *, full: bool = False) -> str:
    """Return a sweep's config, without what stands beside its settings, as YAML under present names.

    References stay as they are written: they may lead to settings that are ranged. With `full` also defaults.
    """
    document = Document(literal(canonical(base.config, full=full, keep=explicit_paths(base))))
    for path, value in read.document.leaves():
        if "${" in scalar(value):
            document.put(path, value)
    return yaml_text(document.tree)


def beside_text(read: Draft) -> str:
    """Return what stands beside the settings as YAML, without a password; empty where nothing does."""
    return "" if read.sweep is None else yaml_text(_beside(read.sweep))


def restore(snapshot: Mapping[str, Any]) -> Spec:
    """Return the sweep that a snapshot is of; the files that it was read from are not looked at.

    Raises ConfigError where the snapshot is of another version that meant something else by its settings.
    """
    layers: list[Document] = []
    for each in snapshot["layers"]:
        form = FORMS.get(Path(each["name"]).suffix.lower(), "yaml")
        layer = read_text(each["text"], each["name"], form)
        for root in ("base", *beside.ROOTS):
            if layer.has((root,)):
                layer.delete((root,))
        layers.append(layer)
    read = draft(layers, snapshot["changes"], schemas=schemas(), task=snapshot["task"])
    tree = {root: snapshot[root] for root in beside.ROOTS if root in snapshot}
    ranges = read_text(yaml_text(tree), "ranges.yaml", "yaml")
    decided = ranges.copy()
    for key in ("dir", "sampler"):
        decided.put(("sweep", key), snapshot[key])
    spec = _Opening(replace(read, sweep=decided), snapshot["task"], False).open(False)
    return replace(
        spec,
        ranges=ranges,
        name=snapshot["name"],
        settings=Sweep.model_validate(snapshot["settings"]),
        metric=snapshot["metric"],
        goal=snapshot["goal"],
        seed=snapshot["seed"],
    )


def config_hash(config: Any, ranged: Collection[str] = ()) -> str:
    """Return 16 hexadecimal digits that are the same for configs that give the same run.

    Where a run is written, how it is logged and on what it computes makes no difference (`config.compare.HARMLESS`),
    but for the `ranged` settings: whoever ranges one of these wants to see the difference.
    """
    tree = canonical(config.config if isinstance(config, Loaded) else config)
    kept = {
        path: value
        for path, value in flat(tree)
        if not within(path, HARMLESS) or any(path == each or path.startswith(f"{each}.") for each in ranged)
    }
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def trial_file(spec: Spec, run: RunRecord, settings: Mapping[str, Any], point: Point) -> str:
    """Return the config of a run as the text of a file that `quincunx train` takes: explicit settings, seed, folder."""
    loaded = spec.load(point, run.seed, **{"run.dir": str(spec.dir / run.folder)})
    values = ", ".join(f"{key}={scalar(value)}" for key, value in settings.items())
    head = [
        f"Run {run.number} of the sweep in {spec.dir}: trial {run.trial}, replicate {run.replicate}, seed {run.seed}.",
        f"Its values of the ranges: {values}",
        "Written by quincunx sweep; the run folder's own config.yaml has everything decided.",
    ]
    comments = "".join(f"# {line}\n" for line in head)
    return comments + to_yaml(loaded.config, keep=explicit_paths(loaded))


class _Opening:
    """Puts a sweep together and collects what is wrong."""

    def __init__(self, read: Draft, task: str | None, strict: bool) -> None:
        self.read = read
        self.task = task
        self.strict = strict
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.notes: list[str] = []
        self.names = Names(read.schema)
        self.document = read.sweep.copy() if read.sweep is not None else Document({})

    def open(self, check_all: bool, *, alone: bool = False) -> Spec:
        ranges, self.problems = read_ranges(self.document, AT, self.names)
        without = alone and not self.document.has(AT)
        broken = bool(self.read.stages.problems)  # what can be read of a file may be less than what stands in it
        if not self.document.has(AT) or (broken and not self.document.get(AT)):
            self.problems = []
        if not self.document.has(AT) and not without and not broken:
            remedy = "give a second file, or write in the config: ranges: {optimizer.learning_rate: [1e-3, 1e-4]}"
            self.problems = [Problem("error", AT, None, "there are no ranges to sweep over", remedy)]
        single, errors = self._alone()
        section, misled = section_of(self.read, self.document)
        self.problems += misled
        settings = self._settings(section, ranges)
        self.warnings = [] if without else self.warnings  # which sampler there will be is not known yet
        meaning = Meaning(self.names, self.document, AT, ranges)
        meaning.check_keys(settings.n_seeds, settings.pruner in ("asha", "hyperband"))
        meaning.check_overrides(self.read.changes, self.task, self.read.nested)
        acting = meaning.conditions(None if single is None else single.config, self.read.document)
        exclusions = meaning.exclusions(settings.exclude, section, acting)
        self.problems += meaning.problems
        if not acting and not self.problems and not broken and self.document.has(AT):
            message = "no range acts, so there is nothing to sweep over"
            self.problems.append(Problem("error", AT, self.document.mark(AT), message, "; ".join(meaning.notes)))
        if self.problems or without:
            # what a range will set is not wrong yet
            errors = [each for each in errors if not meaning.touches(each.path)]
        if self.problems or (without and errors):
            wrong = [] if without or broken else self._wrong_values(ranges)
            raise ConfigError(list(dict.fromkeys([*errors, *self.problems, *wrong])))
        space = Space(acting, tuple(exclusions))
        self._check_excluded(space, section)
        said = self._check_sampler(settings, space, section)
        tried = Tried()
        load = lambda point: finish(self.read, list(changes_of(self.document, space, point)))  # noqa: E731
        if lasting := lasting_errors(space, load, errors):
            raise ConfigError(list(dict.fromkeys([*lasting, *self._wrong_values(ranges)])))
        if not without and (check_all or single is None):
            tried = check_space(space, self.document, load, grid=settings.sampler == "grid")
            self.problems += tried.problems
        if single is None and not tried.good:
            raise ConfigError(self.problems)
        base = single or tried.good[0][1]
        configs = [loaded for _, loaded in tried.good] or [base]
        unfit = metric_problem(self.read.schema, settings, configs, self.document, section)
        self.problems += [] if unfit is None else [unfit]
        metric, goal = metric_of(self.read.schema, settings, configs)
        self.warnings += self._warnings(tried, space, section, base)
        if self.strict:
            self.problems += [replace(each, severity="error") for each in self.warnings]
        if self.problems:
            raise ConfigError([*self.problems, *([] if self.strict else self.warnings)])
        kept = {one.name for one in space.ranges}
        return Spec(
            dir=folder_of(settings, self.read),
            name=base.config.run.name or "-".join(filter(None, (base.schema.name, lookup(base.config, "task")))),
            settings=settings,
            space=space,
            sampler=settings.sampler or "grid",
            metric=metric,
            goal=goal,
            base=base,
            seed=base.config.seed,
            warnings=self.warnings,
            notes=list(dict.fromkeys([*base.notes, *meaning.notes, *said, *tried.notes])),
            ranged=tuple(dotted(path) for path, (one, _) in meaning.owners.items() if one.name in kept),
            ranges=self.document,
            draft=self.read,
            task=self.task,
        )

    def _warnings(self, tried: Tried, space: Space, section: Document, base: Loaded) -> list[Problem]:
        told = warnings_of(tried, space, self.document) if tried.good else base.warnings
        return [*told, *idle_beside(section, [loaded for _, loaded in tried.good] or [base])]

    def _alone(self) -> tuple[Loaded | None, Sequence[Problem]]:
        """Return the config without ranges, or what is wrong with it."""
        try:
            return finish(self.read), ()
        except ConfigError as error:
            return None, [each for each in error.problems if each.severity == "error"]

    def _settings(self, section: Document, ranges: Sequence[Range]) -> Sweep:
        """Return the checked section; the sampler is decided, and written into it."""
        endless = [one for one in ranges if one.count is None]
        at: KeyPath = ("sweep", "sampler")
        if is_mapping(section.get(("sweep",))) and (not section.has(at) or section.get(at) is None):
            place = self.document.places.get((*AT, endless[0].name)) if endless else None
            section.put(at, "random" if endless else "grid", place)
        checked = check(section, SCHEMA)
        self.problems += [each for each in checked.problems if each.severity == "error"]
        self.warnings += [each for each in checked.problems if each.severity == "warning"]
        settings: Sweep = checked.config.sweep if checked.config is not None else Sweep()
        if settings.sampler == "grid":
            for one in endless:
                path: KeyPath = (*AT, one.name)
                message = f"`{one.name}` is a span without points, and sweep.sampler is grid"
                remedy = "give it `n` (points, both ends among them) or `step`, or choose another sweep.sampler"
                self.problems.append(Problem("error", path, self.document.mark(path), message, remedy))
        return settings

    def _wrong_values(self, ranges: Sequence[Range]) -> list[Problem]:
        """Return wrong names and values where something else is wrong as well, so that no combination is judged."""
        apart = replace(self.read, schema=replace(self.read.schema, rules=()))
        told = {each.mark for each in self.problems}
        load = lambda space, point: finish(apart, list(changes_of(self.document, space, point)))  # noqa: E731
        return [each for each in wrong_values(ranges, self.document, load) if each.mark not in told]

    def _check_sampler(self, settings: Sweep, space: Space, section: Document) -> list[str]:
        """Return what is to be said of how the sampler treats the ranges."""
        try:
            return notes_of(settings.sampler or "grid", space)
        except UsageError as error:
            at: KeyPath = ("sweep", "sampler")
            message, _, remedy = str(error).rpartition(": ")
            self.problems.append(Problem("error", at, section.mark(at, key=False), message, remedy))
            return []

    def _check_excluded(self, space: Space, section: Document) -> None:
        if not space.finite or not space.exclusions:
            return
        try:
            next(space.grid())
        except UsageError:
            at: KeyPath = ("sweep", "exclude")
            remedy = "remove one of them, or give a range more values"
            problem = Problem("error", at, section.mark(at), "sweep.exclude leaves out every combination", remedy)
            raise ConfigError([problem]) from None


def _without_folders(read: Draft) -> Draft:
    """Return a draft without what says where a run's folder is made."""
    document = read.document.copy()
    for key in FOLDERS:
        if document.has(("run", key)):
            document.delete(("run", key))
    return replace(read, document=document)


def _beside(document: Document) -> dict[str, Any]:
    """Return the root keys `ranges` and `sweep` as plain containers, without a password."""
    tree = document.copy().tree
    if is_mapping(tree.get("sweep")) and isinstance(tree["sweep"].get("storage"), str):
        tree["sweep"]["storage"] = without_password(tree["sweep"]["storage"])
    return tree
