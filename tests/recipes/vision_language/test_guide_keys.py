"""Guide 002's file: every key is known, its slips are found, and what contradicts itself in it is told all at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from quincunx.config.document import ConfigError, Problem
from quincunx.config.load import Loaded, load
from quincunx.config.names import split
from quincunx.config.schema import lookup
from quincunx.recipes import schemas
from quincunx.recipes.vision_language.names import KEYS

GUIDE = Path(__file__).parent / "guide.jsonc"
FLAGS: dict[str, Any] = {
    "ground_upsample": 1,
    "ground_weight": 1,
    "itm_cocoonly": True,
    "single_vqa_prefix": False,
    "no_prefix": False,
    "raw_label": False,
    "answer_normalize": False,
    "classifier": False,
    "test_answerable": False,
    "RefCOCO_GT": False,
    "RefCOCO_BUTD": False,
    "shuffle_boxes": False,
    "vis_pointer": False,
    "cls_task": "tinyimagenet",
}
"""The guide's command line with its defaults."""
SLIPS = {
    '"vis_weight_decay": 0.01,': ('"vis_weight_decay": 0.01,,', "doubled comma"),
    '"use_single_prompt": true,': ('"use_single_prompt": true or,', "a word `or` after the value true"),
    '"feature_type": "butd",': ('"feature_type": "butd"', 'missing comma before "backbone"'),
}
CONTRADICTIONS = {
    "load": "stands for a path that was never written",
    "prefix": "expected one of span, denoise, mask",
    "share_vis_lang_layer_norm": "the norm that BART has",
    "downsample": "no cells of a grid",
    "oneddownsample": "several ways to fewer visual tokens",
    "expand_vis_embedding": "out of one pooled vector",
    "use_data_augmentation": "before they are encoded",
    "track_z": "there is no such adapter",
}
IDLE = {
    "testing",
    "submit",
    "use_tasks_prompt",
    "use_single_prompt",
    "share_down_sampler",
    "share_up_sampler",
    "shared_phm_rule_over_tasks",
    "add_layer_norm_before_adapter",
    "add_layer_norm_after_adapter",
    "remove_bn_vis_adapter",
    "use_single_lora",
}


def read(text: str, folder: Path) -> Loaded:
    file = folder / "config.json"
    file.write_text(text)
    return load(file, schemas=schemas())


def problems_of(text: str, folder: Path) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        read(text, folder)
    return list(caught.value.problems)


def key_at(problem: Problem) -> str:
    """Return the key of the line that a problem points at."""
    assert problem.mark is not None
    found = re.match(r'\s*"(\w+)"', problem.mark.source.lines[problem.mark.line - 1])
    assert found is not None
    return found[1]


def values() -> dict[str, str]:
    return dict(re.findall(r'^  "(\w+)": (.+),$', GUIDE.read_text(), re.MULTILINE))


def test_the_guide_has_136_keys_and_each_serves_a_setting_of_its_own() -> None:
    assert {*values(), *FLAGS} == {old for old, _, _ in KEYS}
    assert len(KEYS) == len({new for _, new, _ in KEYS}) == 136


def test_its_file_is_refused_for_exactly_its_contradictions(tmp_path: Path) -> None:
    problems = problems_of(GUIDE.read_text(), tmp_path)
    errors = {key_at(each): each for each in problems if each.severity == "error"}
    assert errors.keys() == CONTRADICTIONS.keys()
    for key, problem in errors.items():
        assert CONTRADICTIONS[key] in problem.message
        assert problem.remedy
    assert {key_at(each) for each in problems if each.severity == "warning"} == IDLE


def test_its_slips_are_told_beside_everything_else(tmp_path: Path) -> None:
    text = GUIDE.read_text()
    for right, (wrong, _) in SLIPS.items():
        assert right in text
        text = text.replace(right, wrong)
    problems = problems_of(text, tmp_path)
    messages = [each.message for each in problems if each.severity == "error"]
    for _, said in SLIPS.values():
        assert said in messages
    assert len(messages) == len(SLIPS) + len(CONTRADICTIONS)
    assert all(each.mark is not None and each.remedy for each in problems if each.severity == "error")


