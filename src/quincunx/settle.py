"""Where a run lives: the folder that it claims or goes on in, whether it may go on there, and what is written into it
before the first update.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quincunx.config.compare import compare
from quincunx.config.load import Loaded, canonical, origins, to_yaml
from quincunx.config.plan import Plan
from quincunx.engine.experiment import Experiment
from quincunx.engine.runtime import Runtime
from quincunx.errors import RunError
from quincunx.runs import RunFolder, claim, environment, read_json, reopen, to_json


def run_name(config: Any) -> str:
    """Return the name that numbered run folders begin with."""
    return config.run.name or "-".join(filter(None, (config.recipe, getattr(config, "task", None))))


def run_root(config: Any) -> Path:
    """Return the folder in which numbered run folders are made."""
    root = getattr(config.run, "root", None)
    return Path("runs") if root is None else Path(root).expanduser() / run_name(config)


def existing_run(config: Any, resume: bool | str) -> str | None:
    """Return the folder of the run to go on with, None when a new one is to be begun.

    `resume` is a run's folder, or True for the config's `run.dir` or the newest run of its name.
    """
    if not resume:
        return None
    if isinstance(resume, str):
        return str(reopen(resume).path)
    if config.run.dir is not None:
        path = Path(config.run.dir).expanduser()
        return str(path) if (path / "config.yaml").is_file() else None
    name = run_name(config)
    numbered = [path for path in run_root(config).glob("*/config.yaml") if path.parent.name.startswith(f"{name}-")]
    runs = [path.parent for path in numbered if path.parent.name[len(name) + 1 :].isdecimal()]
    return str(max(runs, key=lambda path: int(path.name[len(name) + 1 :]))) if runs else None


def claim_folder(config: Any, runtime: Runtime) -> RunFolder:
    """Make the folder of a new run, on rank 0, and return it on every rank."""
    made = claim(config.run.dir, run_name(config), run_root(config)) if runtime.main else None
    path = runtime.share(None if made is None else str(made.path))
    return RunFolder(Path(path))


def changes(before: Any, config: Any, folder: Path) -> list[str]:
    """Return what to say about a resumed run's config; refuses what would make it another run."""
    differences = [] if before is None else compare(canonical(before), canonical(config))
    blocking = [difference for difference in differences if not difference.harmless]
    if blocking:
        raise RunError(
            f"{folder} was begun with another config; going on with this one would make it neither the one nor "
            "the other:\n  "
            + "\n  ".join(map(str, blocking))
            + "\nResume it with the config it has (give the run folder "
            "itself), or begin a new run, with init_from if it should start from these weights"
        )
    return [f"resumed with {difference}" for difference in differences]


def write_folder(
    folder: RunFolder,
    config: Any,
    loaded: Loaded,
    plan: Plan,
    experiment: Experiment,
    update: int,
    notes: Sequence[str],
) -> None:
    """Write everything that a run folder holds before training begins or goes on, after `update` updates."""
    data = {"fingerprints": dict(experiment.fingerprints)}
    known = folder.path / "data.json"
    if known.is_file() and read_json(known) != json.loads(to_json(data)):
        raise RunError(
            f"the data is not what {folder.path} was begun with (its fingerprints in data.json differ): bring the old "
            "data back, or begin a new run"
        )
    # first, because it alone makes the folder a run that can be gone on with
    folder.write_text("config.yaml", to_yaml(config, full=True, comments=False))
    folder.write_json("data.json", data)
    folder.write_json("origins.json", origins(loaded))
    folder.write_json("plan.json", plan.to_json())
    folder.write_json("environment.json", environment())
    for name, text in experiment.artefacts.items():
        folder.write_text(name, text)
    folder.write_bytes("skipped_rows.jsonl", b"".join(to_json(row) + b"\n" for row in experiment.skipped_rows))
    with folder.open_lines("starts.jsonl") as starts:
        starts.append({"update": update, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "notes": list(notes)})
