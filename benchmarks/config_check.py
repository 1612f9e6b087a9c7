"""How long it takes to read and check a config: a file of 300 keys with 20 problems, the starter, and bare `--help`.

The file has the form of a guide's: five tasks, each a whole config, of which one is asked for; it is written as YAML,
as JSON with comments and as a Python literal. Every problem must be reported at its line, and nothing else.

    python benchmarks/config_check.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measure import Seconds, Watch, machine, spread, table

from quincunx.config.document import ConfigError
from quincunx.config.load import load
from quincunx.recipes import schema_of, schemas

TASKS = ("listops", "text", "retrieval", "image", "pathfinder")
READ_BAR, HELP_BAR, CHECK_BAR = 0.3, 0.3, 0.5
"""Seconds of CPU: reading and checking the large file, in a process that runs already; `--help`; `check` (starter)."""


@dataclass(frozen=True)
class Raw:
    """A value that only its form can write."""

    yaml: str
    json: str
    python: str

    def text(self, form: str) -> str:
        return {"yaml": self.yaml, "json": self.json, "python": self.python}[form]


@dataclass(frozen=True)
class Key:
    """A line of the file: a key with its value, or with keys below it."""

    name: str
    value: Any
    problem: str = ""
    """What is wrong with it; empty: nothing."""


KINDS = ("softmax", "hrr-individual", "hrr-bundled", "hrr-quadratic", "tpr")
COMPUTED = Raw('"${model.width}"', "0x20", "2 ** 5")
"""Not to be had: a reference to a key that is not there, a number that is no JSON, an expression."""
MAPPING = Raw("{first: 1}", '{"first": 1}', '{"first": 1}')


def good_block() -> list[Key]:
    """Return one task's settings, all of them right, under the guide's names and ours."""
    return [
        Key("dataset", [Key("train", 96000), Key("dev", 2000), Key("test", 2000)]),
        Key(
            "data",
            [
                Key("min_length", 500),
                Key("max_length", 2000),
                Key("max_depth", 10),
                Key("max_arguments", 10),
                Key("seed", 0),
            ],
        ),
        Key(
            "model",
            [
                Key("learn_pos_emb", True),
                Key("tied_weights", False),
                Key("embedding_dim", 512),
                Key("transformer_hidden_dim", 1024),
                Key("head_dim", 64),
                Key("num_head", 8),
                Key("num_layers", 1),
                Key("vocab_size", 32),
                Key("max_seq_len", 2000),
                Key("dropout_prob", 0.1),
                Key("attention_dropout", 0.1),
                Key("pooling_mode", "MEAN"),
                Key("num_classes", 10),
            ],
        ),
        Key(
            "training",
            [
                Key("mixed_precision", False),
                Key("batch_size", 32),
                Key("lr_scheduler", "exp_decay"),
                Key("learning_rate", 0.001),
                Key("learning_rate_decay", 0.9),
                Key("weight_decay", 0),
                Key("num_epochs", 20),
                Key("num_eval_steps", 1000),
            ],
        ),
        Key("gpu_memory", [Key(kind, 32) for kind in KINDS]),
        Key("extra_attn_config", [Key(kind, [Key("attention_grad_checkpointing", False)]) for kind in KINDS]),
        Key("attention", [Key("kind", "softmax")]),
        Key("update", [Key("accumulation", 1), Key("clip_norm", 1.0), Key("no_decay", True)]),
        Key("loading", [Key("bucketing", True), Key("window", 50), Key("workers", 0)]),
        Key("evaluate", [Key("every", "epoch"), Key("at_start", False), Key("batch_size", 32), Key("patience", 5)]),
        Key("checkpoint", [Key("every", 0.5), Key("keep", 2), Key("best", True)]),
        Key("log", [Key("every", 50), Key("trackers", ["jsonl", "tensorboard"])]),
        Key("compute", [Key("device", "auto"), Key("compile", False), Key("threads", 2), Key("deterministic", False)]),
        Key("run", [Key("name", "benchmark"), Key("note", "five tasks in one file")]),
    ]


PROBLEMS: tuple[tuple[tuple[str, ...], Key], ...] = (
    (("dataset", "train"), Key("train", True, "true for an int")),
    (("dataset", "dev"), Key("dev", 2000.0, "a float for an int")),
    (("dataset", "test"), Key("test", "2000", "a text for an int")),
    (("data", "max_depth"), Key("max_depth", -3, "below its range")),
    (("model", "embedding_dim"), Key("embeding_dim", 512, "a misspelt key")),
    (("model", "head_dim"), Key("head_dim", None, "null where there must be a value")),
    (("model", "num_layers"), Key("num_layers", MAPPING, "a mapping for a value")),
    (("model", "vocab_size"), Key("vocab_size", COMPUTED, "something to be computed")),
    (("model", "dropout_prob"), Key("dropout_prob", 1.5, "above its range")),
    (("model", "pooling_mode"), Key("pooling_mode", "MAEN", "an unknown word")),
    (("model", "num_classes"), Key("num_classes", 9, "against a rule between keys")),
    (("training", "num_eval_steps"), Key("warmup_steps", 1000, "without effect under exp_decay")),
    (("training", "weight_decay"), Key("lora_dim", 8, "a key that no recipe knows")),
    (("gpu_memory", "tpr"), Key("trp", 32, "a misspelt row")),
    (("extra_attn_config", "tpr"), Key("tpr", 3, "a value for a section")),
    (("update", "no_decay"), Key("batch_size", 64, "one setting under two names")),
    (("loading", "workers"), Key("num_layers", 2, "a key in the wrong section")),
    (("checkpoint", "best"), Key("keep", 3, "the same key twice")),
    (("log", "trackers"), Key("trackers", ["jsonl", "tensorbord"], "an unknown word in a list")),
    (("compute", "device"), Key("device", "gpu", "a text of the wrong form")),
)


def bad_block() -> list[Key]:
    """Return a task's settings with the 20 problems in them."""
    block = good_block()
    for (section, name), bad in PROBLEMS:
        at = next(number for number, key in enumerate(block) if key.name == section)
        inside = [bad if key.name == name else key for key in block[at].value]
        block[at] = replace(block[at], value=inside)
    return block


