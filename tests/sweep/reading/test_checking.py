"""What a sweep refuses before anything runs, each with its place and its remedy, and what it warns of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quincunx.config.document import ConfigError
from quincunx.sweep.reading.spec import Spec, open_sweep

CONFIG: dict[str, Any] = {
    "recipe": "compression",
    "cmp_len": 16,
    "seq_len": 16,
    "n_layers": 2,
    "d_model": 64,
    "n_heads": 4,
    "lr": 0.001,
}
ARENA: dict[str, Any] = {"recipe": "long_range", "encoder": {"pooling": "cls"}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(ranges: Any, *overrides: str, config: Any = CONFIG, **options: Any) -> Spec:
    Path("c.json").write_text(json.dumps(config, indent=1))
    Path("r.json").write_text(json.dumps(ranges, indent=1))
    return open_sweep("c.json", "r.json", overrides, **options)


def refused(ranges: Any, *overrides: str, config: Any = CONFIG, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        opened(ranges, *overrides, config=config, **options)
    assert all(problem.remedy for problem in caught.value.problems)
    return [f"{each.mark}: {each.message}" if each.mark else each.message for each in caught.value.problems]


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"lrr": [1, 2]}, ["r.json:2:2: unknown key `lrr`"]),
        ({"optimizer.learning_rat": [1, 2]}, ["r.json:2:2: unknown key `learning_rat` under `optimizer`"]),
        ({"c": {"lr": [0.1], "bach_size": [2]}}, ["r.json:6:3: unknown key `bach_size`"]),
        ({"lrr": {"low": 1.0, "high": 2.0, "n": 2}}, ["r.json:2:2: unknown key `lrr`"]),
        ({"lr": [0.1, "a"]}, ['r.json:4:3: `lr` (`optimizer.learning_rate`): expected a float >= 0, found "a"']),
        ({"lr": [0.1, -1]}, ["r.json:4:3: `lr` (`optimizer.learning_rate`): expected a float >= 0, found -1"]),
        (
            {"lr": [0.1, -1], "n_layers": [0, 2]},
            [
                "r.json:4:3: `lr` (`optimizer.learning_rate`): expected a float >= 0, found -1",
                "r.json:7:3: `n_layers` (`model.build.num_layers`): expected an int >= 1, found 0",
            ],
        ),
        (
            {"compress.slots": [[4, 8], [4, "x"]]},
            ['r.json:9:4: `compress.slots`: expected an int >= 1, found "x"'],
        ),
        (
            {"c": {"lr": [0.1, 0.2], "drop_p": [0.5, 1.5]}},
            ["r.json:9:4: `drop_p` (`model.dropout`): expected a float >= 0 and < 1, or null, found 1.5"],
        ),
    ],
)
@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_values_that_are_wrong_in_every_combination(ranges: Any, said: list[str], sampler: str) -> None:
    more = ["sweep.sampler=random", "sweep.trials=3"] if sampler == "random" else []
    found = refused(ranges, *more)
    if "slots" in said[0]:  # the section takes an int or a list, and says so in its own words
        assert found[0].startswith("r.json:") and "compress.slots" in found[0]
    else:
        assert found == said


def test_both_ends_of_a_span_are_tried() -> None:
    random = ["sweep.sampler=random", "sweep.trials=3"]
    assert refused({"lr": {"low": -1.0, "high": 0.1}}, *random) == [
        "r.json:3:10: `lr` (`optimizer.learning_rate`): expected a float >= 0, found -1.0"
    ]
    assert refused({"drop_p": {"low": 0.5, "high": 1.0}}, *random) == [
        "r.json:4:11: `drop_p` (`model.dropout`): expected a float >= 0 and < 1, or null, found 1.0"
    ]
    assert opened({"drop_p": {"low": 0.5, "high": 0.9}}, *random).sampler == "random"


@pytest.mark.parametrize(
    ("ranges", "overrides", "said"),
    [
        (
            {"lr": [0.1], "optimizer.learning_rate": [0.2]},
            [],
            "r.json:5:2: one setting in two ranges: `optimizer.learning_rate` is ranged as `lr` too (r.json:2:2)",
        ),
        (
            {"c": {"lr": [0.1], "optimizer.learning_rate": [0.2]}},
            [],
            "r.json:6:3: one setting in two ranges: `optimizer.learning_rate` is ranged as `lr` too (r.json:3:3)",
        ),
        (
            {"model.build": [{"num_layers": 2}], "n_layers": [2]},
            [],
            "r.json:7:2: one setting in two ranges: `n_layers` is ranged as `model.build` too (r.json:2:2)",
        ),
        (
            {"run.dir": ["a"]},
            [],
            "r.json:2:2: `run.dir` cannot be ranged: every run of a sweep has its folder from the",
        ),
        ({"exp_name": ["a"]}, [], "r.json:2:2: `exp_name` cannot be ranged: every run of a sweep has its folder from"),
        ({"recipe": ["compression"]}, [], "r.json:2:2: `recipe` cannot be ranged: a sweep is of one recipe"),
        ({"sweep.workers": [1]}, [], "r.json:2:2: `sweep.workers` is no setting of a run, so it cannot be ranged"),
        (
            {"seed": [1, 2]},
            ["sweep.n_seeds=2"],
            "r.json:2:2: `seed` is ranged, and sweep.n_seeds (2) gives seeds as well",
        ),
        (
            {"budget.stop_at": [1, 2]},
            ["sweep.pruner=asha"],
            "r.json:2:2: `budget.stop_at` cannot be ranged: sweep.pruner says where runs stop",
        ),
        (
            {"lr": [0.1]},
            ["optimizer.learning_rate=3"],
            "command line:1:1: `optimizer.learning_rate` is set, and ranged as well (r.json:2:2)",
        ),
        (
            {"optimizer.learning_rate": [0.1]},
            ["optimizer={learning_rate: 3}"],
            "command line:1:1: `optimizer` is set, an",
        ),
        (
            {"lr": {"low": 0.001, "high": 0.1}},
            ["sweep.sampler=grid"],
            "r.json:2:2: `lr` is a span without points, and sweep.sampler is grid",
        ),
        ({"lr": {"low": 0.001, "high": 0.1}}, [], "r.json:2:8: sweep.sampler random never ends by itself"),
        (
            {"ranges": {"lr": [0.1]}, "workers": 3},
            [],
            "r.json:7:2: `workers` stands beside `ranges` in a file of ranges",
        ),
        ({"ranges": {"lr": [0.1]}, "sweep": {"samplr": 1}}, [], "r.json:8:3: unknown key `samplr` under `sweep`"),
        (
            {"ranges": {"lr": [0.1]}, "sweep": {"workers": 0}},
            [],
            "r.json:8:14: `sweep.workers`: expected an int >= 1, fo",
        ),
        ({"ranges": {"lr": [0.1]}, "sweep": 3}, [], "r.json:7:11: `sweep` is a section, found 3"),
        (
            {"lr": [0.1]},
            ["sweep.metric=dev/los"],
            "command line:1:14: sweep.metric is dev/los, which the runs do not mea",
        ),
        (
            {"lr": [0.1]},
            ["sweep.goal=max"],
            "command line:1:12: sweep.goal says how to read a metric, but sweep.metric",
        ),
    ],
)
def test_what_cannot_be_swept(ranges: Any, overrides: list[str], said: str) -> None:
    [found] = refused(ranges, *overrides)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"optimizer.kid": "adamw"}, "r.json:7:4: `optimizer.kid` is no setting"),
        ({"evaluate": 3}, "r.json:7:4: `evaluate` is a section, and a condition is on a setting"),
        ({"n_layers": 7}, "r.json:7:16: `n_layers` is never 7: its range is 2, 4"),
        ({"n_layers": [2, 2.5]}, "r.json:7:16: `n_layers` is never 2.5: its range is 2, 4"),
        ({"drop_p": 0.1}, "r.json:7:14: `drop_p` is never 0.1: its range is numbers from 0.0 to 0.5"),
        ({"model": 0.1}, "r.json:7:4: `model` is ranged with its section, or in parts"),
        ({"lr": 0.1}, "r.json:6:3: a circle of conditions: lr -> lr"),
        ({"batch_size": 8}, "r.json:6:3: a circle of conditions: lr -> batch_size -> l2 -> lr"),
    ],
)
def test_conditions_that_are_none(when: Any, said: str) -> None:
    ranges = {
        "lr": {"values": [0.1], "when": when},
        "n_layers": [2, 4],
        "drop_p": {"low": 0.0, "high": 0.5},
        "batch_size": {"values": [8], "when": {"l2": 0.1}},
        "l2": {"values": [0.1], "when": {"lr": 0.1}},
    }
    if "batch_size" not in when:
        del ranges["batch_size"], ranges["l2"]
    found = refused(ranges, "sweep.sampler=random", "sweep.trials=3")
    assert found[0].startswith(said)


@pytest.mark.parametrize(
    ("exclude", "said"),
    [
        ("[{lr: 0.3}]", "`lr` is never 0.3: its range is 0.1, 0.2"),
        ("[{batch_size: 3}]", "`batch_size` is not ranged, so there is nothing to leave out"),
        ("[{}]", "an empty combination would leave out everything"),
        ("[{lr: [0.1, 0.2]}]", "sweep.exclude leaves out every combination"),
    ],
)
def test_exclusions_that_are_none(exclude: str, said: str) -> None:
    [found] = refused({"lr": [0.1, 0.2]}, f"sweep.exclude={exclude}")
    assert found.partition(": ")[2] == said


def test_what_does_not_go_together_names_the_fewest_settings_and_the_way_out() -> None:
    ranges = {"attention.causal": [True, False], "update.batch_size": [2, 4], "encoder.pooling": ["mean", "cls"]}
    with pytest.raises(ConfigError) as caught:
        opened(ranges, config=ARENA)
    [problem] = caught.value.problems
    assert str(problem.mark) == "r.json:12:3"
    assert problem.message.startswith(
        "these do not go together: `attention.causal` true, `encoder.pooling` cls: the cls"
    )
    way_out = "[{attention.causal: true, encoder.pooling: cls}]"
    assert f"`exclude: {way_out}`" in problem.remedy
    assert opened(ranges, f"sweep.exclude={way_out}", config=ARENA).space.size() == 6


def test_a_sampler_that_draws_is_told_of_contradictions_but_not_stopped() -> None:
    ranges = {"attention.causal": [True, False], "encoder.pooling": ["mean", "cls"]}
    spec = opened(ranges, "sweep.sampler=random", "sweep.trials=9", config=ARENA)
    assert any("contradictory" in note and "the cls token comes first" in note for note in spec.notes)


def test_a_value_that_the_config_contradicts_is_told_where_it_stands() -> None:
    for more in ([], ["sweep.sampler=random", "sweep.trials=3"]):
        [found] = refused({"attention.causal": [True, False]}, *more, config=ARENA)
        assert found.startswith("r.json:3:3: `attention.causal` true: the cls token comes first")


def test_what_only_a_range_can_put_right_is_not_held_against_the_config() -> None:
    spec = opened({"data.path": ["a", "b"]}, config={"recipe": "long_range", "task": "text"})
    assert [spec.load(point).config.data.path for point in spec.space.grid()] == ["a", "b"]
    assert spec.base.config.data.path == "a"


def test_mistakes_of_the_config_are_told_with_those_of_the_ranges() -> None:
    wrong = {**CONFIG, "n_lay": 3}
    assert refused({"lr": []}, config=wrong) == [
        "c.json:9:2: unknown key `n_lay`",
        "r.json:2:8: `lr`: the list is empty, so there would be no run",
    ]
    assert refused({"lr": [0.1, 0.2]}, config=wrong) == ["c.json:9:2: unknown key `n_lay`"]
    missing = {"recipe": "long_range", "task": "text", "lrr": 3}
    assert refused({"data.path": ["a", "b"]}, config=missing) == ["c.json:4:2: unknown key `lrr`"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "r.json:1:1: the file holds a list where a mapping was expected"),
        ('{"lr": [0.1,', "r.json:1:"),
        ("", "r.json:1:1: `ranges` holds no range"),
        ("{}", "r.json:1:1: `ranges` holds no range"),
        ('{"ranges": {}}', "r.json:1:2: `ranges` holds no range"),
        ('{"sweep": {"workers": 2}}', "there are no ranges to sweep over"),
        ('{"lr": [0.1], "lr": [0.2]}', "r.json:1:15: "),
    ],
)
def test_files_of_ranges_that_are_none(text: str, said: str) -> None:
    Path("c.json").write_text(json.dumps(CONFIG))
    Path("r.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        open_sweep("c.json", "r.json")
    first = caught.value.problems[0]
    assert (f"{first.mark}: {first.message}" if first.mark else first.message).startswith(said)


def test_a_missing_file_of_ranges() -> None:
    Path("c.json").write_text(json.dumps(CONFIG))
    Path("ranges.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"rangs.json: no such file(?s:.*)did you mean ranges.json"):
        open_sweep("c.json", "rangs.json")


def test_ranges_in_two_files() -> None:
    [found] = refused({"l2": [0.1]}, config={**CONFIG, "ranges": {"lr": [0.1]}})
    assert found == "c.json:9:2: the config has `ranges`, and so has a second file (r.json:1:1)"


def test_a_ranged_setting_without_effect_is_warned_of_once() -> None:
    ranges = {"schedule.warmup": [1, 2], "schedule.kind": ["fixed", "linear"]}
    [warning] = opened(ranges).warnings
    assert str(warning.mark) == "r.json:2:2"
    assert warning.message.endswith("(so in 2 of the 4 combinations that were looked at)")
    assert refused(ranges, strict=True) == [f"r.json:2:2: {warning.message}"]
    [always] = opened({"schedule.warmup": [1, 2]}).warnings
    assert always.remedy == "leave the range out"
    useful = {"schedule.warmup": {"values": [1, 2], "when": {"schedule.kind": "linear"}}}
    assert opened({**useful, "schedule.kind": ["fixed", "linear"]}).warnings == []


def test_a_setting_of_the_config_is_without_effect_only_if_it_is_so_everywhere() -> None:
    config = {**CONFIG, "schedule": {"warmup": 3}}
    assert opened({"schedule.kind": ["fixed", "linear"]}, config=config).warnings == []
    [warning] = opened({"lr": [0.1, 0.2]}, config=config).warnings
    assert str(warning.mark).startswith("c.json:10")


def test_large_grids_are_read_in_part_and_every_value_all_the_same() -> None:
    ranges = {"lr": [each / 1000 for each in range(1, 400)], "l2": [each / 10 for each in range(12)]}
    spec = opened(ranges)
    assert spec.space.size() == 4788
    assert "2,000 of the 4,788 combinations were checked, and every value" in spec.notes
    ranges["lr"][203] = -1.0
    assert refused(ranges) == ["r.json:206:3: `lr` (`optimizer.learning_rate`): expected a float >= 0, found -1.0"]


def test_metrics_that_differ_have_to_be_chosen_from() -> None:
    ranges = {"objective": ["classification", "denoising"]}
    config = {"recipe": "long_range"}
    [found] = refused(ranges, config=config)
    assert "by different metrics: dev/accuracy (max) and dev/loss (min)" in found
    spec = opened(ranges, "sweep.metric=dev/accuracy", config=config)
    assert (spec.metric, spec.goal) == ("dev/accuracy", "max")


def test_wrong_values_are_told_along_with_wrong_forms() -> None:
    ranges = {"c": {"n_layers": [2, 4], "d_model": [64]}, "lrr": [1], "lr": [0.1, -1], "seq_len": "12"}
    said = refused(ranges)
    assert [each.split(": ", 1)[1][:24] for each in said] == [
        "`c` zips lists of unequa",
        "unknown key `lrr`",
        "`lr` (`optimizer.learnin",
        "`seq_len` has no range: ",
    ]
    # what a rule says about one setting beside others is not told of a value alone
    said = refused({"d_model": [30, 64], "lrr": [1, 2], "c": []})
    assert [each.split(": ", 1)[1][:17] for each in said] == ["unknown key `lrr`", "`c`: the list is "]


def test_wrong_values_are_told_along_with_what_is_wrong_in_the_config() -> None:
    said = refused({"lrr": [1, 2]}, config={**CONFIG, "batchsize": 3})
    assert len(said) == 2 and "unknown key `batchsize`" in said[0] and "unknown key `lrr`" in said[1]


def test_a_sampler_that_has_nothing_to_search_is_refused() -> None:
    said = refused({"lr": [0.1, 0.2]}, "sweep.sampler=cmaes", "sweep.trials=9")
    assert len(said) == 1 and said[0].startswith("command line:1:15: sweep.sampler=cmaes searches spans")
    spec = opened({"lr": [0.1, 0.2], "l2": {"low": 0.0, "high": 0.1}}, "sweep.sampler=cmaes", "sweep.trials=9")
    assert any("draws lr at random" in note for note in spec.notes)