def test_with_its_contradictions_resolved_every_value_arrives(tmp_path: Path) -> None:
    text = GUIDE.read_text()
    for key in CONTRADICTIONS:
        text = re.sub(rf'("{key}": ).+(,\n)', r"\g<1>null\2" if key in ("load", "prefix") else r"\g<1>false\2", text)
    text = text.replace("{\n", "{\n" + "".join(f'  "{key}": {_json(value)},\n' for key, value in FLAGS.items()), 1)
    loaded = read(text, tmp_path)
    assert {key_at(each) for each in loaded.warnings} == IDLE | {"cls_task"}
    config = loaded.config
    assert config.objective == "pretraining"
    assert config.data.path == "datasets"
    assert any("objective pretraining" in note for note in loaded.notes)
    expected: dict[str, Any] = {
        "data.train": ["train"],
        "data.dev": ["valid"],
        "data.test": [],
        "data.tasks": [],
        "evaluate.submit": True,
        "compute.precision": "float32",
        "run.dir": "snap/test",
        "run.name": None,
        "update.clip_norm": None,
        "pretraining.losses": ["lm", "obj", "attr", "feat"],
        "pictures.image_size": [448, 448],
        "pictures.feature_width": 2048,
        "model.path": "t5-base",
        "adapt.z_weight": 0.001,
        "mixing.sampling": "roundrobin",
        "data.classification": "tinyimagenet",
        "schedule.warmup_ratio": 0.05,
    }
    assert {path: lookup(config, path) for path in expected} == expected


def test_the_command_line_takes_its_flags_as_settings(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("recipe: vision_language\ndata: {path: here, tasks: [vqa]}\n")
    loaded = load(tmp_path / "c.yaml", ["raw_label=true", "answer_normalize=true"], schemas=schemas())
    assert loaded.config.data.vqa.draw is True
    assert loaded.config.data.vqa.normalize is True


def test_several_processes_are_asked_for_in_two_ways(tmp_path: Path) -> None:
    for key in ("multiGPU", "distributed"):
        loaded = read(f'{{"backbone": "t5-base", "tasks": "vqa", "{key}": true, "batch_size": 8}}', tmp_path)
        assert loaded.config.compute.processes == "auto"
    assert read('{"backbone": "t5-base", "tasks": "vqa", "multiGPU": false}', tmp_path).config.compute.processes is None


@pytest.mark.parametrize("value", ["448", '"448,448"', '"(448, 448)"', "[448, 448]"])
def test_a_size_is_read_in_every_form_and_never_run(value: str, tmp_path: Path) -> None:
    text = f'{{"backbone": "facebook/bart-base", "tasks": "vqa", "feature_type": "raw_RN50", "image_size": {value}}}'
    assert read(text, tmp_path).config.pictures.image_size == [448, 448]


@pytest.mark.parametrize("value", ['"__import__(1)"', '"448,"', '"450,448"', "[448]", "true"])
def test_what_is_no_size_is_refused_at_its_place(value: str, tmp_path: Path) -> None:
    text = f'{{"backbone": "t5-base", "tasks": "vqa", "feature_type": "raw_RN50", "image_size": {value}}}'
    [problem] = [each for each in problems_of(text, tmp_path) if each.severity == "error"]
    assert problem.path == split("pictures.image_size")
    assert "image_size" in problem.message


def test_a_known_recipe_is_told_by_the_guides_keys(tmp_path: Path) -> None:
    assert (
        read('{"backbone": "t5-base", "use_adapter": true, "tasks": "vqa"}', tmp_path).schema.name == "vision_language"
    )


def _json(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, f'"{value}"') if isinstance(value, bool | str) else str(value)