def write(blocks: Sequence[Key], form: str) -> tuple[str, dict[int, str]]:
    """Return a file of this form and, by line, the problems in it."""
    lines: list[str] = []
    problems: dict[int, str] = {}
    comment = {"yaml": "#", "json": "//", "python": "###"}[form]

    def add(keys: Sequence[Key], depth: int) -> None:
        for key in keys:
            below = isinstance(key.value, list) and key.value and isinstance(key.value[0], Key)
            name = key.name if form == "yaml" else json.dumps(key.name)
            value = "" if below else scalar(key.value, form)
            opening, closing, end = ("", "", "") if form == "yaml" else ("{", "}", ",")
            lines.append(f"{'  ' * depth}{name}: {opening if below else value + end}  {comment} {key.name}")
            if key.problem:
                problems[len(lines)] = key.problem
            if below:
                add(key.value, depth + 1)
                if closing:
                    lines.append(f"{'  ' * depth}{closing},")

    if form != "yaml":
        lines.append("config = {" if form == "python" else "{")
    add(blocks, 0 if form == "yaml" else 1)
    if form != "yaml":
        lines.append("}")
    return "\n".join(lines) + "\n", problems


def scalar(value: Any, form: str) -> str:
    if isinstance(value, Raw):
        return value.text(form)
    return repr(value) if form == "python" else json.dumps(value)


def count(keys: Sequence[Key]) -> int:
    """Return the number of settings: keys that have no keys below them."""
    return sum(count(key.value) if isinstance(key.value, list) and isinstance(key.value[0], Key) else 1 for key in keys)


