"""Trained runs as compressors: what they read and write is what training and evaluation would."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import quincunx
from quincunx import Compressor, Run, load, train
from quincunx.engine.runtime import Runtime
from quincunx.errors import DataError, RunError, UsageError
from quincunx.recipes.compression import assemble
from quincunx.recipes.compression.answers import contexts
from quincunx.recipes.compression.answers.compress import Compressor as Facade
from quincunx.recipes.compression.answers.contexts import SEED
from quincunx.recipes.compression.answers.generate import Sampling
from quincunx.recipes.compression.data.arithmetic import ALPHABET, SEPARATOR_ID
from quincunx.recipes.compression.data.tasks import TASKS
from quincunx.recipes.compression.data.tokenizer import train_tokenizer
from quincunx.recipes.compression.evaluate.make import evaluator_of
from quincunx.recipes.compression.recipe import RECIPE
from quincunx.recipes.compression.shapes import evaluation_shaping
from quincunx.recipes.compression.shaping import Item
from quincunx.recipes.compression.sources import read
from quincunx.seeds import address
from recipes.compression.runs_made import config_of

CPU = Runtime(torch.device("cpu"), torch.float32)
TEXT = "The bridge over the river was built in the spring."
ALL = {"objective.forward": 1, "objective.reconstruction": 1, "objective.without": 1, "objective.full": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: one that compresses, another one like it, a plain model, one of arithmetic and one of a task."""
    home = tmp_path_factory.mktemp("runs")
    plain = {"data.context_length": None, "compress": {}, "budget.updates": 1}
    arithmetic = {"train": 60, "dev": 8, "test": 8, "ood": 0, "max_num": 9}
    ruled = {"data": {"cache": str(home / "cache")}, "tokenizer": {}, "compress": {}, "evaluate": {"every": None}}
    sums = {**ruled, "data.source": "arithmetic", "arithmetic": arithmetic, "evaluate.generate": 0}
    told = {"blotch.p_max": 0.6, "blotch.levels": 3, "blotch.intensity_tokens": True, "evaluate.blotch_p": 0.4}
    apart = {"data.context_length": 6, "compress.slots": 3, **told}
    tasks = {"name": "binary_addition", "max_length": 8, "train": 40, "dev": 8, "test_max_length": 9}
    both_ways = {"model.causal": False, "positions.kind": "random", "positions.size": 64, "positions.evaluate": "even"}
    with pytest.MonkeyPatch.context() as patch:
        # the pictures of reports take longer than these runs
        patch.setattr("quincunx.report.to_png", lambda chart: b"")

        def make(name: str, changes: Mapping[str, Any]) -> None:
            train(config_of(home, name, copy.deepcopy(dict(changes))))  # sections are filled in place

        make("run", ALL)
        make("other", {**ALL, "seed": 4, "budget.updates": 1})
        make("plain", plain)
        make("sums", sums)
        make("told", {**sums, **told})
        make("apart", {**sums, **apart})
        make("task", {**ruled, **both_ways, "data": {}, "data.source": "tasks", "tasks": tasks})
    return home


@pytest.fixture(scope="module")
def run(home: Path) -> Compressor:
    return Compressor.load(home / "run", device="cpu")


def untrained(tmp_path: Path, changes: Mapping[str, Any]) -> Facade:
    """Return a compressor of the small config with random weights large enough to tell tokens apart."""
    build = {"model.build.options": {"initializer_range": 0.4}, "compress.slots": 3}
    config, _ = RECIPE.decide(load(config_of(tmp_path, changes={**ALL, **build, **changes})).config)
    torch.manual_seed(0)
    language = assemble.built(config, train_tokenizer((), "byte", 0), 200)
    return Facade(config, assemble.make_model(config, language)[0], language.tokenizer, CPU)


def likeliest(of: Facade, context: Tensor, branch: str, tokens: Tensor, segments: int) -> Tensor:
    """Return the likeliest token at each place of a text, all of it read in one batch as an evaluation reads it."""
    shaping = replace(evaluation_shaping(of.config, 3, (branch,)), segments=segments)
    row = address(SEED, "context", context.numpy().tobytes().hex())
    batch = shaping([Item(context, tokens)], [0], [row], SEED)
    if branch == "reconstruction":  # which the shaping takes from the context
        batch = {**batch.tensors, "reconstruction_tokens": tokens[None]}
    with torch.no_grad():
        return of.model.logits(of.model.states(batch, (branch,))[branch]).argmax(-1)[0]


