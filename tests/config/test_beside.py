"""What stands beside the settings of a run: taken out, merged, overridden, and refused where one run is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quincunx import load as load_public
from quincunx.config.document import ConfigError
from quincunx.config.load import draft, finish, load
from quincunx.config.override import parse_override
from quincunx.recipes import schemas


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str, name: str = "c.yaml") -> str:
    Path(name).write_text(text)
    return name


def beside(text: str, *overrides: str) -> Any:
    read = draft(written(text), overrides, schemas=schemas())
    finish(read)
    return None if read.sweep is None else read.sweep.tree


BOTH = "recipe: compression\nlr: 0.5\nranges: {lr: [0.1]}\nsweep: {workers: 2}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOTH, "c.yaml:3:1: error: `ranges` makes this a sweep of many runs, and one run is asked for"),
        ("recipe: compression\nranges: 3\n", "c.yaml:2:1: error: `ranges` makes this a sweep"),
        ("recipe: compression\nsweep: {workers: 2}\n", "c.yaml:2:1: error: `sweep` is about a sweep of many runs"),
    ],
)
def test_one_run_has_neither(text: str, said: str) -> None:
    for how in (lambda path: load(path, schemas=schemas()), load_public):
        with pytest.raises(ConfigError) as caught:
            how(written(text))
        [problem] = caught.value.problems
        assert problem.render().startswith(said)
        assert "quincunx sweep FILE" in problem.remedy and "~" in problem.remedy


def test_a_sweep_that_was_read_is_not_taken_for_a_run() -> None:
    loaded = finish(draft(written(BOTH), schemas=schemas()))
    assert loaded.sweep is not None
    with pytest.raises(ConfigError, match="one run is asked for"):
        load_public(loaded)


def test_what_the_remedy_says_helps() -> None:
    assert load(written(BOTH), ["~ranges", "~sweep"], schemas=schemas()).config.optimizer.learning_rate == 0.5


def test_it_says_nothing_about_the_recipe() -> None:
    with pytest.raises(ConfigError, match="no recipe is named"):
        draft(written("ranges: {encoder.num_heads: [1], model.num_layers: [3]}"), schemas=schemas())


def test_places_and_order_are_kept() -> None:
    read = draft(written("recipe: compression\nranges:\n  b: [1]\n  a: [2]\n"), schemas=schemas())
    assert read.sweep is not None
    assert list(read.sweep.get(("ranges",))) == ["b", "a"]
    assert str(read.sweep.mark(("ranges", "a", 0), key=False)) == "c.yaml:4:7"
    assert not read.document.has(("ranges",))
    assert read.layers[0].has(("ranges",))  # as it was read


def test_comments_of_guides_are_left_out() -> None:
    ranges = '"ranges": {"_why": 1, "c": {"_this": 2, "l2": [1]}, "lr": [2]}'
    text = f'{{"lr": 0.1, "cmp_len": 4, {ranges}, "sweep": {{"_that": 3}}}}'
    read = draft(written(text, "c.json"), schemas=schemas())
    assert read.sweep is not None
    assert read.sweep.tree == {"ranges": {"c": {"l2": [1]}, "lr": [2]}, "sweep": {}}


@pytest.mark.parametrize(
    ("override", "ranges"),
    [
        ("ranges.lr=[3]", {"lr": [3], "optimizer.weight_decay": {"low": 1, "high": 2}}),
        ("ranges.lr+=3", {"lr": [0.1, 3], "optimizer.weight_decay": {"low": 1, "high": 2}}),
        ("ranges.lr[0]=3", {"lr": [3], "optimizer.weight_decay": {"low": 1, "high": 2}}),
        ("~ranges.lr", {"optimizer.weight_decay": {"low": 1, "high": 2}}),
        ("ranges.optimizer.weight_decay.n=4", {"lr": [0.1], "optimizer.weight_decay": {"low": 1, "high": 2, "n": 4}}),
        ("ranges.optimizer.weight_decay={values: [1]}", {"lr": [0.1], "optimizer.weight_decay": {"values": [1]}}),
        ("~ranges.optimizer.weight_decay", {"lr": [0.1]}),
        (
            "ranges.optimizer.weight_decay.when.schedule.kind=cos",
            {"lr": [0.1], "optimizer.weight_decay": {"low": 1, "high": 2, "when": {"schedule.kind": "cos"}}},
        ),
        (
            "ranges.model.build.width.low=3",
            {"lr": [0.1], "optimizer.weight_decay": {"low": 1, "high": 2}, "model.build.width": {"low": 3}},
        ),
        ("ranges={lr: {low: 1}}", {"lr": {"low": 1}, "optimizer.weight_decay": {"low": 1, "high": 2}}),
        ("ranges=@more.json", {"lr": [7], "optimizer.weight_decay": {"low": 1, "high": 2}}),
    ],
)
def test_a_setting_is_one_key_in_overrides_as_well(override: str, ranges: Any) -> None:
    written('{"lr": [7]}', "more.json")
    text = "recipe: compression\nranges: {lr: [0.1], optimizer.weight_decay: {low: 1, high: 2}}\n"
    assert beside(text, override) == {"ranges": ranges}


def test_overrides_alone_make_a_sweep() -> None:
    plain = "recipe: compression\n"
    assert beside(plain) is None
    assert beside(plain, "ranges.lr=[1]", "sweep.workers=3") == {"ranges": {"lr": [1]}, "sweep": {"workers": 3}}
    with pytest.raises(ConfigError, match=r"ranges\.lr is not set"):
        beside(plain, "~ranges.lr")


def test_further_settings_are_laid_over_a_draft_again_and_again() -> None:
    read = draft(written("recipe: long_range\nencoder: {hidden_dim: '${encoder.embedding_dim}'}"), schemas=schemas())
    with pytest.raises(ConfigError, match="nothing stands at"):
        finish(read)
    for width in (32, 64):
        config = finish(read, [parse_override(f"model.embedding_dim={width}", 1)]).config
        assert (config.encoder.embedding_dim, config.encoder.hidden_dim) == (width, width)
    assert not read.document.has(("encoder", "embedding_dim"))
    with pytest.raises(ConfigError, match="nothing stands at"):
        finish(read)


def test_a_target_is_laid_over_before_its_arguments() -> None:
    read = draft(written("recipe: long_range\noptimizer: {learning_rate: 0.5}"), schemas=schemas())
    texts = ["optimizer.lr=0.1", "optimizer._target_=torch.optim.SGD"]
    config = finish(read, [parse_override(text, number) for number, text in enumerate(texts, 1)]).config
    assert (config.optimizer.target, config.optimizer.model_extra) == ("torch.optim.SGD", {"lr": 0.1})
