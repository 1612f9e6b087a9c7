"""What a config leaves open is decided by its task, once, and what it says is left as it is."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.config.check import check_sizes
from quincunx.config.document import ConfigError
from quincunx.config.load import load
from quincunx.recipes import schemas
from quincunx.recipes.long_range.config import SCHEMA, LongRangeConfig, declared_sizes
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.recipes.long_range.tasks import TASKS, mask_token, masks, needed_vocabulary, pretrains


def decided(**settings: Any) -> LongRangeConfig:
    return RECIPE.decide(LongRangeConfig.model_validate(settings))[0]


DECIDED = {  # vocabulary, longest sequence, classes, what becomes of longer ones
    "listops": (17, 2000, 10, "error"),
    "text": (257, 4000, 2, "truncate"),
    "retrieval": (257, 4000, 2, "truncate"),
    "image": (257, 1024, 10, "error"),
    "pathfinder": (257, 1024, 2, "error"),
}


@pytest.mark.parametrize("task", TASKS)
def test_what_is_unset_follows_from_the_task(task):
    config = decided(task=task)
    encoder = config.encoder
    assert (encoder.vocab_size, encoder.max_seq_len, encoder.num_classes, config.data.overlong) == DECIDED[task]
    assert config.attention.kind == "softmax"


@pytest.mark.parametrize("task", TASKS)
def test_what_is_set_is_left_as_it_is(task):
    encoder = {"vocab_size": 300, "max_seq_len": 77, "num_classes": 12}
    for overlong in ("truncate", "error"):
        config = decided(task=task, encoder=encoder, data={"overlong": overlong}, attention={"kind": "tpr"})
        assert config.encoder.model_dump(include=set(encoder)) == encoder
        assert config.data.overlong == overlong
        assert config.attention.kind == "tpr"


@pytest.mark.parametrize("task", TASKS)
def test_deciding_again_changes_nothing(task):
    config = decided(task=task)
    again, notes = RECIPE.decide(config)
    assert again == config
    assert notes == []


def test_nothing_else_is_changed():
    config = LongRangeConfig.model_validate({"seed": 3, "update": {"batch_size": 7}})
    changed = RECIPE.decide(config)[0].model_dump()
    before = config.model_dump()
    differing = {
        f"{section}.{name}"
        for section, value in before.items()
        if isinstance(value, dict)
        for name in value
        if value[name] != changed[section][name]
    }
    assert differing == {
        "attention.kind",
        "encoder.vocab_size",
        "encoder.max_seq_len",
        "encoder.num_classes",
        "data.overlong",
    }
    assert {name for name in before if before[name] != changed[name]} == {"attention", "encoder", "data"}


def test_the_kind_that_was_taken_is_said():
    assert RECIPE.decide(LongRangeConfig())[1] == ["no attention.kind given: softmax"]
    assert RECIPE.decide(LongRangeConfig.model_validate({"attention": {"kind": "softmax"}}))[1] == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(
    ("masked", "settings"),
    [
        (0, {}),
        (0, {"pretraining": {"mask_share": 0.2}}),
        (1, {"objective": "denoising"}),
        (1, {"pretraining": {"epochs": 1}}),
        (1, {"pretraining": {"updates": 5}}),
    ],
    ids=["classification", "a share alone", "denoising", "epochs", "updates"],
)
def test_the_mask_and_the_cls_token_get_ids_of_their_own(task, pooling, masked, settings):
    """After the task's own: the mask's, then the cls token's, which is the table's last row."""
    config = decided(task=task, encoder={"pooling": pooling}, **settings)
    own = TASKS[task].vocabulary
    assert config.encoder.vocab_size == needed_vocabulary(config) == own + masked + (pooling == "cls")
    assert masks(config) == bool(masked)
    if masked:
        assert mask_token(config) == own
    if pooling == "cls":
        assert RECIPE.parts(config).model.cls_token == own + masked


def test_pretraining_masks_the_id_that_training_knows():
    """The table is the same for both, and the mask is no token of the task's."""
    for encoder in ({"pooling": "cls"}, {"pooling": "mean", "vocab_size": 40}):
        config = decided(encoder=encoder, pretraining={"updates": 5})
        changes = RECIPE.prelude(config)
        assert changes is not None
        assert changes["objective"] == "denoising"
        first = config.model_copy(update={"objective": "denoising", "pretraining": config.pretraining})
        again = RECIPE.decide(first)[0]
        assert again.encoder == config.encoder
        assert mask_token(again) == mask_token(config) >= 17