VARIANTS: dict[str, dict[str, Any]] = {
    "keys and values": {},
    "token states": {"compress.readout": "tokens", "compress.separator": True},
    "pooled, counted anew": {"compress.readout": "mean_pool", "compress.positions": "restart"},
    "a table of sines, slots spread": {
        "positions.kind": "sinusoidal",
        "positions.size": 120,
        "compress.positions": "uniform",
    },
    "drawn numbers": {"positions.kind": "random", "positions.size": 120},
    "two segments": {"compress.segments": 2, "compress.separator": True},
    "two segments apart": {"compress.segments": 2, "compress.join": "concatenate"},
    "two segments in a row": {"compress.segments": 2, "compress.join": "recurrent", "compress.readout": "tokens"},
}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_what_is_written_is_what_an_evaluation_finds_likeliest(tmp_path: Path, name: str):
    of = untrained(tmp_path, VARIANTS[name])
    segments, ahead = of.config.compress.segments, {"ahead": 8} if of.draws else {}
    texts = [TEXT[:11], TEXT[5:17]]
    written = of.write(of.compress(texts, **ahead), most=8)
    whole = of.write(of.read(texts, **ahead), most=8)
    seen: set[tuple[int, ...]] = set()
    for text, each, full in zip(texts, written, whole, strict=True):
        context = of.vocabulary.tokens(text, "")
        for branch, found in (("forward", each), ("full", full)):
            assert len(found.tokens) == 8 and not found.ended
            assert likeliest(of, context, branch, torch.tensor(found.tokens), segments)[:8].tolist() == found.tokens
            seen.add(tuple(found.tokens))
    assert len(seen) == 4


@pytest.mark.parametrize("name", list(VARIANTS))
def test_texts_are_told_again_part_by_part_as_in_training(tmp_path: Path, name: str):
    of = untrained(tmp_path, VARIANTS[name])
    (told,) = of.retell([TEXT[:17]])
    first, second = of.vocabulary.tokens(TEXT[:12], ""), of.vocabulary.tokens(TEXT[12:17], "")
    compressed = of._contexts.compress([first, second], 3, [12, 5])
    tokens = of._writer.retell(compressed, [12, 5])
    for context, found in zip((first, second), tokens, strict=True):
        seen = likeliest(of, context, "reconstruction", found, of.config.compress.segments)
        assert seen[:-1].tolist() == found.tolist()
    right = sum(int((one == two).sum()) for one, two in zip((first, second), tokens, strict=True))
    assert told == (of.vocabulary.text(torch.cat(tokens).tolist()), right, 17)


@pytest.mark.parametrize(
    "name", ["keys and values", "token states", "drawn numbers", "two segments", "two segments apart"]
)
def test_rows_do_not_depend_on_one_another(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contexts, "AT_ONCE", 24)  # so that there are several passes
    of = untrained(tmp_path, VARIANTS[name])
    texts, segments = [TEXT, TEXT[:5], TEXT[3:40], TEXT[:12]], of.config.compress.segments
    together = of.compress(texts)
    for row, text in enumerate(texts):
        alone, own = of.compress([text]), together.select([row])
        count = alone.seen.shape[1]
        assert own.seen[0].sum() == count == 3 * max(segments, math.ceil(len(text) * segments / 12))
        torch.testing.assert_close(own.following, alone.following)
        torch.testing.assert_close(own.positions[:, :count], alone.positions)
        if alone.layers is not None and own.layers is not None:
            torch.testing.assert_close(own.layers[-1][1][:, :, :count], alone.layers[-1][1])
        else:
            assert own.embeddings is not None
            torch.testing.assert_close(own.embeddings[:, :count], alone.embeddings)


def test_segments_beyond_those_of_training_go_on_as_the_model_has_them(tmp_path: Path):
    for name in ("two segments", "two segments apart", "two segments in a row"):
        of = untrained(tmp_path, VARIANTS[name])
        context = of.vocabulary.tokens(TEXT[:29], "")
        assert of.segments(29) == 5
        shaping = replace(evaluation_shaping(of.config, 3, ("forward",)), segments=5)
        batch = shaping([Item(context, context[:1])], [0], [0], SEED)
        with torch.no_grad():
            expected = of.model.compress(batch, segments=5)
        found = of.compress([TEXT[:29]])
        torch.testing.assert_close(found.following, batch["forward_positions"][:, :1])
        torch.testing.assert_close(found.positions, expected.positions)
        for mine, theirs in zip(
            (*(found.layers or ()), found.embeddings), (*(expected.layers or ()), expected.embeddings), strict=True
        ):
            torch.testing.assert_close(mine, theirs)


