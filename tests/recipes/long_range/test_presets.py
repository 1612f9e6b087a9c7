"""The presets: good configs, true to what their sources say, and honest about what differs."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from guide_files import LISTOPS
from quincunx.config.load import Loaded, explicit_paths, load
from quincunx.config.schema import lookup
from quincunx.config.sections.training import Schedule
from quincunx.engine.schedule import rate
from quincunx.errors import UsageError
from quincunx.recipes import schemas
from quincunx.recipes.long_range.presets import COPIES, PRESETS, nested, preset_text, starter
from quincunx.recipes.long_range.published import EVERY

ALL = [(name, task) for name, preset in PRESETS.items() for task in preset.tasks]


def resolved(folder: Path, name: str, task: str) -> Loaded:
    """Return what a preset's file becomes, given a folder of data where the task needs one."""
    file = folder / f"{name}.yaml"
    file.write_text(preset_text(name, task), encoding="utf-8")
    return load(file, [f"data.path={folder}"] if task in COPIES else [], schemas=schemas())


@pytest.mark.parametrize(("name", "task"), ALL)
def test_every_preset_is_a_good_config_with_the_values_it_names(tmp_path: Path, name: str, task: str) -> None:
    loaded = resolved(tmp_path, name, task)
    assert loaded.warnings == []
    preset = PRESETS[name]
    values = {path: value for path, value in preset.tasks[task].items() if path not in preset.idle}
    assert {path: lookup(loaded.config, path) for path in values} == values
    assert explicit_paths(loaded) - set(values) <= {"recipe", "task", "data.path"}
    assert loaded.config.task == ("pathfinder" if task == "path-x" else task)


@pytest.mark.parametrize(("name", "task"), ALL)
def test_the_file_states_its_source_and_every_difference(name: str, task: str) -> None:
    preset = PRESETS[name]
    comments = [line.removeprefix("#").strip() for line in preset_text(name, task).splitlines() if line[:1] == "#"]
    said = " ".join(comments)
    assert preset.source in said
    assert preset.files.get(task, "") in said
    assert preset.source.startswith("github.com/") or name == "guide"
    for note in (*preset.notes.get(EVERY, ()), *preset.notes.get(task, ())):
        assert note in said
    assert ("path: FOLDER" in said) == (task in COPIES)


def test_the_guides_preset_is_the_guides_block(tmp_path: Path) -> None:
    file = tmp_path / "lra_config.py"
    file.write_text(LISTOPS.replace('"softmax":16', '"softmax":32'))  # that copy has a smaller limit than the guide
    guide = load(file, schemas=schemas())
    ours = PRESETS["guide"].tasks["listops"]
    given = explicit_paths(guide) - {"task"}
    assert given <= set(ours)
    assert {path: lookup(guide.config, path) for path in given} == {path: ours[path] for path in given}
    assert set(ours) - given == {"attention.kind"}


def test_what_has_no_effect_is_a_comment(tmp_path: Path) -> None:
    assert "  # warmup: 1000 " in preset_text("guide", "listops")
    assert resolved(tmp_path, "guide", "listops").config.schedule.warmup == 0


def lra_rsqrt(step: int, warmup: int) -> float:
    return 0.05 * min(1.0, step / warmup) / math.sqrt(max(step, warmup))


def lra_cosine(step: int, base: float, warmup: int, cycle: int) -> float:
    return base * min(1.0, step / warmup) * 0.5 * (1 + math.cos(math.pi * max(0.0, (step - warmup) / cycle)))


def rates(name: str, task: str, per_epoch: int) -> Callable[[int], float]:
    values = PRESETS[name].tasks[task]
    sections = nested(values)
    schedule, base = Schedule.model_validate(sections["schedule"]), sections["optimizer"]["learning_rate"]
    total = values.get("budget.updates") or per_epoch * values["budget.epochs"]
    return lambda update: rate(schedule, base, update, total, per_epoch)


