"""From files and overrides to a config: the order of the stages, all problems at once, where every value came from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guide_files import LISTOPS, SERVED
from quincunx.config.document import ConfigError
from quincunx.config.fields import settings_of
from quincunx.config.load import Loaded, canonical, explicit_paths, load, origins, to_yaml
from quincunx.config.write import scalar
from quincunx.recipes import schema_of


def loaded(source: str | os.PathLike[str] | Mapping[str, Any], *overrides: str, **options: Any) -> Loaded:
    return load(source, overrides, schemas=[schema_of("long_range")], **options)


def refused(source: str | os.PathLike[str] | Mapping[str, Any], *overrides: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(source, *overrides, **options)
    return [f"{each.mark}: {each.message}" if each.mark else each.message for each in caught.value.problems]


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("lra_config.py").write_text(LISTOPS)
    return "lra_config.py"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def writer(text: str, name: str = "f.yaml") -> str:
        Path(name).write_text(text)
        return name

    return writer


def test_the_guide_loads_as_it_stands(guide: str) -> None:
    found = loaded(guide)
    assert found.schema.name == "long_range"
    assert canonical(found.config, full=False) == canonical(found.schema.config.model_validate(SERVED), full=False)
    assert [each.path for each in found.warnings] == [("schedule", "warmup")]
    assert found.notes[:2] == [
        "recipe long_range, told from the keys of the file",
        "task listops, the only one in the file",
    ]
    assert loaded(guide, "task=listops", "attention.kind=softmax").config.attention.kind == "softmax"


@pytest.mark.parametrize("name", ["training.batch_size", "update.batch_size"])
def test_an_override_reaches_a_setting_under_any_name(guide: str, name: str) -> None:
    assert loaded(guide, f"{name}=8").config.update.batch_size == 8
    assert loaded({"update": {"batch_size": 3}}, f"{name}=8").config.update.batch_size == 8


def test_overrides_transform_older_forms(guide: str) -> None:
    config = loaded(guide, "training.mixed_precision=true", "model={learn_pos_emb: false, num_head: 2}").config
    assert (config.compute.precision, config.encoder.positions, config.encoder.num_heads) == ("auto", "fixed", 2)
    assert config.encoder.head_dim == 64
    assert refused(guide, "training.mixed_precision=1")[0] == (
        "command line:1:26: `training.mixed_precision`: expected true or false, found 1"
    )


def test_appending_and_deleting_work_under_any_name(guide: str) -> None:
    config = loaded(
        guide, "log.trackers=[]", "log.trackers+=tensorboard", "~training.num_epochs", "budget.updates=3"
    ).config
    assert config.log.trackers == ["tensorboard"]
    assert (config.budget.epochs, config.budget.updates) == (None, 3)


def test_list_positions_can_be_set(guide: str) -> None:
    assert loaded(guide, "optimizer.betas=[0.5, 0.6]", "optimizer.betas[1]=0.7").config.optimizer.betas == [0.5, 0.7]


def test_the_last_of_two_overrides_holds_and_is_said(guide: str) -> None:
    found = loaded(guide, "update.batch_size=8", "training.batch_size=9")
    assert found.config.update.batch_size == 9
    assert (
        "update.batch_size is given twice on the command line: the last one holds, training.batch_size=9" in found.notes
    )


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_target_replaces_ours_in_any_order_of_overrides(guide: str, order: int) -> None:
    overrides = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1", "update.batch_size=4"]
    found = loaded(guide, *overrides[order:], *overrides[:order])
    assert found.config.optimizer.model_dump(by_alias=True, exclude_defaults=True) == {
        "_target_": "torch.optim.SGD",
        "lr": 0.1,
    }
    assert (
        "optimizer is built from torch.optim.SGD; left out: optimizer.learning_rate, optimizer.weight_decay"
        in found.notes
    )


def test_an_older_name_of_ours_does_not_become_an_argument(guide: str) -> None:
    [problem, *_] = refused(guide, "optimizer._target_=torch.optim.SGD", "training.learning_rate=0.1")
    assert problem.startswith("command line:2:1: `training.learning_rate` sets `optimizer.learning_rate`, but")


def test_bases_may_be_written_in_different_forms(guide: str, write: Any) -> None:
    write("base: lra_config.py\nupdate: {batch_size: 7}\noptimizer: {_target_: torch.optim.SGD}\n", "mid.yaml")
    top = write('{"base": "mid.yaml", "training": {"num_epochs": 2}}', "top.json")
    found = loaded(top)
    assert (found.config.update.batch_size, found.config.budget.epochs) == (7, 2)
    entry = {each["path"]: each for each in origins(found)}
    assert entry["update.batch_size"] == {
        "path": "update.batch_size",
        "value": 7,
        "from": "mid.yaml:2:22",
        "overrode": [{"value": 32, "from": "lra_config.py:24:26"}],
    }
    assert entry["budget.epochs"]["from"] == "top.json:1:49"
    assert entry["optimizer._target_"]["overrode"][0]["value"] == {"learning_rate": 0.001, "weight_decay": 0}


def test_origins_tell_defaults_and_the_command_line() -> None:
    entry = {each["path"]: each for each in origins(loaded({"recipe": "long_range"}, "model.num_head=3"))}
    assert entry["encoder.num_heads"]["from"] == "command line: model.num_head=3"
    assert entry["encoder.head_dim"] == {"path": "encoder.head_dim", "value": 64, "from": "default", "overrode": []}


def test_explicit_paths_are_those_that_somebody_gave(guide: str) -> None:
    found = explicit_paths(loaded(guide, "seed=1"))
    assert {"data.train", "seed", "optimizer.learning_rate"} <= found
    assert "optimizer.eps" not in found


def test_a_task_is_chosen_by_argument_override_or_file(write: Any) -> None:
    both = write("listops: {model: {num_head: 3}}\ntext: {model: {num_head: 4}}\n")
    assert loaded(both, task="listops").config.encoder.num_heads == 3
    assert loaded(both, "task=listops").config.encoder.num_heads == 3
    assert loaded(write(f"base: {both}\ntask: listops\n", "child.yaml")).config.encoder.num_heads == 3
    assert refused(both) == ["f.yaml:1:1: the file holds several tasks: listops, text"]
    assert refused(both, "task=text", task="listops")[0] == (
        "command line:1:6: task text and task listops are both asked for"
    )
    flat = write("task: listops\nencoder: {num_heads: 2}", "flat.yaml")
    assert loaded(flat, task="ListOps").config.task == "listops"
    assert refused(flat, task="text") == ["flat.yaml:1:7: `task` is listops, but task text is asked for"]


def test_a_wrong_task_does_not_hide_the_rest(guide: str) -> None:
    assert refused(guide, "task=listop", "update.batch_size=0") == [
        "lra_config.py:1:1: the file has no task `listop`, it holds listops",
        "lra_config.py:31:13: `training.warmup_steps` (`schedule.warmup`) has no effect: it acts when schedule.kind is "
        "linear or cos, and schedule.kind is exp_decay",
        "command line:2:19: `update.batch_size`: expected an int >= 1, found 0",
    ]


def test_the_recipe_may_come_from_an_override() -> None:
    assert loaded({}, "recipe=long_range").config.recipe == "long_range"
    assert loaded({}, "encoder.num_heads=2").config.encoder.num_heads == 2
    assert refused({}, "recipe=short_range") == ["command line:1:8: there is no recipe `short_range`"]


def test_an_unknown_section_of_the_command_line_is_placed_there(write: Any) -> None:
    source = write("recipe: long_range\nseed: 1\n")
    assert refused(source, "seed=2", "attentoin.deep.kind=x", "other.key=1") == [
        "command line:2:1: unknown key `attentoin`",
        "command line:3:1: unknown key `other`",
    ]


def test_references_reach_settings_under_any_name(guide: str) -> None:
    config = loaded(
        guide, "update.batch_size=${listops.model.num_head}", "run.note='${training.num_epochs} epochs'"
    ).config
    assert config.update.batch_size == 8
    assert config.run.note == "20 epochs"


def test_problems_of_all_stages_come_in_one_report(write: Any) -> None:
    source = write(
        "training: {batch_size: 3, mixed_precision: maybe}\n"
        "update: {batch_size: 4, acumulation: 2}\n"
        "budget: {epochs: 1, updates: 2}\n"
        "run: {note: '${nowhere}'}\n"
        "schedule: {warmup: 5}\n"
        "encoder: {num_heads: 2.0}\n"
    )
    found = refused(source, "~nothing", "seed=x", "a b")
    assert found.pop(2).startswith("command line:3:2: ")
    assert found == [
        "command line:1:2: nothing is not set, so it cannot be deleted",
        'command line:2:6: `seed`: expected an int from 0 to 2^63 - 1, or null, found "x"',
        'f.yaml:1:44: `training.mixed_precision`: expected true or false, found "maybe"',
        "f.yaml:2:10: one setting under 2 names: `update.batch_size` is also given as `training.batch_size` "
        "(f.yaml:1:12)",
        "f.yaml:2:25: unknown key `acumulation` under `update`",
        "f.yaml:3:30: budget.updates (2) and budget.epochs (1) both say how long to train (budget.epochs: f.yaml:3:10)",
        "f.yaml:4:13: ${nowhere}: nothing stands at nowhere",
        "f.yaml:5:12: `schedule.warmup` has no effect: it acts when schedule.kind is linear or cos, and "
        "schedule.kind is fixed",
        "f.yaml:6:22: `encoder.num_heads`: expected an int >= 1, found 2.0",
    ]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.yaml", "update:\n  batch_size: 4\n  batch_size: 8\n", "stands twice"),
        ("a.yaml", "update:\n  batch_size: !!int 4\n", "the tag !!int is refused"),
        ("a.yaml", "update: {batch_size: *nothing}\n", "no anchor &nothing"),
        ("a.json", '{"update": {"batch_size": 4, "batch_size": 8}}', "stands twice"),
        ("a.json", '{"update": {"batch_size": 4,, "accumulation": 2}}', "doubled comma"),
        ("a.py", "config = {'update': {'batch_size': 4, 'batch_size': 8}}", "stands twice"),
        ("a.py", "config = {'update': {'batch_size': int('4')}}", "a call"),
    ],
)
def test_what_a_reader_finds_does_not_hide_what_later_stages_find(write: Any, name: str, text: str, found: str) -> None:
    """And what it had to give up (a refused tag, a call) is not reported a second time as something else."""
    wrong = {
        "a.yaml": "encoder:\n  num_layer: 2\nbudget: {epochs: 1, updates: 2}\n",
        "a.json": ', "encoder": {"num_layer": 2}, "budget": {"epochs": 1, "updates": 2}}',
        "a.py": ", 'encoder': {'num_layer': 2}, 'budget': {'epochs': 1, 'updates': 2}}",
    }[name]
    whole = f"recipe: long_range\n{text}{wrong}" if name == "a.yaml" else text[:-1] + wrong
    problems = refused(write(whole, name))
    assert len(problems) == 3, problems
    assert any(found in problem for problem in problems)
    assert any("unknown key `num_layer`" in problem for problem in problems)
    assert any("both say how long to train" in problem for problem in problems)


def test_strict_turns_warnings_into_errors_and_leaves_notes(guide: str) -> None:
    assert len(refused(guide, strict=True)) == 1
    assert loaded(guide, "~training.warmup_steps", strict=True).warnings == []


def test_a_mapping_is_quoted_like_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        loaded({"recipe": "long_range", "update": {"batch_size": True}})
    assert "config:4:15: error: `update.batch_size`" in str(caught.value)
    assert "4 |   batch_size: true" in str(caught.value)


def test_a_mapping_may_hold_tuples_paths_and_numpy_numbers() -> None:
    config = loaded(
        {"optimizer": {"betas": (0.5, np.float32(0.25))}, "data": {"path": Path("x")}, "seed": np.int64(3)}
    ).config
    assert (config.optimizer.betas, config.data.path, config.seed) == ([0.5, 0.25], "x", 3)
    assert refused({"seed": object(), "encoder": {"num_heads": {1, 2}}}) == [
        "`seed` holds a object, and a config holds plain values",
        "`encoder.num_heads` holds a set, and a config holds plain values",
    ]


def test_a_mapping_may_build_on_a_file(guide: str) -> None:
    assert loaded({"base": guide, "update": {"batch_size": 5}}).config.budget.epochs == 20


def test_the_canonical_text_loads_as_the_same_config(guide: str, write: Any) -> None:
    config = loaded(guide, "evaluate.every=1.0", "optimizer._target_=torch.optim.SGD", "run.note=$${x}").config
    for full in (False, True):
        again = loaded(write(to_yaml(config, full=full)))
        assert again.config == config


def test_the_starter_is_a_good_config(write: Any) -> None:
    found = loaded(write(schema_of("long_range").starter), strict=True)
    assert found.notes == []


def test_the_layers_are_left_as_they_are() -> None:
    source = {"training": {"batch_size": 3}, "optimizer": {"betas": [0.1, 0.2]}}
    loaded(source, "training.batch_size=4", "optimizer.betas[0]=0.3")
    assert source == {"training": {"batch_size": 3}, "optimizer": {"betas": [0.1, 0.2]}}


def test_twenty_problems_in_a_large_file_are_all_reported(write: Any) -> None:
    arguments = "".join(f"  argument_{number}: {number}\n" for number in range(280))
    unknown = "".join(f"num_layer{number}: {number}\n" for number in range(20))
    problems = refused(write(f"recipe: long_range\n{unknown}optimizer:\n  _target_: torch.optim.SGD\n{arguments}"))
    assert len(problems) == 20


keys = st.sampled_from(
    sorted(
        {str(part) for path in settings_of(schema_of("long_range").config) for part in path}
        | {part for name in schema_of("long_range").names for part in name.old.split(".")}
        | {"listops", "text", "nonsense", "${seed}", "0"}
    )
)
garbage = st.recursive(
    st.sampled_from(
        [None, True, 0, 1, -1, 3, 0.5, 1.0, "", "cos", "softmax", "3", "${seed}", "${a.b}", "a.b", "listops"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(keys, garbage, max_size=5),
    st.lists(st.tuples(keys, keys, garbage), max_size=2),
    st.sampled_from([None, "listops", "text"]),
)
def test_any_tree_is_either_a_config_or_told_what_is_wrong(
    tree: dict[str, Any], changes: list[tuple[str, str, Any]], task: str | None
) -> None:
    overrides = [f"{section}.{key}={scalar(value)}" for section, key, value in changes if "$" not in section + key]
    source = {"recipe": "long_range", **tree}
    try:
        found = loaded(source, *overrides, task=task)
    except ConfigError as error:
        assert any(problem.severity == "error" for problem in error.problems)
        assert all(problem.message for problem in error.problems)
        return
    assert loaded(canonical(found.config, full=False)).config == found.config or "${" in str(tree)
    assert [each for each in origins(found) if each["from"] != "default"] or len(found.document.tree) <= 1


def test_nothing_of_this_imports_torch(guide: str) -> None:
    code = (
        "import sys\n"
        "from quincunx.config.explain import explain_text, markdown, json_schema\n"
        "from quincunx.config.load import load, origins, to_yaml\n"
        "from quincunx.recipes import schemas\n"
        f"loaded = load({guide!r}, ['update.batch_size=3'], schemas=schemas())\n"
        "origins(loaded); to_yaml(loaded.config); markdown(schemas()); json_schema(schemas())\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_star_that_is_written_as_a_key_is_no_pattern() -> None:
    with pytest.raises(ConfigError, match=r"\*"):
        loaded({}, "gpu_memory.*=1")
