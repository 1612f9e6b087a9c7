"""A sweep put together: its settings, the configs of its runs, what is kept of it, and what may change later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guide_files import LISTOPS
from quincunx.config.document import ConfigError
from quincunx.config.load import canonical, load
from quincunx.errors import RunError
from quincunx.recipes import schemas
from quincunx.sweep.choosing.space import Listed
from quincunx.sweep.reading.continuing import compatible
from quincunx.sweep.reading.spec import Spec, config_hash, open_sweep, restore, trial_file
from quincunx.sweep.records import RunRecord
from retrieval_guides import GUIDE_000, GUIDE_001

HYPERPARAMETERS: dict[str, Any] = {
    "_comment": "as guide 003 has it",
    "exp_name": "first",
    "save_root": "out",
    "dataset": "openwebtext",
    "lr": 0.001,
    "l2": 0.0,
    "cmp_len": 32,
    "seq_len": 32,
    "n_layers": 2,
    "d_model": 64,
    "n_heads": 4,
    "n_epochs": 1,
    "batch_size": 8,
}
HYPERRANGES: dict[str, Any] = {
    "_comment": "what is searched",
    "lr": [0.001, 0.0001],
    "combos": {"_why": "they grow together", "n_layers": [2, 4], "d_model": [64, 128]},
    "l2": [0, 1e-3],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, content: Any) -> str:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return name


def guide(*overrides: str, **changed: Any) -> Spec:
    write("hyperparameters.json", {**HYPERPARAMETERS, **changed})
    return open_sweep("hyperparameters.json", write("hyperranges.json", HYPERRANGES), overrides)


def section(text: str, *overrides: str, **options: Any) -> Spec:
    return open_sweep(write("c.yaml", text), None, overrides, **options)


def test_the_files_of_the_guide() -> None:
    spec = guide()
    assert (spec.dir, spec.name, spec.sampler) == (Path("out/first"), "first", "grid")
    assert (spec.metric, spec.goal, spec.seed) == ("dev/loss", "min", None)
    assert spec.ranged == (
        "optimizer.learning_rate", "model.build.num_layers", "model.build.width", "optimizer.weight_decay",
    )  # fmt: skip
    configs = [spec.load(point).config for point in spec.space.grid()]
    assert [
        (each.optimizer.learning_rate, each.model.build.num_layers, each.model.build.width, each.optimizer.weight_decay)
        for each in configs
    ] == [(lr, *sizes, l2) for lr in (0.001, 0.0001) for sizes in ((2, 64), (4, 128)) for l2 in (0.0, 0.001)]
    assert all(each.update.batch_size == 8 for each in configs)


def test_keys_of_the_grid_are_as_written() -> None:
    spec = guide()
    assert spec.space.settings(next(spec.space.grid())) == {"lr": 0.001, "n_layers": 2, "d_model": 64, "l2": 0}


def test_a_section_of_the_config_and_its_settings() -> None:
    spec = section(
        """
        recipe: long_range
        seed: 3
        run: {name: arena}
        encoder: {embedding_dim: 64, hidden_dim: "${encoder.embedding_dim}"}
        ranges:
          encoder.embedding_dim: [64, 128]
          optimizer.learning_rate: {low: 1e-4, high: 1e-2, log: true}
          schedule.warmup: {values: [10, 20], when: {schedule.kind: linear}}
          schedule.kind: [linear, fixed]
        sweep:
          trials: 7
          dir: runs/${run.name}-it
          exclude: [{encoder.embedding_dim: 128, schedule.kind: fixed}]
        """,
        "sweep.workers=3",
        "ranges.update.batch_size=[2, 4]",
    )
    assert (spec.dir, spec.name, spec.sampler, spec.seed) == (Path("runs/arena-it"), "arena", "random", 3)
    assert (spec.settings.workers, spec.settings.trials, spec.settings.sampler) == (3, 7, "random")
    assert (spec.metric, spec.goal) == ("dev/accuracy", "max")
    assert [each.name for each in spec.space.ranges] == [
        "encoder.embedding_dim", "optimizer.learning_rate", "schedule.warmup", "schedule.kind", "update.batch_size",
    ]  # fmt: skip
    # a reference is resolved with the values of the run
    point = spec.space.at([0.99, 0.5, 0, 0, 0])
    assert spec.load(point).config.encoder.hidden_dim == 128
    assert spec.load(point).config.schedule.warmup == 10
    assert spec.space.excluded({**point, "schedule.kind": 1})


def test_the_folder_of_a_sweep() -> None:
    ranges = "ranges: {update.batch_size: [2, 4]}\nrecipe: compression\n"
    assert section(ranges).dir == Path("runs/compression-sweep")
    assert section(ranges, "run.name=a").dir == Path("runs/a-sweep")
    assert section(ranges, "run.root=r").dir == Path("r/compression-sweep")
    assert section(ranges, "run.root=r", "run.name=a").dir == Path("r/a")
    assert section(ranges, "run.dir=r/b").dir == Path("r/b-sweep")
    assert section(ranges, "run.dir=r/b", "sweep.dir=c").dir == Path("c")


@pytest.mark.parametrize("where", ["root", "block", "both"])
def test_a_file_that_nests_by_task(where: str) -> None:
    root = '"ranges": {"training.learning_rate": [0.1, 0.2]},' if where != "block" else ""
    block = '"ranges": {"model.num_layers": [1, 2]},' if where != "root" else ""
    inside = LISTOPS.replace('"dataset":{', f'{block} "dataset":{{', 1)
    write("lra.py", "{" + root + inside + ', "text": {"model": {"num_head": 2}}}')
    spec = open_sweep("lra.py", None, task="listops")
    assert spec.space.size() == (4 if where == "both" else 2)
    [last] = list(spec.space.grid())[-1:]
    config = spec.load(last).config
    assert config.optimizer.learning_rate == (0.001 if where == "block" else 0.2)
    assert config.encoder.num_layers == (1 if where == "root" else 2)
    with pytest.raises(ConfigError, match="sweep one task at a time"):
        open_sweep("lra.py", None, ["ranges.task=[listops, text]"], task="listops")


def test_tasks_are_ranged_where_a_file_does_not_nest_by_them() -> None:
    spec = section("recipe: long_range\nranges: {task: [listops, image]}\ndata: {path: somewhere}")
    assert [spec.load(point).config.task for point in spec.space.grid()] == ["listops", "image"]
    with pytest.raises(ConfigError, match="task listops is asked for"):
        section("recipe: long_range\nranges: {task: [listops, image]}", task="listops")


def test_values_are_transformed_like_those_of_a_file() -> None:
    write("lra.py", "{" + LISTOPS + "}")
    spec = open_sweep("lra.py", {"training.mixed_precision": [True, False], "model.pooling_mode": ["MEAN", "cls"]})
    found = [spec.load(point).config for point in spec.space.grid()]
    assert [(each.compute.precision, each.encoder.pooling) for each in found] == [
        ("auto", "mean"), ("auto", "cls"), ("float32", "mean"), ("float32", "cls"),
    ]  # fmt: skip


def test_conditions_compare_under_any_name_and_in_any_form() -> None:
    write("lra.py", "{" + LISTOPS + "}")
    ranges = {
        "training.mixed_precision": [True, False],
        "update.clip_norm": {"values": [1.0, 2.0], "when": {"compute.precision": "auto"}},
        "training.weight_decay": {"values": [0.1], "when": {"training.lr_scheduler": "exp_decay"}},
        "training.warmup_steps": {"values": [5], "when": {"schedule.kind": ["linear", "cos"]}},
        "model.num_layers": {"values": [2], "when": {"schedule.warmup": 5}},
    }
    spec = open_sweep("lra.py", ranges)
    assert [dict(point) for point in spec.space.grid()] == [
        {"training.mixed_precision": 0, "update.clip_norm": 0, "training.weight_decay": 0},
        {"training.mixed_precision": 0, "update.clip_norm": 1, "training.weight_decay": 0},
        {"training.mixed_precision": 1, "training.weight_decay": 0},
    ]
    assert 'the range training.warmup_steps does not act: schedule.kind is "exp_decay"' in spec.notes
    assert any(note.startswith("the range model.num_layers does not act") for note in spec.notes)


def test_the_arguments_of_a_target_are_ranged_with_it() -> None:
    spec = section(
        """
        recipe: long_range
        optimizer: {_target_: torch.optim.SGD, lr: 0.1}
        ranges:
          optimizer.lr: [0.1, 0.2]
          optimizer.momentum: [0.0, 0.9]
        """
    )
    configs = [spec.load(point).config.optimizer for point in spec.space.grid()]
    assert [each.model_extra for each in configs][-1] == {"lr": 0.2, "momentum": 0.9}
    with pytest.raises(ConfigError, match="is built from a `_target_`"):
        section("recipe: long_range\noptimizer: {_target_: torch.optim.SGD}\nranges: {training.learning_rate: [0.1]}")


@pytest.mark.parametrize("text", [GUIDE_000, GUIDE_001], ids=["000", "001"])
def test_the_guides_of_retrieval_keep_their_form(text: str) -> None:
    write("guide.yaml", text)
    alone = load("guide.yaml", ["optimizer.weight_decay=0.5", "evaluate.every=5"], schemas=schemas()).config
    # present names in the ranges do not make it another form, whatever their number
    spec = open_sweep("guide.yaml", {"optimizer.weight_decay": [0.5], "evaluate.every": [5], "update.batch_size": [8]})
    [point] = spec.space.grid()
    found, wanted = canonical(spec.load(point).config), canonical(alone)
    wanted["update"]["batch_size"] = 8
    assert found == wanted


def test_layers_are_merged_and_a_range_is_replaced_whole() -> None:
    write(
        "base.yaml",
        "recipe: compression\nranges:\n  lr: {low: 0.1, high: 0.2}\n  l2: [0.1]\nsweep: {workers: 2, trials: 3}",
    )
    text = "base: base.yaml\nranges: {lr: [0.3], batch_size: [2]}\nsweep: {trials: 4}"
    spec = section(text, "sweep.trials=null", "ranges.l2={values: [0.5]}", "ranges.batch_size+=4", "~ranges.lr")
    assert spec.space.ranges == (
        Listed("l2", ("l2",), ((0.5,),)),
        Listed("batch_size", ("batch_size",), ((2,), (4,))),
    )
    assert (spec.settings.workers, spec.settings.trials) == (2, None)


def test_a_range_is_changed_in_parts() -> None:
    text = (
        "recipe: compression\nranges:\n  optimizer.learning_rate: {low: 0.1, high: 0.2, n: 3}\n"
        "  c: {l2: [0.1], batch_size: [2]}\n"
    )
    spec = section(text, "ranges.optimizer.learning_rate.n=2", "ranges.c.l2=[0.7]", "ranges.blotch.step=[1, 2]")
    assert spec.space.size() == 4
    assert spec.load(next(spec.space.grid())).config.optimizer.weight_decay == 0.7


def test_the_file_of_a_run_is_a_config_of_that_run() -> None:
    spec = guide(seed=5)
    for number, point in enumerate(spec.space.grid()):
        run = RunRecord(number, number, 0, 7, f"first_{number}_x", "")
        text = trial_file(spec, run, spec.space.settings(point), point)
        found = load(write("trial.yaml", text), schemas=schemas(), strict=True)
        assert found.config == spec.load(point, 7, **{"run.dir": f"out/first/first_{number}_x"}).config
        assert (found.config.seed, found.config.run.dir) == (7, f"out/first/first_{number}_x")
        assert text.startswith(f"# Run {number} of the sweep in out/first: trial {number}, replicate 0, seed 7.\n")


def test_folders_of_retrieval_runs_are_the_sweeps(here: Path) -> None:
    spec = open_sweep({"recipe": "retrieval", "data": {"path": "x"}, "run": {"root": "r", "name": "n", "version": "v"}},
                      {"update.batch_size": [2]})  # fmt: skip
    assert (spec.dir, spec.name) == (Path("r/n"), "retrieval")
    [point] = spec.space.grid()
    assert spec.load(point, 1, **{"run.dir": "r/n/0"}).config.run.dir == "r/n/0"


@pytest.mark.parametrize(
    ("config", "ranges", "overrides"),
    [
        (HYPERPARAMETERS, HYPERRANGES, ["batch_size=16", "sweep.n_seeds=2"]),
        ("{" + LISTOPS + "}", {"training.learning_rate": {"low": 0.1, "high": 0.5, "n": 3}}, ["data.train=100"]),
        (GUIDE_000, {"training.lr": [1e-5, 1e-4], "training.mode": ["bi-encoder", "poly-encoder"]}, []),
        (GUIDE_001, {"optimizer.lr": [1e-5, 1e-4]}, ["log.trackers=[]", "log.trackers+=tensorboard"]),
        (
            "recipe: long_range\ndata: {max_length: 900}\nencoder: {max_seq_len: '${data.max_length}'}\n"
            "ranges: {data.max_length: [950, 960]}\nsweep: {dir: 'x/${task}'}\ntask: listops",
            None,
            ["sweep.sampler=random", "sweep.trials=4"],
        ),
    ],
    ids=["003", "004", "000", "001", "references"],
)
def test_a_sweep_is_restored_without_its_files(config: Any, ranges: Any, overrides: list[str]) -> None:
    suffix = "json" if isinstance(config, dict) else "py" if config.startswith("{") else "yaml"
    spec = open_sweep(write(f"c.{suffix}", config), ranges, overrides)
    kept = json.loads(json.dumps(spec.snapshot()))
    Path(f"c.{suffix}").unlink()
    again = restore(kept)
    assert again == spec
    assert again.snapshot() == spec.snapshot() == kept
    for point in spec.space.grid():
        assert again.load(point, 3).config == spec.load(point, 3).config
        assert again.hash_of(again.load(point)) == spec.hash_of(spec.load(point))
    assert again.config_text() == spec.config_text()
    if spec.base.schema.name == "retrieval":
        return  # in a guide's form what is taken for granted depends on the mode, and is written down for one
    # the two files that people find in the folder make the same sweep as well
    third = open_sweep(write("config.yaml", spec.config_text()), write("ranges.yaml", spec.ranges_text()))
    assert [third.load(point).config for point in third.space.grid()] == [
        spec.load(point).config for point in spec.space.grid()
    ]


def test_a_password_is_not_kept() -> None:
    url = "postgresql://me:geheim@host:5432/sweeps?password=geheim&connect_timeout=3"
    text = f"recipe: compression\nranges: {{lr: [0.1]}}\nsweep:\n  storage: {url}\n"
    for spec in (section(text), section(text.partition("sweep")[0], f"sweep.storage={url}")):
        assert spec.settings.storage == url
        kept = json.dumps(spec.snapshot())
        assert "geheim" not in kept + spec.ranges_text() + spec.config_text()
        assert restore(json.loads(kept)).settings.storage == ("postgresql://me@host:5432/sweeps?connect_timeout=3")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:ge:hei/m@host/sweeps",
        "postgresql://me:ge'he im@host/sweeps",
        "postgresql://me@host/sweeps?sslmode=require&sslpassword=geheim",
        "postgresql+psycopg://me:geheim@host/sweeps?password=geheim&sslpassword=geheim",
    ],
)
def test_passwords_of_every_form_are_left_out(url: str) -> None:
    text = f"recipe: compression\nranges: {{lr: [0.1]}}\nsweep:\n  storage: {json.dumps(url)}\n"
    spec = section(text)
    assert spec.settings.storage == url
    kept = json.dumps(spec.snapshot()) + spec.ranges_text() + spec.config_text()
    assert "he im" not in kept and "hei" not in kept
    assert "@host/sweeps" in kept and "me:" not in kept.replace("name:", "")


def test_no_problem_shows_a_password() -> None:
    text = "recipe: compression\nranges: {lr: [0.1]}\nsweep: {storage: postgresql://me:geheim@host/db, worker: 2}\n"
    for wrong in (text, text.replace("worker: 2", "workers: 2]"), text.replace("postgresql", "mysql")):
        with pytest.raises(ConfigError) as caught:
            section(wrong)
        shown = next(line for line in str(caught.value).splitlines() if "storage: " in line)
        assert "geheim" not in str(caught.value) and "://me:******@host/db" in shown
        for each in caught.value.problems:  # columns are those of the file
            assert each.mark is not None and len(each.mark.source.lines[2]) == len(wrong.splitlines()[2])


def test_files_named_by_overrides_are_kept_with_the_sweep() -> None:
    write("note.txt", 'two\n"lines"\n')
    spec = section("recipe: compression\nranges: {lr: [0.1]}", "run.note=@note.txt")
    Path("note.txt").unlink()
    assert restore(spec.snapshot()).base.config.run.note == 'two\n"lines"'


def test_the_hash_is_of_what_makes_a_run() -> None:
    spec = guide()
    point = next(spec.space.grid())
    one = spec.hash_of(spec.load(point, 1))
    assert len(one) == 16
    assert one == spec.hash_of(spec.load(point, 1, **{"run.dir": "elsewhere", "log.every": 3, "compute.threads": 2}))
    assert one == config_hash(spec.load(point, 1).config)
    assert one != spec.hash_of(spec.load(point, 2))
    hashes = {spec.hash_of(spec.load(each, 1)) for each in spec.space.grid()}
    assert len(hashes) == 8
    # what makes no difference to the weights makes one where it is ranged
    text = "recipe: compression\nranges: {compute.threads: [1, 2]}"
    ranged = section(text)
    assert len({ranged.hash_of(ranged.load(each, 1)) for each in ranged.space.grid()}) == 2


def test_the_metric_is_the_one_that_chooses_checkpoints_unless_another_is_named() -> None:
    text = "recipe: long_range\nranges: {update.batch_size: [2]}"
    assert [(each.metric, each.goal) for each in (section(text), section(text, "evaluate.metric=dev/loss"))] == [
        ("dev/accuracy", "max"), ("dev/loss", "min"),
    ]  # fmt: skip
    named = section(text, "sweep.metric=test/loss")
    assert (named.metric, named.goal) == ("test/loss", "min")
    assert section(text, "sweep.metric=train/whatever", "sweep.goal=min").goal == "min"


BEGUN = "recipe: compression\nseed: 1\nbudget: {updates: 5}\nranges: {lr: [0.1, 0.2], l2: [0.1]}\n"


@pytest.mark.parametrize(
    ("text", "changes", "notes"),
    [
        (BEGUN, [], []),
        (BEGUN, ["sweep.workers=4", "sweep.retries=0"], ["sweep.retries: 1 -> 0", "sweep.workers: 1 -> 4"]),
        (BEGUN, ["log.every=3"], ["log.every: 50 -> 3"]),
        (
            BEGUN.replace("0.2]", "0.3, 0.4]"),
            [],
            ["ranges: new combinations 2, left out from now on 1"],
        ),
        (
            BEGUN.replace("l2: [0.1]", "l2: [0.1, 0.2]"),
            [],
            ["ranges: new combinations 2, left out from now on 0"],
        ),
    ],
)
def test_what_may_change_in_a_grid(text: str, changes: list[str], notes: list[str]) -> None:
    before = section(BEGUN).snapshot()
    assert compatible(before, section(text, *changes)) == notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["update.batch_size=3"], "update.batch_size: 32 -> 3"),
        (["budget.updates=6"], "budget.updates: 5 -> 6"),
        (["seed=2"], "seed: 1 -> 2"),
        (["sweep.metric=dev/accuracy"], "sweep.metric: null -> dev/accuracy"),
        (["sweep.value=last"], "sweep.value: best -> last"),
        (["sweep.n_seeds=2"], "sweep.n_seeds: 1 -> 2"),
        (["sweep.sampler=random", "sweep.trials=3"], "sweep.sampler: grid -> random"),
        (["evaluate.metric=dev/accuracy"], "sweep.metric: dev/loss -> dev/accuracy"),
    ],
)
def test_what_may_not_change(changes: list[str], said: str) -> None:
    before = section(BEGUN).snapshot()
    with pytest.raises(RunError, match="begun otherwise") as caught:
        compatible(before, section(BEGUN, *changes))
    assert f"\n  {said}\n" in str(caught.value)


def test_a_setting_that_the_version_before_did_not_have_stood_at_its_default() -> None:
    before = section(BEGUN).snapshot()
    del before["settings"]["pruning"]["gather"], before["settings"]["value"]
    assert compatible(before, section(BEGUN)) == []
    with pytest.raises(RunError, match=r"sweep\.value: best -> last"):
        compatible(before, section(BEGUN, "sweep.value=last"))


def test_what_was_drawn_keeps_its_ranges_and_its_seed() -> None:
    text = BEGUN + "sweep: {sampler: qmc, trials: 3}\n"
    before = section(text).snapshot()
    assert compatible(before, section(text, "sweep.trials=9")) == ["sweep.trials: 3 -> 9"]
    for change, said in [
        ("sweep.seed=3", "sweep.seed: 0 -> 3"),
        ("ranges.lr=[0.1, 0.3]", r"ranges.lr: \[0.1, 0.2\] -> \[0.1, 0.3\]"),
        ("~ranges.l2", r"ranges.l2: \[0.1\] -> null"),
    ]:
        with pytest.raises(RunError, match=said):
            compatible(before, section(text, change))


def test_nothing_of_this_imports_torch() -> None:
    write("hyperparameters.json", HYPERPARAMETERS)
    write("hyperranges.json", HYPERRANGES)
    code = (
        "import sys\n"
        "from quincunx.sweep.reading.spec import open_sweep, restore\n"
        "from quincunx.sweep.reading.continuing import compatible\n"
        "spec = open_sweep('hyperparameters.json', 'hyperranges.json', ['sweep.workers=2'])\n"
        "again = restore(spec.snapshot())\n"
        "assert compatible(spec.snapshot(), again) == []\n"
        "again.hash_of(again.load(next(again.space.grid()), 3))\n"
        "assert open_sweep({'recipe': 'long_range'}, {'update.batch_size': [1]}).metric == 'dev/accuracy'\n"
        "assert open_sweep({'recipe': 'retrieval', 'data': {'path': 'x'}}, {'update.batch_size': [1]}).goal == 'max'\n"
        "assert not {'torch', 'optuna', 'sqlalchemy'} & set(sys.modules), sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