@pytest.mark.parametrize(
    ("task", "theirs", "total", "warmup", "apart"),
    [
        ("listops", lambda s: lra_rsqrt(s, 1_000), 5_000, 1_000, 0.162),
        ("text", lambda s: lra_rsqrt(s, 8_000), 20_000, 8_000, 0.07),
        ("retrieval", lambda s: lra_rsqrt(s, 8_000), 5_000, 4_999, 0.001),
        ("image", lambda s: lra_cosine(s, 0.0005, 175, 35_000), 35_000, 175, 0.01),
        ("pathfinder", lambda s: lra_cosine(s, 0.001, 312, 62_400), 62_400, 312, 0.01),
        ("path-x", lambda s: lra_cosine(s, 0.001, 2_500, 500_000), 500_000, 2_500, 0.01),
    ],
)
def test_rates_follow_the_benchmarks_schedule(
    task: str, theirs: Callable[[int], float], total: int, warmup: int, apart: float
) -> None:
    """Equal in the warm-up and at the end; in between apart by at most a share of the peak (our s is their s + 1)."""
    ours = rates("lra-base", task, total)
    peak = theirs(warmup)
    for update in (0, warmup // 2, warmup - 1):
        assert ours(update) == pytest.approx(theirs(update + 1), rel=1e-3)
    assert ours(total - 1) == pytest.approx(theirs(total), rel=0.02)
    assert max(abs(ours(s) - theirs(s + 1)) / peak for s in range(0, total, total // 100)) <= apart


def test_the_notes_say_how_far_apart_the_rates_are() -> None:
    for task, warmup, total in (("listops", 1_000, 5_000), ("text", 8_000, 20_000)):
        ours = rates("lra-base", task, total)
        most = max(ours(s) / lra_rsqrt(s + 1, warmup) - 1 for s in range(warmup, total, 10))
        assert f"up to {100 * most:.0f} % above it" in preset_text("lra-base", task).replace("\n#   ", " ")


def test_the_narrow_rate_is_the_one_cycle_of_torch() -> None:
    total, warmup = 5_000, 1_000
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    cycle = OneCycleLR(optimizer, max_lr=1e-4, total_steps=total, pct_start=warmup / total, anneal_strategy="linear")
    theirs = [cycle.get_last_lr()[0]]
    for _ in range(total - 1):
        optimizer.step()
        cycle.step()
        theirs.append(cycle.get_last_lr()[0])
    ours = rates("narrow", "listops", total)
    assert ours(total - 1) == pytest.approx(theirs[-1])
    assert ours(warmup - 1) == pytest.approx(theirs[warmup - 1])
    assert max(abs(ours(s) - theirs[s]) for s in range(warmup, total)) < 1e-4 * 1e-3
    assert max(abs(ours(s) - theirs[s]) for s in range(warmup)) < 1e-4 * 0.04


@pytest.mark.parametrize("task", PRESETS["hrrformer-single"].tasks)
def test_hrrformers_rate_falls_with_examples_as_theirs(task: str) -> None:
    examples = {"listops": (96_000, 98_000, 0.9), "text": (25_000, 50_000, 0.9), "retrieval": (147_086, 164_480, 0.9)}
    images = {"image": (45_000, 60_000, 0.95)}
    train, taken, decay = (examples | images).get(task, (160_000, 179_968, 0.95))
    batch = PRESETS["hrrformer-single"].tasks[task]["update.batch_size"]
    ours = rates("hrrformer-single", task, train // batch)
    for epochs in (1, 5, 19):
        update = epochs * (train // batch)
        theirs = max(1e-5, 0.001 * decay ** (update / (taken // batch)))
        assert ours(update) == pytest.approx(theirs, rel=2e-3)
        assert theirs > 1e-5


def test_one_layer_and_several_differ_in_nothing_else() -> None:
    for task, several in PRESETS["hrrformer-multi"].tasks.items():
        single = PRESETS["hrrformer-single"].tasks[task]
        assert single == {**several, "encoder.num_layers": 1}
        assert several["encoder.num_layers"] > 1


def test_heads_are_whole_parts_of_the_published_widths() -> None:
    wide = {("lra-base", "image"): 64, ("lra-base", "pathfinder"): 16, ("lra-base", "path-x"): 16}
    for name, task in ALL:
        values = PRESETS[name].tasks[task]
        inner = values["encoder.num_heads"] * values["encoder.head_dim"]
        assert inner == wide.get((name, task), values["encoder.embedding_dim"])


def test_without_a_task_the_first_is_taken_and_case_does_not_count() -> None:
    assert starter("narrow") == preset_text("narrow", "listops")
    assert starter("narrow", "Text") == preset_text("narrow", "text")


def test_what_there_is_not_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"no preset 'narow'; did you mean narrow\? .*guide \(listops\); lra-base"):
        starter("narow")
    with pytest.raises(UsageError, match=r"preset narrow has no task 'path-x', but: listops, text, .*lra-base"):
        starter("narrow", "path-x")
    with pytest.raises(UsageError, match=r"preset guide has no task 'words', but: listops$"):
        starter("guide", "words")


def test_presets_need_no_torch() -> None:
    program = "import sys, quincunx.recipes.long_range.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