def test_a_long_text_of_a_model_of_one_segment_is_read_side_by_side(tmp_path: Path):
    """By hand: each third of the text as rope turns it at its place, seen by nothing but its own slots."""
    of = untrained(tmp_path, {})
    found = of.compress([TEXT[:36]])
    places = {"context": 0, "slots": 12, "next": 15}
    assert found.positions.tolist() == [[start + places["slots"] + slot for start in (0, 15, 30) for slot in range(3)]]
    assert found.following.tolist() == [[45]]
    assert found.layers is not None
    for part in range(3):
        words, first = of.vocabulary.tokens(TEXT[12 * part : 12 * part + 12], "")[None], 15 * part
        columns = torch.arange(12)[None]
        alone = {"context": words, "context_seen": columns >= 0, "context_positions": first + columns}
        with torch.no_grad():
            kept = of.model.compress({**alone, "slot_positions": first + torch.tensor([[12, 13, 14]])})
        assert kept.layers is not None
        own = slice(3 * part, 3 * part + 3)
        torch.testing.assert_close(found.layers[1][0][:, :, own], kept.layers[1][0])
        torch.testing.assert_close(found.layers[0][1][:, :, own], kept.layers[0][1])


def test_one_draw_numbers_a_long_text_and_what_follows_it(tmp_path: Path):
    of = untrained(tmp_path, VARIANTS["drawn numbers"])
    found = of.compress([TEXT], ahead=6)
    numbers = torch.cat([found.positions, found.following], 1)[0]
    assert found.positions.shape == (1, 15) and found.following.shape == (1, 7)
    assert (numbers.diff() > 0).all() and numbers.max() < 120
    shaping = replace(evaluation_shaping(of.config, 3, ("forward",)), segments=5)
    context = of.vocabulary.tokens(TEXT, "")
    row = address(SEED, "context", context.numpy().tobytes().hex())
    batch = shaping([Item(context, context[:6])], [0], [row], SEED)
    assert numbers.tolist() == torch.cat([batch["slot_positions"], batch["forward_positions"]], 1)[0].tolist()


def test_fewer_slots_are_the_first_ones(run: Compressor):
    all_of_them, two = run.compress([TEXT[:12]]), run.compress([TEXT[:12]], 2)
    assert all_of_them.layers is not None and two.layers is not None
    torch.testing.assert_close(two.layers[1][0], all_of_them.layers[1][0][:, :, :2])
    assert two.following.tolist() == [[14]]
    for asked in (0, 4):
        with pytest.raises(UsageError, match=f"trained with 1 to 3 compressed tokens for a segment, asked for {asked}"):
            run.compress([TEXT], asked)


def test_prompts_are_part_of_what_is_read(tmp_path: Path):
    of = untrained(tmp_path, {})
    text = TEXT[:9]
    (whole,) = of.write(of.compress([text]), most=6)
    first, rest = whole.tokens[:2], whole.tokens[2:]
    compressed = of.compress([text])
    (on,) = of._writer.write("forward", compressed, [torch.tensor(first)], 4, Sampling(), 0)
    assert on.tokens == rest
    one, other = of.write(prompt=["The", "The bridge"], most=5), of.write(prompt="The bridge", most=5)
    assert one[1].tokens == other[0].tokens != one[0].tokens
    both = of.compress([text, TEXT[:4]])
    assert [each.tokens for each in of.write(both, prompt="x", most=3)] == [
        each.tokens for each in of.write(both, prompt=["x", "x"], most=3)
    ]
    with pytest.raises(UsageError, match="there are 2 contexts and 3 prompts"):
        of.write(both, prompt=["x", "y", "z"], most=3)
    with pytest.raises(UsageError, match="nothing to go on from"):
        of.write(most=3)
    with pytest.raises(DataError, match="prompt 2 is empty"):
        of.write(both, prompt=["x", ""], most=3)


@pytest.mark.parametrize(
    ("changes", "branch"), [({}, "without"), ({"objective.without": 0, "objective.plain": 1}, "plain")]
)
def test_a_prompt_without_a_context_is_read_as_the_run_was_trained(
    tmp_path: Path, changes: dict[str, Any], branch: str
):
    of = untrained(tmp_path, changes)
    prompt = of.vocabulary.tokens("The b", "")
    (found,) = of.write(prompt="The b", most=6)
    tokens = torch.cat([prompt, torch.tensor(found.tokens)])
    context = torch.zeros(12 if branch == "without" else 0, dtype=torch.int64)
    batch = evaluation_shaping(of.config, 3, (branch,))([Item(context, tokens)], [0], [0], 0)
    with torch.no_grad():
        states = of.model.states(batch, (branch,))[branch][0]
    best = of.model.logits(states).argmax(-1)[branch == "without" :]
    assert best[4:10].tolist() == found.tokens