def read_and_check(path: Path) -> ConfigError | None:
    try:
        load(path, ["task=listops"], schemas=schemas())
    except ConfigError as error:
        return error
    return None


def judge(error: ConfigError | None, expected: dict[int, str]) -> str:
    """Return how many of the problems were found; SystemExit when one is missing, or one too many is there."""
    found = [problem.mark.line if problem.mark else 0 for problem in error.problems] if error else []
    missing = {line: text for line, text in expected.items() if line not in found}
    unexpected = [
        str(problem.mark) + ": " + problem.message
        for problem in (error.problems if error else ())
        if not problem.mark or problem.mark.line not in expected
    ]
    if missing or unexpected or len(found) != len(expected):
        raise SystemExit(f"problems not reported: {missing}; not expected: {unexpected}; {len(found)} in all")
    return f"{len(found)} of {len(expected)}"


def inside(path: Path, rounds: int) -> list[Seconds]:
    """Return what reading and checking takes in this process, the first time left out."""
    read_and_check(path)
    took: list[Seconds] = []
    for _ in range(rounds):
        watch = Watch()
        read_and_check(path)
        took.append(watch.read())
    return took


def whole(arguments: Sequence[str], rounds: int) -> tuple[list[Seconds], int]:
    """Return what a process of the command line takes from start to end, and its exit code."""
    took: list[Seconds] = []
    code = 0
    for _ in range(rounds + 1):
        before, watch = resource.getrusage(resource.RUSAGE_CHILDREN), Watch()
        code = subprocess.run(
            [sys.executable, "-m", "quincunx", *arguments], capture_output=True, check=False
        ).returncode
        wall, after = watch.read().wall, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        took.append(Seconds(wall, cpu))
    return took[1:], code


def row(name: str, took: Sequence[Seconds], bar: float | None, note: str = "") -> list[object]:
    cpu = spread([each.cpu for each in took])
    verdict = "" if bar is None else f"{bar:g} s: {'met' if cpu.median <= bar else 'MISSED'}"
    return [name, f"{cpu:.3f}", f"{spread([each.wall for each in took]):.3f}", verdict, note]


def rows(folder: Path, rounds: int) -> Iterator[list[object]]:
    took, _ = whole(["--help"], rounds)
    yield row("process: `quincunx --help`", took, HELP_BAR)
    starter = folder / "starter.yaml"
    starter.write_text(schema_of("long_range").starter)
    took, code = whole(["check", str(starter)], rounds)
    yield row("process: `quincunx check` of the starter", took, CHECK_BAR, f"exit code {code}")
    blocks = [Key(task, bad_block() if task == "listops" else good_block()) for task in TASKS]
    for form, ending in (("yaml", "yaml"), ("json", "json"), ("python", "py")):
        text, expected = write(blocks, form)
        path = folder / f"tasks.{ending}"
        path.write_text(text)
        reported = judge(read_and_check(path), expected)
        note = f"{count(blocks)} keys, {len(text.splitlines())} lines; {reported} problems"
        yield row(f"read + check, {form}", inside(path, rounds), READ_BAR, note)
        took, code = whole(["check", str(path), "task=listops"], rounds)
        yield row(f"process: `quincunx check`, {form}", took, None, f"exit code {code}")
    unknown = [Key(f"setting_{number}", number, "unknown") for number in range(300)]
    text, expected = write([Key("recipe", "long_range"), Key("update", unknown)], "yaml")
    path = folder / "unknown.yaml"
    path.write_text(text)
    reported = judge(read_and_check(path), expected)
    yield row("read + check, 300 unknown keys, yaml", inside(path, rounds), None, f"{reported} problems")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="config-check-") as folder:
        found = list(rows(Path(folder), chosen.rounds))
    print(f"{machine()}; seconds, median [quartiles] of {chosen.rounds}\n")
    print(table(["", "CPU s", "wall s", "bar, CPU", ""], found))


if __name__ == "__main__":
    main()
