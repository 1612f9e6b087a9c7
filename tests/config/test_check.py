"""Wrong values, unknown keys, rules and settings without effect: each placed, each in our words, all at once."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from guide_files import LISTOPS
from quincunx.config.check import check, check_sizes
from quincunx.config.document import Document, Problem
from quincunx.config.names import resolve
from quincunx.config.read import read_text
from quincunx.config.schema import Name, RecipeSchema, RowsOf, Rule, Section, Sizes, When, unless, when
from quincunx.recipes import schema_of

LONG_RANGE = schema_of("long_range")


def problems(text: str, schema: RecipeSchema = LONG_RANGE, **options: Any) -> list[Problem]:
    return list(check(read_text(text, "f.yaml", "yaml"), schema, **options).problems)


def said(text: str, schema: RecipeSchema = LONG_RANGE) -> list[tuple[str, str, str]]:
    return [(str(each.mark).removeprefix("f.yaml:"), each.message, each.remedy) for each in problems(text, schema)]


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("update: {batch_size: true}", "`update.batch_size`: expected an int >= 1, found true", "the default is 32"),
        ("update: {batch_size: 32.0}", "`update.batch_size`: expected an int >= 1, found 32.0", "write 32"),
        ('update: {batch_size: "3"}', '`update.batch_size`: expected an int >= 1, found "3"', "remove the quotes"),
        ("update: {batch_size: 1_000}", '`update.batch_size`: expected an int >= 1, found "1_000"', "write 1000"),
        ("update: {batch_size: 0}", "`update.batch_size`: expected an int >= 1, found 0", "the default is 32"),
        (
            "update: {batch_size: null}",
            "`update.batch_size`: expected an int >= 1, found null",
            "leave the line out to get the default, 32",
        ),
        (
            "update: {batch_size: {a: 1}}",
            "`update.batch_size`: expected an int >= 1, found a mapping",
            "`batch_size` takes a value, not settings below it",
        ),
        (
            "update: {clip_norm: 0}",
            "`update.clip_norm`: expected a float > 0, or null, found 0",
            "quincunx explain update.clip_norm says what it means",
        ),
        (
            'encoder: {dropout: "1e-1"}',
            '`encoder.dropout`: expected a float >= 0 and < 1, found "1e-1"',
            "remove the quotes",
        ),
        ("encoder: {dropout: 1}", "`encoder.dropout`: expected a float >= 0 and < 1, found 1", "the default is 0.1"),
        (
            "encoder: {dropout: .nan}",
            "`encoder.dropout`: expected a float >= 0 and < 1, found nan",
            "the default is 0.1",
        ),
        ("encoder: {tied_weights: yes}", '`encoder.tied_weights`: expected true or false, found "yes"', "write true"),
        (
            "encoder: {tied_weights: 1}",
            "`encoder.tied_weights`: expected true or false, found 1",
            "the default is false",
        ),
        (
            "encoder: {pooling: maen}",
            '`encoder.pooling`: expected one of mean, cls, found "maen"',
            "did you mean `mean`?",
        ),
        (
            "log: {trackers: jsonl}",
            '`log.trackers`: expected a list of one of jsonl, tensorboard, found "jsonl"',
            "did you mean `jsonl`?",
        ),
        (
            "log: {trackers: [jsonl, tensorbord]}",
            '`log.trackers[1]`: expected one of jsonl, tensorboard, found "tensorbord"',
            "did you mean `tensorboard`?",
        ),
        (
            "optimizer: {betas: [0.9]}",
            "`optimizer.betas`: expected a list of 2: float >= 0 and < 1, found a list of 1",
            "quincunx explain optimizer.betas says what it means",
        ),
        (
            "optimizer: {betas: [0.9, 2]}",
            "`optimizer.betas[1]`: expected a float >= 0 and < 1, found 2",
            "quincunx explain optimizer.betas says what it means",
        ),
        (
            "compute: {device: gpu}",
            '`compute.device`: expected one of auto, cpu, mps, cuda, cuda:N, found "gpu"',
            'the default is "auto"',
        ),
        (
            "evaluate: {every: true}",
            '`evaluate.every`: expected "epoch", an int number of updates, or a float share of an epoch in (0, 1], or '
            "null, found true",
            'the default is "epoch"',
        ),
        (
            "evaluate: {every: 1.5}",
            '`evaluate.every`: expected "epoch", an int number of updates, or a float share of an epoch in (0, 1], or '
            "null, found 1.5",
            "a float is a share of an epoch and lies in (0, 1]; write an int for a number of updates",
        ),
        ("schedule: cos", '`schedule` is a section, found "cos"', "write `schedule: {kind: cos}`"),
        (
            "update: 3",
            "`update` is a section, found 3",
            "its settings stand below it: batch_size, accumulation, clip_norm, no_decay",
        ),
        (
            "update:",
            "`update` is a section, found null",
            "leave the line out, or write `update: {}`, to get its defaults",
        ),
        (
            "seed: -1",
            "`seed`: expected an int from 0 to 2^63 - 1, or null, found -1",
            "quincunx explain seed says what it means",
        ),
        ("optimizer: {_target_: 3}", "`optimizer._target_`: expected a string, found 3", None),
        ("model: {num_headd: 3}", "unknown key `num_headd` under `model`", "did you mean `num_head`?"),
        ("num_layers: 3", "unknown key `num_layers`", "`num_layers` belongs under `encoder`"),
        ("loading: {qqqq: 3}", "unknown key `qqqq` under `loading`", "known here: bucketing, window, workers"),
        ("optimizer: {lr: 3}", "unknown key `lr` under `optimizer`", "did you mean `learning_rate`?"),
        (
            "gpu_memory:",
            "`gpu_memory` is a block of settings, found null",
            "leave it out, or give it keys such as softmax, hrr-individual, hrr-bundled, hrr-quadratic, ...",
        ),
        (
            "attention: {options: {hrr_bundled: {}}}",
            "unknown key `hrr_bundled` under `attention.options`",
            "did you mean `hrr-bundled`?",
        ),
    ],
)
def test_one_problem_with_cause_and_remedy(text: str, message: str, remedy: str | None) -> None:
    found = problems(text)
    assert [each.message for each in found] == [message]
    assert found[0].severity == "error"
    assert found[0].mark is not None
    assert remedy is None or found[0].remedy == remedy


def test_every_problem_has_a_remedy_and_a_place() -> None:
    text = "update: {batch_size: x, acumulation: 2}\nrun: 3\nattention: {kind: sofmax}\nseed: [1]\nzz: 1\n"
    found = problems(text)
    assert len(found) == 6
    assert all(each.remedy and each.mark for each in found)


def test_unknown_keys_are_placed_at_the_key_and_wrong_values_at_the_value() -> None:
    assert [place for place, _, _ in said("update:\n  batch_size:   x\n  foo:   3\n")] == ["2:17", "3:3"]


def test_messages_name_the_key_that_the_file_has() -> None:
    document = read_text("training: {batch_size: 0}\ngpu_memory: {tpr: x, foo: 1}", "f.yaml", "yaml")
    moved: dict[Any, Any] = {}
    resolve(document, LONG_RANGE.names, moved)
    found = check(document, LONG_RANGE, written=moved).problems
    assert [each.message for each in found if each.severity == "error"] == [
        "`training.batch_size` (`update.batch_size`): expected an int >= 1, found 0",
        '`gpu_memory.tpr` (`chunking.samples_by_kind.tpr`): expected an int >= 1, or null, found "x"',
        "unknown key `foo` under `gpu_memory`",
    ]


def test_the_arguments_of_a_target_are_free() -> None:
    checked = check(read_text("optimizer: {_target_: a.b, kindd: 3, decay: {x: [1]}}", "f.yaml", "yaml"), LONG_RANGE)
    assert checked.problems == ()
    assert checked.config.optimizer.model_extra == {"kindd": 3, "decay": {"x": [1]}}


def test_wrong_values_do_not_hide_rules_and_warnings() -> None:
    text = "update: {batch_size: x}\nbudget: {epochs: 1, updates: 2}\nschedule: {warmup: 3}\nfoo: 1\n"
    found = [(each.severity, str(each.mark)) for each in problems(text)]
    assert sorted(found) == [
        ("error", "f.yaml:1:22"),
        ("error", "f.yaml:2:30"),
        ("error", "f.yaml:4:1"),
        ("warning", "f.yaml:3:12"),
    ]


def test_a_rule_is_not_judged_by_the_default_in_place_of_a_wrong_value() -> None:
    wrong = "data: {min_length: 3000, max_length: x}"
    assert [each.path for each in problems(wrong)] == [("data", "max_length")]
    assert len(problems("data: {min_length: 3000}")) == 1


def test_a_rule_tells_where_the_other_key_stands() -> None:
    assert said("budget:\n  epochs: 1\n  updates: 2\n") == [
        (
            "3:12",
            "budget.updates (2) and budget.epochs (1) both say how long to train (budget.epochs: f.yaml:2:3)",
            "keep one of the two",
        )
    ]


class Row(Section):
    size: int = 0
    """Size."""


class Table(Section):
    fast: Row = Row()
    """Fast."""
    slow_one: Row = Field(default=Row(), alias="slow-one")
    """Slow."""


class Depths(Section):
    inner: int = 3
    """Inner."""
    rate: float = 2.0
    """Rate."""


class Toy(Section):
    recipe: str = "toy"
    """Recipe."""
    mode: str | None = None
    """Mode."""
    switch: bool = False
    """Switch."""
    needs_mode: Annotated[int | None, when("mode", "a", "b")] = 5
    """Acts in two modes."""
    not_c: Annotated[str, unless("mode", "c")] = "x"
    """Acts in all modes but c."""
    both: Annotated[int, when("switch", True), unless("mode", None)] = 0
    """Acts with both."""
    depths: Annotated[Depths, When("the moon is full", lambda config: config.switch)] = Depths()
    """A section that acts as a whole."""
    table: Annotated[Table, RowsOf("mode", unset="fast")] = Table()
    """Rows by mode."""


TOY = RecipeSchema("toy", "toy", Toy, names=(Name("g.*.size", "table.*.size"),))


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("needs_mode: 7", "`needs_mode` has no effect: it acts when mode is a or b, and mode is unset"),
        ("needs_mode: 7\nmode: c", "`needs_mode` has no effect: it acts when mode is a or b, and mode is c"),
        ("not_c: y\nmode: c", "`not_c` has no effect: it acts when mode is not c, and mode is c"),
        ("both: 1\nmode: a", "`both` has no effect: it acts when switch is true, and switch is false"),
        ("both: 1\nswitch: true", "`both` has no effect: it acts when mode is set, and mode is unset"),
        ("depths: {inner: 4}", "`depths.inner` has no effect: it acts when the moon is full"),
        ("needs_mode: 7\nmode: a", None),
        ("both: 1\nmode: a\nswitch: true", None),
        ("needs_mode: 5", None),
        ("needs_mode: null", None),
        ("needs_mode: -1", None),
        ("needs_mode: 0", None),
        ('not_c: ""\nmode: c', None),
        ("depths: {inner: 3, rate: 2}", None),
        ("depths: {inner: 4}\nswitch: true", None),
    ],
)
def test_settings_without_effect(text: str, warning: str | None) -> None:
    found = problems(text, TOY)
    assert [(each.severity, each.message) for each in found] == ([("warning", warning)] if warning else [])
    assert check(read_text(text, "f.yaml", "yaml"), TOY).config is not None


def test_rows_that_wait_are_one_note() -> None:
    [note] = problems("table: {slow-one: {size: 3}, fast: {size: 2}}", TOY)
    assert note.severity == "note"
    assert note.message == "mode is fast; rows that wait for another one: table: slow-one"
    assert problems("mode: slow-one\ntable: {slow-one: {size: 3}}", TOY) == []
    assert problems("table: {slow-one: {size: 0}}", TOY) == []


def test_an_argument_of_a_target_is_not_taken_for_a_setting_of_ours() -> None:
    assert problems("schedule: {_target_: a.b, warmup: 100, decay: 0.5}") == []


def test_the_guide_as_it_stands_warns_once_and_notes_once() -> None:
    document = read_text(LISTOPS, "lra.py", "python")
    document.tree = document.tree["listops"]
    moved: dict[Any, Any] = {}
    resolve(document, LONG_RANGE.names, moved)
    found = check(document, LONG_RANGE, written=moved).problems
    assert [(each.severity, each.path) for each in found] == [
        ("warning", ("schedule", "warmup")),
        ("note", ("chunking", "samples_by_kind", "hrr-individual")),
    ]
    assert "`training.warmup_steps` (`schedule.warmup`) has no effect" in found[0].message
    assert found[1].message == (
        "attention.kind is softmax; rows that wait for another one: "
        "gpu_memory: hrr-individual, hrr-bundled, hrr-quadratic, tpr"
    )


def test_keys_of_another_recipe_are_named_as_such() -> None:
    [problem] = problems("needs_mode: 3", others=(TOY, LONG_RANGE))
    assert problem.remedy == "`needs_mode` is a setting of recipe toy, not of long_range"


def test_sized_rules_wait_for_the_sizes() -> None:
    rule = Rule(
        name="too-few",
        paths=("update.batch_size",),
        applies=lambda config, sizes: config.update.batch_size > sizes.train,
        message="{update.batch_size} examples of {data.path}",
        remedy="lower it to {update.accumulation}",
        failing={},
        severity="warning",
        stage="sized",
    )
    schema = RecipeSchema("long_range", "", LONG_RANGE.config, rules=(rule,))
    document = read_text("update: {batch_size: 10}", "f.yaml", "yaml")
    checked = check(document, schema)
    assert checked.problems == ()
    assert check_sizes(checked.config, schema, Sizes(train=10), document) == []
    [problem] = check_sizes(checked.config, schema, Sizes(train=9), document)
    assert (problem.severity, problem.message, problem.remedy) == ("warning", "10 examples of unset", "lower it to 1")
    assert str(problem.mark) == "f.yaml:1:22"


def test_a_root_that_is_no_mapping_is_said() -> None:
    [problem] = check(Document([1, 2]), LONG_RANGE).problems
    assert problem.message == "a config is a mapping of settings, found a list of 2"


def test_a_missing_setting_is_said() -> None:
    class Needs(Section):
        size: int
        """Size."""

    class Root(Section):
        recipe: str = "r"
        """Recipe."""
        part: Needs | None = None
        """Part."""

    found = problems("part: {}\nother: 2", RecipeSchema("r", "", Root))
    assert {each.message for each in found} == {"`part.size` is missing", "unknown key `other`"}