def test_chance_follows_from_the_seed(tmp_path: Path):
    of = untrained(tmp_path, {})
    draw = {"most": 8, "temperature": 1.5}
    texts = [of.generate(of.compress([TEXT, TEXT]), seed=seed, **draw) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0][0] != texts[0][1]
    assert of.generate(of.compress([TEXT]), most=8, temperature=5.0, top_k=1) == of.generate(
        of.compress([TEXT]), most=8
    )


def test_positions_limit_what_is_read_and_written(tmp_path: Path):
    of = untrained(tmp_path, VARIANTS["a table of sines, slots spread"])
    # 120 places: the text, a start, and 8 tokens to come
    assert of.compress(["x" * 111]).seen.shape == (1, 30)
    with pytest.raises(DataError, match=r"text 2 has 112 tokens; .* the 120 positions .* at most 111 can be read"):
        of.compress(["x", "x" * 112])
    assert len(of.write(of.compress(["x" * 111]), most=8)[0].tokens) == 8
    with pytest.raises(UsageError, match="positions for 9 tokens, and prompt and text take 10 with the start"):
        of.write(of.compress(["x" * 111]), most=9)
    with pytest.raises(UsageError, match="has 120 positions, 4 fewer than the prompt and 110 tokens take"):
        of.write(prompt="x", most=110)
    drawn = untrained(tmp_path, VARIANTS["drawn numbers"])
    compressed = drawn.compress([TEXT[:12]])
    assert compressed.following.shape == (1, 9)
    with pytest.raises(UsageError, match="take 10 with the start: ask for fewer; compress with more ahead"):
        drawn.write(compressed, most=9)
    assert len(drawn.write(drawn.compress([TEXT[:12]], ahead=9), most=9)[0].tokens) == 9
    with pytest.raises(UsageError, match="this one counts them"):
        of.compress([TEXT[:12]], ahead=9)


def test_files_are_of_one_model(home: Path, run: Compressor, tmp_path: Path):
    assert quincunx.Compressor is Facade
    path = tmp_path / "contexts.safetensors"
    compressed = run.compress([TEXT, TEXT[:7]])
    run.save(path, compressed)
    again = Compressor.load(Run(home / "run"), checkpoint="last", device="cpu")
    assert again.fingerprint == run.fingerprint
    assert again.generate(again.load_compressed(path), most=5) == run.generate(compressed, most=5)
    other = Compressor.load(home / "other", device="cpu")
    with pytest.raises(RunError, match=f"{run.fingerprint}, this is {other.fingerprint}"):
        other.load_compressed(path)


def test_what_cannot_be_loaded_or_read_is_refused(home: Path, run: Compressor, finished: Path):
    with pytest.raises(UsageError, match="run of the recipe long_range"):
        Compressor.load(finished)
    with pytest.raises(UsageError, match="no checkpoint first; there are: best, last, update-"):
        Compressor.load(home / "run", checkpoint="first")
    with pytest.raises(UsageError, match="no device 'gpu'"):
        Compressor.load(home / "run", device="gpu")
    with pytest.raises(DataError, match="text 2 is empty"):
        run.compress([TEXT, ""])
    plain = Compressor.load(home / "plain", device="cpu")
    with pytest.raises(UsageError, match="the run compresses nothing"):
        plain.compress([TEXT])
    with pytest.raises(UsageError, match="not trained to tell contexts again"):
        plain.retell([TEXT])


def test_rows_of_texts(home: Path, run: Compressor):
    rows: list[dict[str, Any]] = [
        {"context": TEXT},
        {"prompt": "The lamps", "most": 3},
        {"context": TEXT[:9], "prompt": "The"},
        {"context": TEXT[:9]},
    ]
    found = Run(home / "run").predict(rows)
    expected = [
        run.generate(run.compress([TEXT]), most=8),
        run.generate(prompt="The lamps", most=3),
        run.generate(run.compress([TEXT[:9]]), prompt="The", most=8),
        run.generate(run.compress([TEXT[:9]]), most=8),
    ]
    assert found == [{"text": text} for (text,) in expected]
    assert Run(home / "plain").predict([{"prompt": "The"}])[0].keys() == {"text"}
    for bad in (
        {},
        {"text": "x"},
        {"context": ""},
        {"context": 3},
        {"prompt": "x", "most": 0},
        {"prompt": "x", "n": 1},
    ):
        with pytest.raises(DataError, match=r'row 2 is .*expected \{"context"'):
            Run(home / "run").predict([{"context": TEXT}, bad])
    with pytest.raises(DataError, match="row 1 has a context, and the run compresses none"):
        Run(home / "plain").predict([{"context": TEXT}])