def test_only_a_classifier_pretrains():
    assert pretrains(decided(pretraining={"updates": 5}))
    assert not pretrains(decided(pretraining={"updates": 5}, objective="denoising"))
    assert not pretrains(decided(pretraining={"learning_rate": 0.1, "mask_share": 0.5}))
    assert RECIPE.prelude(decided(objective="denoising")) is None
    assert RECIPE.prelude(decided()) is None


def test_the_share_and_the_mask_reach_the_collation():
    config = decided(objective="denoising", pretraining={"mask_share": 0.4}, encoder={"vocab_size": 99})
    batch = RECIPE.parts(config).sample(1, 10)
    assert int((batch["tokens"] == 98).sum()) == 4


@pytest.mark.parametrize(("resolution", "longest"), [(16, 256), (32, 1024), (128, 16_384)])
def test_pathfinders_length_is_its_number_of_pixels(resolution, longest):
    config = decided(task="pathfinder", data={"resolution": resolution})
    assert config.encoder.max_seq_len == longest
    assert declared_sizes(config).longest == longest


def test_a_table_too_small_for_mask_and_cls_is_refused():
    base = {"recipe": "long_range", "task": "listops"}
    for size, settings in ((17, {"objective": "denoising"}), (18, {"pretraining": {"updates": 5}})):
        encoder = {"pooling": "cls"} if size == 18 else {}
        config = load({**base, **settings, "encoder": {"vocab_size": size, **encoder}}, schemas=schemas())
        [problem] = check_sizes(config.config, SCHEMA, declared_sizes(config.config), config.document)
        assert f"encoder.vocab_size ({size}) is too small" in problem.message
        assert problem.severity == "error"
        config = load({**base, **settings, "encoder": {"vocab_size": size + 1, **encoder}}, schemas=schemas())
        assert check_sizes(config.config, SCHEMA, declared_sizes(config.config), config.document) == []


@pytest.mark.parametrize("task", TASKS)
def test_a_task_that_is_not_generated_needs_its_files(task):
    text = {"recipe": "long_range", "task": task}
    if TASKS[task].generated:
        load(text, schemas=schemas())
        return
    with pytest.raises(ConfigError, match=f"task {task} needs data.path"):
        load(text, schemas=schemas())
    load({**text, "data": {"path": "somewhere"}}, schemas=schemas())


@pytest.mark.parametrize("task", TASKS)
def test_declared_counts_are_what_the_engine_will_count(task):
    data = {"path": "somewhere", "train": 50, "dev": 7, "test": 9}
    sizes = declared_sizes(decided(task=task, data=data))
    assert (sizes.train, dict(sizes.evaluation)) == (50, {"dev": 7, "test": 9})
    parts = TASKS[task].parts
    sizes = declared_sizes(decided(task=task, data=data, objective="denoising"))
    assert (sizes.train, dict(sizes.evaluation)) == (50 * parts, {"dev": 7 * parts, "test": 9 * parts})
    sizes = declared_sizes(decided(task=task, data=data, debug={"limit": 8}))
    assert (sizes.train, dict(sizes.evaluation)) == (8, {"dev": 7, "test": 8})


@pytest.mark.parametrize("kind", ["softmax", "none", "hrr-individual", "hrr-bundled", "hrr-quadratic", "hrr-cleanup"])
def test_the_chosen_kinds_limit_of_chunks_is_taken(kind):
    limits = {name: number for number, name in enumerate(("softmax", "none", "hrr-individual", "hrr-bundled"), 3)}
    limits |= {"hrr-quadratic": 20, "hrr-cleanup": 30, "tpr": 40}
    chunking = {"samples_by_kind": limits}
    assert RECIPE.chunk_samples(decided(attention={"kind": kind}, chunking=chunking)) == limits[kind]
    assert RECIPE.chunk_samples(decided(attention={"kind": kind})) is None
    assert RECIPE.chunk_samples(LongRangeConfig.model_validate({"chunking": chunking})) == 3, "unset is softmax"
