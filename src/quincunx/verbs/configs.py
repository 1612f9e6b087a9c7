"""The verbs round a config: write a first one, check, explain, plan and convert it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quincunx.verbs.common import Adder, add_skips, aligned, run_folder, say, say_error

if TYPE_CHECKING:
    from quincunx.config.document import Problem
    from quincunx.config.load import Draft, Loaded
    from quincunx.config.schema import RecipeSchema


def add_to(add: Adder) -> None:
    """Add the verbs."""
    made = add("init", init, "write a small commented config to start from")
    made.add_argument("recipe", help="for example long_range")
    made.add_argument("--preset", metavar="NAME", help="a published experiment's settings")
    made.add_argument("--task", help="with --preset: the task; default: the preset's first")
    made.add_argument("--out", metavar="FILE", help="where to write it; default: the terminal")

    what = "say everything that is wrong with a config; compute and write nothing"
    add_skips(add("check", check, what, config=True))

    made = add("explain", explain, "say what a setting means, or list all of them")
    made.add_argument("path", nargs="?", help="a setting or section, also under a guide's name")
    made.add_argument("--recipe", help="only this recipe's settings")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the reference page")
    form.add_argument("--schema", action="store_true", help="JSON Schema for editors")
    form.add_argument("--json", action="store_true", help="all settings as a list of objects")

    made = add("plan", plan, "say what training would do, without training", config=True)
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")
    made.add_argument("--json", action="store_true", help="as JSON")

    made = add("convert", convert, "print a config in canonical form", config=True)
    made.add_argument("--origin", action="store_true", help="also where each value came from and what it overrode")
    made.add_argument("--full", action="store_true", help="also the settings left at their defaults")


def load_named(options: argparse.Namespace, extra: Sequence[str] = ()) -> Loaded:
    """Return the config that the command names, changed as it says; its warnings are shown."""
    from quincunx.config.load import load
    from quincunx.recipes import schemas

    source = run_folder(options.config).config if Path(options.config).is_dir() else options.config
    changes = [*options.overrides, *extra]
    loaded = load(source, changes, schemas=schemas(), task=options.task, strict=options.strict)
    if getattr(options, "skip_bad_rows", False):
        _check_skips(loaded)
        changes.append("data.skip_bad_rows=true")
        loaded = load(source, changes, schemas=schemas(), task=options.task, strict=options.strict)
    if os.environ.get("RANK", "0") == "0":  # once, where torchrun has started several of us
        for problem in loaded.warnings:
            say_error(problem.render())
    return loaded


def draft_of_sweep(options: argparse.Namespace) -> Draft | None:
    """Return the config that the command names if it is one of many runs, None for any other.

    Raises ConfigError where not even that can be told.
    """
    from quincunx.config.load import draft
    from quincunx.recipes import schemas

    if Path(options.config).is_dir():
        return None
    changes = [*options.overrides, *(["data.skip_bad_rows=true"] if getattr(options, "skip_bad_rows", False) else [])]
    read = draft(options.config, changes, schemas=schemas(), task=options.task)
    return read if read.sweep is not None else None


def _check_skips(loaded: Loaded) -> None:
    """Raise UsageError where --skip-bad-rows, short for a setting, is asked of a recipe that has no such setting."""
    from quincunx.config.schema import lookup
    from quincunx.errors import UsageError

    if lookup(loaded.config, "data.skip_bad_rows") is None:
        raise UsageError(
            f"--skip-bad-rows: the recipe {loaded.schema.name} has no data.skip_bad_rows, for which it is short; "
            "leave it out"
        )


def init(options: argparse.Namespace) -> int:
    """Write a first config."""
    from quincunx.errors import UsageError
    from quincunx.recipes import RECIPES, schema_of

    if options.recipe not in RECIPES:
        raise UsageError(f"there is no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    schema = schema_of(options.recipe)
    if options.preset is not None and schema.preset is None:
        raise UsageError(f"recipe {options.recipe} has no presets")
    if options.preset is None and options.task is not None:
        raise UsageError(f"--task {options.task} chooses a preset's task: give --preset as well")
    text = schema.starter
    if options.preset is not None and schema.preset is not None:
        text = schema.preset(options.preset, options.task)
    if options.out is None:
        say(text.rstrip("\n"))
        return 0
    path = Path(options.out)
    if path.exists():
        raise UsageError(f"{path} exists already and is left as it is; give another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(" FILE", f" {shlex.quote(str(path))}"), encoding="utf-8")
    say(f"wrote {path}; train it with: quincunx train {shlex.quote(str(path))}")
    return 0


def check(options: argparse.Namespace) -> int:
    """Say what is wrong with a config."""
    from quincunx.config.check import check_sizes
    from quincunx.config.document import ConfigError

    if (read := draft_of_sweep(options)) is not None:
        return _check_sweep(options, read)
    loaded = load_named(options)
    sized: list[Problem] = []
    if loaded.schema.sizes:
        sized = check_sizes(loaded.config, loaded.schema, loaded.schema.sizes(loaded.config), loaded.document)
    if any(problem.severity == "error" for problem in sized):
        raise ConfigError([*loaded.warnings, *sized])
    for problem in sized:
        say_error(problem.render())
    for note in loaded.notes:
        say(f"note: {note}")
    warnings = len(loaded.warnings) + len(sized)
    say(f"{options.config}: a good {loaded.schema.name} config" + (f", {warnings} warning(s)" if warnings else ""))
    return 0


def _check_sweep(options: argparse.Namespace, read: Draft) -> int:
    """Say what is wrong with a config of many runs."""
    from quincunx.sweep.reading.spec import open_draft

    spec = open_draft(read, options.task, strict=options.strict)
    for problem in spec.warnings:
        say_error(problem.render())
    for note in spec.notes:
        say(f"note: {note}")
    size = spec.space.size() if spec.sampler == "grid" else spec.settings.trials
    runs = "" if size is None else f" of {size:,} configurations"
    warnings = f", {len(spec.warnings)} warning(s)" if spec.warnings else ""
    if not spec.space.ranges:
        say(f"{options.config}: a good {spec.base.schema.name} config with a section `sweep`, without ranges{warnings}")
    else:
        say(f"{options.config}: a good {spec.base.schema.name} config, and a good sweep{runs}{warnings}")
    return 0


def explain(options: argparse.Namespace) -> int:
    """Say what settings mean."""
    from quincunx.config import explain
    from quincunx.errors import UsageError
    from quincunx.recipes import RECIPES, schema_of, schemas
    from quincunx.sweep.reading.described import BESIDE

    if options.recipe is not None and options.recipe not in RECIPES:
        raise UsageError(f"there is no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    chosen = schemas() if options.recipe is None else [schema_of(options.recipe)]
    if options.markdown:
        say(explain.markdown(chosen, BESIDE).rstrip("\n"))
    elif options.schema:
        say(json.dumps(explain.json_schema(chosen, BESIDE), indent=2, ensure_ascii=False))
    elif options.json:
        say(json.dumps(explain.as_json([*chosen, BESIDE]), indent=1, ensure_ascii=False))
    elif options.path is not None and explain.is_beside(options.path, BESIDE):
        say(explain.explain_text(BESIDE, options.path))
    else:
        say(_explained(chosen, options.path))
        if options.path is None:
            listing = explain.explain_text(BESIDE).splitlines()[2:-2]
            say("\n".join(["", "beside the settings of every recipe, for quincunx sweep", "", *listing]))
    return 0


def _explained(chosen: Sequence[RecipeSchema], path: str | None) -> str:
    """Return what the recipes that know a path say of it, under their names where several are asked.

    Raises UsageError when none knows it.
    """
    from quincunx.config.explain import explain_text
    from quincunx.errors import UsageError

    texts: dict[str, list[str]] = {}
    unknown: list[UsageError] = []
    for schema in chosen:
        try:
            texts.setdefault(explain_text(schema, path), []).append(schema.name)
        except UsageError as error:
            unknown.append(error)
    if not texts:
        raise UsageError("\n".join(map(str, unknown)))
    if path is None or len(chosen) == 1:
        return "\n\n".join(texts)  # a whole recipe begins with its name
    heads = {text: f"recipe{'s' * (len(names) > 1)} {', '.join(names)}" for text, names in texts.items()}
    return "\n\n".join(f"{head}\n\n{text}" for text, head in heads.items())


def plan(options: argparse.Namespace) -> int:
    """Say what training would do."""
    from quincunx.config.plan import describe
    from quincunx.preview import preview

    loaded = load_named(options)
    plan, notes = preview(loaded, options.allow_target)
    if options.json:
        say(json.dumps(plan.to_json(), indent=1))
        return 0
    for note in notes:
        say(f"note: {note}")
    say(aligned(describe(plan, loaded.config)))
    return 0


def convert(options: argparse.Namespace) -> int:
    """Print a config in canonical form."""
    from quincunx.config.load import origins

    loaded, text = _converted(options)
    say(text.rstrip("\n"))
    if options.origin:
        say("\n# where each value came from")
        for entry in origins(loaded):
            if entry["from"] == "default" and not options.full:
                continue
            before = "".join(f", over {old['value']!r} from {old['from']}" for old in entry.get("overrode", ()))
            say(f"# {entry['path']} = {entry['value']!r}: {entry['from']}{before}")
    return 0


def _converted(options: argparse.Namespace) -> tuple[Loaded, str]:
    """Return the config and its canonical form; of a sweep its ranges and settings too, and references as they are."""
    from quincunx.config.load import explicit_paths, to_yaml

    read = draft_of_sweep(options)
    if read is None:
        loaded = load_named(options)
        return loaded, to_yaml(loaded.config, full=options.full, comments=False, keep=explicit_paths(loaded))

    from quincunx.sweep.reading.spec import beside_text, open_draft, run_text

    loaded = open_draft(read, options.task, strict=options.strict, check_all=False).base
    return loaded, run_text(loaded, read, full=options.full) + "\n" + beside_text(read)
