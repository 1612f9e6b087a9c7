"""Batches in words: the ones that training draws, and pictures drawn by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx import load
from quincunx.engine.runtime import Runtime
from quincunx.errors import UsageError
from quincunx.launch import _updates
from quincunx.recipes.compression.looking.gloss import cells, cut, gloss, harmless
from quincunx.recipes.compression.looking.inspect import inspect
from quincunx.recipes.compression.recipe import RECIPE
from recipes.compression.runs_made import config_of

CPU = Runtime(torch.device("cpu"), torch.float32)

STEPS = """\
batch 0 of training: update 1 of 3, 4 examples
predicted: forward (weight 1), reconstruction (weight 1)
compressed tokens: 2; read-out kv
positions: model, counted

row 0: example 14 of train of document 7
context, 6 tokens: 4 left out, step 1
  0  kept       7=
  1  dropped    7+1=
text, 3 tokens: 2=7

context, in brackets what is left out
  token     7  =  [7]  [+]  [1]  [=]
  position  0  1  1    1    1    1
slots
  position  2  3
forward (sees compressed): 3 of 4 tokens are to predict something
  token     >  2  =  7
  position  4  5  6  7
  target    2  =  7  ·
reconstruction (sees compressed): 2 of 7 tokens are to predict something
  token     >  7  =  [7]  [+]  [1]  [=]
  position  4  5  6  6    6    6    6
  target    7  =  ·  ·    ·    ·    ·

who sees whom
  rows see columns where # is, nobody sees columns of -; > a start, x forward, y reconstruction
         c c c c c c k k > x x x > y y y y y y
  7      # . - - - - . . . . . . . . . - - - -
  =      # # - - - - . . . . . . . . . - - - -
  7      # # # - - - . . . . . . . . . - - - -
  +      # # - # - - . . . . . . . . . - - - -
  1      # # - - # - . . . . . . . . . - - - -
  =      # # - - - # . . . . . . . . . - - - -
  CMP 1  # # - - - - # . . . . . . . . - - - -
  CMP 2  # # - - - - # # . . . . . . . - - - -
  START  . . - - - - # # # . . . . . . - - - -
  2      . . - - - - # # # # . . . . . - - - -
  =      . . - - - - # # # # # . . . . - - - -
  7      . . - - - - # # # # # # . . . - - - -
  START  . . - - - - # # . . . . # . . - - - -
  7      . . - - - - # # . . . . # # . - - - -
  =      . . - - - - # # . . . . # # # - - - -
  7      . . - - - - # # . . . . # # # # - - -
  +      . . - - - - # # . . . . # # # - # - -
  1      . . - - - - # # . . . . # # # - - # -
  =      . . - - - - # # . . . . # # # - - - #

3 more rows of the batch are not shown (--rows)"""

PASSES = """\
who sees whom, first pass
         c c c c S S k k
  4      # . . . . . . .
  ␣      # # . . . . . .
  T      . . # . . . # .
  h      . . # # . . # .
  SEP 1  # # . . # . . .
  SEP 2  . . # # . # # .
  CMP 1  # # . . # . # .
  CMP 2  . . # # . # # #

who sees whom, second pass
  rows see columns where # is, nobody sees columns of -; > a start, x forward
         m > x
  CMP 2  # . .
  START  # # .
  e      # # #

who sees whom, without a context
  rows see columns where # is, nobody sees columns of -; > a start, x without
         > x
  START  # .
  e      # #

who sees whom, with all of it
  rows see columns where # is, nobody sees columns of -; > a start, x full
         c c c c > x
  4      # . . . . .
  ␣      # # . . . .
  T      # # # . . .
  h      # # # # . .
  START  # # # # # .
  e      # # # # # #"""


def decided(home: Path, changes: Mapping[str, Any]) -> Any:
    return RECIPE.decide(load(config_of(home, changes=changes)).config)[0]


def steps(tmp_path: Path, **changes: Any) -> Any:
    path = tmp_path / "steps.txt"
    path.write_text("".join(f"{n}={n}+1=2={n}\n" for n in range(10)))
    data = {"source": "text", "path": str(path), "document": "line", "context_length": 7, "forward_length": 3,
            "processes": 1, "cache": str(tmp_path / "cache"), "dev_share": 0, "test_share": 0}  # fmt: skip
    blotch = {"separator": "=", "scope": "context", **changes}
    more = {"compress.slots": 2, "objective.forward": 1, "objective.reconstruction": 1, "update.batch_size": 4}
    return decided(tmp_path, {"seed": 1, "budget.updates": 3, "data": data, "blotch": blotch, **more})


def part(text: str, head: str, name: str) -> list[str]:
    """Return a part's cells of one name, of the first row that has it."""
    lines = iter(text[text.index("\n\n", text.index("row 0")) :].split("\n"))
    next(line for line in lines if line.startswith(head))
    found: list[str] = []
    for line in lines:
        if line and not line.startswith("  "):
            return found
        if line.startswith(f"  {name}  "):
            found += line.split()[1:]
    return found


def test_a_row_drawn_by_hand(tmp_path: Path):
    assert str(inspect(steps(tmp_path, step=1), rows=1)) == STEPS


def test_the_same_text_taken_out_and_told_whole(tmp_path: Path):
    taken = str(inspect(steps(tmp_path, step=1, form="excise"), rows=1))
    assert taken.split("\n")[6:10] == STEPS.split("\n")[6:10]  # what is left out is shown all the same
    assert part(taken, "context", "token") == ["7", "="]
    assert part(taken, "reconstruction", "target") == ["7", "=", "·"]
    whole = str(inspect(steps(tmp_path, step=1, targets="keep"), rows=1))
    assert part(whole, "context", "token") == ["7", "=", "[7]", "[+]", "[1]", "[=]"]
    assert part(whole, "reconstruction", "target") == ["7", "=", "7", "+", "1", "=", "·"]