def test_rows_of_arithmetic(home: Path):
    run = Run(home / "sums")
    (found,) = run.predict([{"problem": "1+2"}])
    # by hand: the likeliest token after the problem, again and again
    tokens = torch.from_numpy(ALPHABET.encode("1+2=").astype("int64"))[None]
    model: Any = run.model()
    shaping = evaluation_shaping(run.config, 0, ("plain",))
    written: list[int] = []
    while len(written) < 32:
        batch = shaping([Item(tokens[0, :0], tokens[0])], [0], [0], 0)
        with torch.no_grad():
            best = int(model.logits(model.states(batch, ("plain",))["plain"])[0, -1].argmax())
        if best == ALPHABET.id("E"):
            break
        written.append(best)
        tokens = torch.cat([tokens, torch.tensor([[best]])], 1)
    text = ALPHABET.decode(torch.tensor(written).numpy())
    last = text.rpartition("=")[2]
    assert found == {
        "solution": text,
        "answer": int(last) if last.isdecimal() and (last == "0" or last[0] != "0") else None,
    }
    assert SEPARATOR_ID in tokens
    for bad, match in (
        ({"problem": "1+"}, "row 1: expected numbers"),
        ({"context": "1+2"}, 'expected {"problem": "12'),
    ):
        with pytest.raises(DataError, match=match):
            run.predict([bad])
    assert run.predict([]) == []


@pytest.mark.parametrize("name", ["sums", "told", "apart"])
def test_solutions_are_those_that_an_evaluation_writes(home: Path, name: str):
    run = Run(home / name)
    found = read(run.config)
    model: Any = run.model()
    evaluator: Any = evaluator_of(run.config, "dev", found, model)
    texts = evaluator.solve(model, CPU, 8, 3)
    problems = [text.partition("=")[0] for text in texts]
    assert len(set(problems)) == 8
    for row, text in zip(run.predict([{"problem": problem} for problem in problems]), texts, strict=True):
        theirs = text.partition("=")[2].removesuffix("E")
        count = min(len(theirs), len(row["solution"]))
        assert count >= 8 and row["solution"][:count] == theirs[:count]


def test_a_level_is_told_before_texts_where_training_told_one(home: Path):
    told, apart, plain = (Compressor.load(home / name, device="cpu").vocabulary for name in ("told", "apart", "sums"))
    # of 0, 0.3 and 0.6 the second is nearest to 0.4; words that were added come after the alphabet's
    level = [len(ALPHABET) + 1]
    assert (told.before_contexts.tolist(), told.before_texts.tolist()) == ([], level)
    assert (apart.before_contexts.tolist(), apart.before_texts.tolist()) == (level, level)
    assert (plain.before_contexts.tolist(), plain.before_texts.tolist()) == ([], [])


def test_rows_of_a_task(home: Path):
    run = Run(home / "task")
    task = TASKS["binary_addition"]
    inputs = [task.sample(key, length).input for key, length in ((1, 3), (2, 7), (3, 3), (4, 8))]
    found = [row["output"] for row in run.predict([{"input": text} for text in inputs])]
    assert found == [run.predict([{"input": text}])[0]["output"] for text in inputs]
    model: Any = run.model()
    shaping = evaluation_shaping(run.config, 0, ("plain",))
    for text, output in zip(inputs, found, strict=True):
        slots = task.slots(len(text))
        tokens = torch.from_numpy(task.alphabet.encode(text + "?" * slots).astype("int64"))
        batch = shaping([Item(tokens[:0], tokens)], [0], [0], 0)
        with torch.no_grad():
            best = model.logits(model.states(batch, ("plain",))["plain"])[0, len(text) :].argmax(-1)
        whole = task.alphabet.decode(best.numpy())
        assert output == (whole[: whole.index("#") + 1] if "#" in whole else whole)
    for bad, match in (({"input": "01x"}, "row 1: inputs of binary_addition"), ({"problem": "1"}, 'expected {"input"')):
        with pytest.raises(DataError, match=match):
            run.predict([bad])