BATCHES: dict[str, dict[str, Any]] = {
    "plain order": {"loading.bucketing": False},
    "bucketed, accumulated, drawn positions": {
        "loading.bucketing": True,
        "update.accumulation": 3,
        "positions.kind": "random",
        "data.min_context": 2,
    },
    "epochs of so many batches, which end within updates": {
        "loading.bucketing": False,
        "update.accumulation": 3,
        "budget.batches_per_epoch": 4,
    },
    "several numbers of slots, segments": {"compress.slots": [1, 2], "compress.segments": 2, "seed": 9},
    "one batch for ever": {"debug.overfit_batch": True, "update.accumulation": 2},
}


@pytest.mark.parametrize("name", list(BATCHES))
def test_batches_are_those_of_training(tmp_path: Path, name: str):
    config = decided(tmp_path, {**BATCHES[name], "update.batch_size": 4})
    experiment = RECIPE.build(config)
    training = _updates(experiment.config, experiment, CPU)
    numbers: list[tuple[int, int]] = []
    for update in range(training.order.updates_per_epoch + 4):
        numbers += [(update, place) for place in range(len(training.order.update(update)))]
    for number in (0, 1, 4, len(numbers) - 1):
        update, place = numbers[number]
        batch = training[update][place]
        assert batch is not None
        text = str(inspect(config, number, rows=100))
        assert f"update {update + 1} of" in text.partition("\n")[0]
        assert re.findall(r"^row \d+: example (\d+) ", text, re.MULTILINE) == [str(each) for each in batch.ids]
        one = batch.select([0])
        for head, tensor in (("context", "context"), ("slots", "slot"), ("forward", "forward")):
            assert part(text, head, "position") == [str(at) for at in one[f"{tensor}_positions"][0].tolist()]


def test_a_share_that_rises_is_that_of_the_update(tmp_path: Path):
    (tmp_path / "steps.txt").write_text("".join(f"{n}=a{n}=b{n}=c{n}=d{n}=e{n}=f\n" for n in range(20)))
    rises = {"p": 0.8, "separator": "=", "curriculum": {"updates": 4, "initial": 0.2}}
    data = {"data.path": str(tmp_path / "steps.txt"), "data.context_length": None, "data.forward_length": 20}
    config = decided(tmp_path, {**data, "compress": {}, "blotch": rises, "update.batch_size": 2, "budget.updates": 6})
    shares = [re.search(r"share (\S+)", str(inspect(config, number)))[1] for number in (0, 2, 5)]  # pyright: ignore[reportOptionalSubscript]
    assert shares == ["0.2", "0.5", "0.8"]
    assert "training ends after update 6" in str(inspect(config, 6))
    assert "training ends" not in str(inspect(config, 5))


def test_two_passes_are_drawn_apart(tmp_path: Path):
    changes = {"compress.readout": "tokens", "compress.separator": True, "compress.segments": 2, "compress.slots": 1}
    weights = {"objective.forward": 1, "objective.full": 1, "objective.without": 1}
    short = {"data.context_length": 4, "data.forward_length": 1, "compress.join": "recurrent"}
    text = str(inspect(decided(tmp_path, {**changes, **weights, **short}), rows=1))
    assert text[text.index("who sees whom") : text.index("\n\n7 more")] == PASSES


def test_measured_batches_leave_nothing_out(tmp_path: Path):
    config = decided(
        tmp_path, {"blotch.p": 1.0, "blotch.spans": "fixed", "blotch.span_length": 2, "evaluate.batch_size": 3}
    )
    text = str(inspect(config, split="dev", rows=9))
    assert "left out" not in text.replace("nobody sees columns", "")
    assert text.startswith("batch 0 of the ") and "that measure dev, shortest first: 3 examples" in text
    assert "forward (sees compressed)" in text or "without (sees nothing), forward (sees compressed)" in text
    with pytest.raises(UsageError, match=r"a measurement of dev computes .* counted from 0; there is no 99"):
        inspect(config, 99, split="dev")


def test_what_is_not_there_is_refused(tmp_path: Path):
    config = decided(tmp_path, {})
    with pytest.raises(UsageError, match="there is no split 'valid'; there are: train, dev, test"):
        inspect(config, split="valid")
    with pytest.raises(UsageError, match="count from 0"):
        inspect(config, -1)
    with pytest.raises(UsageError, match="at least 1 row"):
        inspect(config, rows=0)
    unseeded = config.model_copy(update={"seed": None})
    assert "no seed is given" in str(inspect(unseeded)) and "no seed" not in str(inspect(config))


def test_long_sequences_are_cut_and_say_so(tmp_path: Path):
    text = str(inspect(decided(tmp_path, {"data.context_length": 70, "data.packing": "stream"}), rows=1))
    count = int(re.search(r"the first 64 of (\d+) tokens", text)[1])  # pyright: ignore[reportOptionalSubscript]
    assert count > 64 and len(part(text, "context", "position")) == 64
    assert re.search(r"the first \d+ tokens of each part, of \d+ in all", text)
    assert max(map(len, text.split("\n"))) <= 110


def test_a_gloss_by_hand():
    lines = gloss(["token", "at"], [["a", "東京", "ccc"], ["10", "2", "3"]], width=17)
    assert lines == ["token  a   東京", "at     10  2", "", "token  ccc", "at     3"]
    assert cells("e\u0301東") == 3
    assert harmless("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"
    assert cut("abcdef", 6) == "abcdef" and cut("abcdefg", 6) == "abcd …"
