"""Poly-, bi- and cross-encoder on replies of the Ubuntu channel: R@1/20, at equal examples, three seeds.

A conversation asks for its next utterance among 20: the true one and 19 others of the same split, drawn once, the same
for everybody. Encoders and tokenizer are built from nothing, since pretrained ones take hours on a CPU, so the figures
say how the three forms compare when they learn from 7,000 conversations, not how good they can be. Every form reads the
same number of conversations; learning rate, and temperature where there is one, are chosen by a pilot, with a seed of
its own, on days of the training file that are kept for it. Test conversations are of other days again.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/retrieval_modes.py [--out runs] [--data FOLDER]

FOLDER holds `train.jsonl` and `dev.jsonl` (which is the test split here): a line {"id": "<day>#<line>", "context":
[{"speaker", "text"}, ...], "response": {"speaker", "text"}}, made of the reply links of Kummerfeld et al. 2019 (CC BY
4.0); unset, ubuntu_irc below QUINCUNX_DATA. Two of three replies name somebody whom they answer, which finds them among
20 without any meaning, so names of speakers are taken out; `--names` leaves them in. Runs that are finished are not
repeated: 15 of the pilot and 9 of the table, about 2 minutes each on one thread of its own, 5 for the cross-encoder,
which has 4 pairs of a conversation to encode. Several processes: first `--pilot --part 1/2` and `--pilot --part 2/2`,
then the same without --pilot, then once without --part for the table. `--small` tries it all on few conversations.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Values, Wanted, add_options, less, needs, of_part, over_seeds, require, train_all
from measure import machine, table
from numpy.typing import NDArray

from quincunx import Run
from quincunx.index.lexical import Lexical
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.runs import read_json, to_json, write_atomically

NAME = "retrieval-modes"
SEEDS, PILOT_SEED, DRAW_SEED = (1, 2, 3), 101, 7
CANDIDATES = 20
EPOCHS, BATCH = 2, 32
WORDS = {"context": 60, "reply": 30}
"""Words kept of each: the latest of a context, the first of a reply."""
DEV_DAYS = 10
"""Every tenth day of the training file is kept for the pilot."""
RATES = (3e-4, 1e-3, 3e-3)
BASE = "bi-encoder"
MODES: dict[str, tuple[Sequence[str], Mapping[str, Sequence[str]]]] = {
    BASE: (
        (),
        {
            "cosine 0.05": ("objective.similarity=cosine", "objective.temperature=0.05"),
            "dot 8": ("objective.similarity=dot", "objective.temperature=8.0"),
        },
    ),
    "poly-encoder": (
        ("poly.kind=codes", "poly.codes=16"),
        {"dot 1": ("objective.temperature=1.0",), "dot 8": ("objective.temperature=8.0",)},
    ),
    "cross-encoder": (("cross.loss=listwise", "cross.random_negatives=3", "cross.max_length=160"), {"": ()}),
}
"""Mode -> what it sets, and what the pilot chooses from besides the learning rate. The width of states is 128, the root
of it 11: between vectors that begin so long, dot products are tens."""


@dataclass(frozen=True)
class Conversation:
    """A context and what was said next."""

    name: str
    context: str
    """Latest utterance first, so that what is cut off is the oldest."""
    reply: str

    @property
    def day(self) -> str:
        return self.name.partition("#")[0]


@dataclass(frozen=True)
class Trial:
    """A conversation and its candidates, the true one first."""

    name: str
    context: str
    candidates: Sequence[int]
    """Numbers of conversations of the split, whose replies they are."""


def read(path: Path, speakers: frozenset[str], limit: int | None) -> list[Conversation]:
    """Return the conversations of a file whose reply still says something."""
    found: list[Conversation] = []
    for line in path.read_text("utf-8").splitlines()[:limit]:
        row = json.loads(line)
        here = frozenset(turn["speaker"].casefold() for turn in [*row["context"], row["response"]]) if speakers else ()
        turns = [nameless(turn["text"], speakers, here) for turn in reversed(row["context"])]
        context = " | ".join(filter(None, turns)).split()
        reply = nameless(row["response"]["text"], speakers, here).split()
        if context and reply:
            kept = " ".join(context[: WORDS["context"]]), " ".join(reply[: WORDS["reply"]])
            found.append(Conversation(row["id"], *kept))
    return found


def speakers_of(paths: Sequence[Path]) -> frozenset[str]:
    """Return the names of everybody who speaks in some files."""
    rows = (json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines())
    turns = (turn for row in rows for turn in [*row["context"], row["response"]])
    return frozenset(turn["speaker"].casefold() for turn in turns)


ADDRESS = re.compile(r"\s*@?(\S+?)\s*[:,;>]+\s+")
EDGES = " \t.,:;!?()<>@\"'"


def nameless(text: str, speakers: frozenset[str], here: Sequence[str] | frozenset[str]) -> str:
    """Return an utterance without the names that it is addressed to, and without those of the conversation."""
    while (found := ADDRESS.match(text)) and found[1].casefold() in speakers:
        text = text[found.end() :]
    return " ".join(word for word in text.split() if word.strip(EDGES).casefold() not in here)


def trials(split: Sequence[Conversation], seed: int) -> list[Trial]:
    """Return for each conversation 20 candidates of unlike texts, drawn once for all."""
    generator = np.random.Generator(np.random.Philox(seed))
    made: list[Trial] = []
    for number, one in enumerate(split):
        seen, candidates = {one.reply.casefold()}, [number]
        for other in generator.permutation(len(split)).tolist():
            text = split[other].reply.casefold()
            if text not in seen and len(candidates) < CANDIDATES:
                seen.add(text)
                candidates.append(other)
        made.append(Trial(one.name, one.context, candidates))
    return made


def first_of(scores: NDArray[np.floating]) -> float:
    """Return whether the true one, at place 0, is alone at the top; a share where others are as high."""
    top = scores == scores.max()
    return float(top[0]) / int(top.sum())


@dataclass(frozen=True)
class Experiment:
    """What is run, on what, and where."""

    folder: Path
    splits: Mapping[str, list[Conversation]]
    epochs: int

    @property
    def pairs(self) -> Path:
        """The training pairs as a file."""
        return self.folder / "train.jsonl"

    def prepare(self) -> None:
        """Write the training pairs."""
        rows = [{"query": one.context, "document": one.reply} for one in self.splits["train"]]
        data = b"".join(to_json(row) + b"\n" for row in rows)
        if not self.pairs.is_file() or self.pairs.read_bytes() != data:
            write_atomically(self.pairs, data)

    def config(self) -> Mapping[str, Any]:
        """Return what all runs share."""
        return {
            "recipe": "retrieval",
            "data": {"train": {"path": str(self.pairs), "format": "pairs"}, "dev_share": 0.0},
            "encoder": {
                "build": {"num_layers": 2, "width": 128, "num_heads": 4, "positions": 160},
                "tokenizer": {"kind": "wordpiece", "vocabulary": 8000},
            },
            "update": {"batch_size": BATCH, "clip_norm": 1.0},
            "chunking": {"tokens": 2048},
            "budget": {"epochs": self.epochs},
            "schedule": {"kind": "linear", "warmup": max(1, self.epochs * len(self.splits["train"]) // BATCH // 10)},
            "evaluate": {"every": None},
            "checkpoint": {"every": 0.25, "keep": 1},
            "log": {"every": 50},
        }

    def run(self, mode: str, choice: str, rate: float, seed: int, *, pilot: bool) -> Wanted:
        """Return a run of a mode with one of the pilot's choices."""
        fixed, choices = MODES[mode]
        changes = [f"mode={mode}", *fixed, *choices[choice], f"seed={seed}", f"optimizer.learning_rate={rate}"]
        label = "-".join([mode, *choice.split(), f"{rate:g}", str(seed)])
        return Wanted(self.folder / ("pilot" if pilot else "runs") / label, changes)

    def pilots(self, mode: str) -> dict[tuple[str, float], Wanted]:
        """Return the runs by which a mode's settings are chosen."""
        keys = [(choice, rate) for choice in MODES[mode][1] for rate in RATES]
        return {key: self.run(mode, *key, PILOT_SEED, pilot=True) for key in keys}

    def on_dev(self, mode: str) -> dict[tuple[str, float], float]:
        """Return R@1 of a mode's pilots on the days kept for it."""
        return {key: float(np.mean([*self.values(run, "dev").values()])) for key, run in self.pilots(mode).items()}

    def chosen(self, mode: str, seed: int) -> Wanted:
        """Return a mode's run at its best settings, once the pilots are there."""
        worth = self.on_dev(mode)
        return self.run(mode, *max(worth, key=lambda key: worth[key]), seed, pilot=False)

    def values(self, run: Wanted, split: str) -> Values:
        """Return R@1/20 of every conversation by a finished run's last weights; computed once."""
        kept = run.path / f"r-at-1-{split}.json"
        if not kept.is_file():
            whole = self.splits[split]
            tried = trials(whole, DRAW_SEED)
            rows = [{"query": one.context, "documents": [whole[n].reply for n in one.candidates]} for one in tried]
            answers = Run(run.path).predict(rows, which="last")
            found = [first_of(np.array(answer["scores"])) for answer in answers]
            by_name = {one.name: value for one, value in zip(tried, found, strict=True)}
            write_atomically(kept, to_json(by_name))
        return read_json(kept)

    def lexical(self) -> Values:
        """Return the same of BM25, whose weights of words come from all replies of the test split."""
        whole = self.splits["test"]
        index = Lexical([one.reply for one in whole])
        values: Values = {}
        for one in trials(whole, DRAW_SEED):
            found = index.search([one.context], len(whole))
            scores = np.zeros(len(whole))
            there = found.documents[0] >= 0
            scores[found.documents[0][there]] = found.scores[0][there]
            values[one.name] = first_of(scores[list(one.candidates)])
        return values


def report(experiment: Experiment, modes: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the tables."""
    runs = {mode: [experiment.chosen(mode, seed) for seed in seeds] for mode in modes}
    found = {mode: [experiment.values(run, "test") for run in each] for mode, each in runs.items()}
    rows: list[list[object]] = []
    for mode in modes:
        means = [float(np.mean([*values.values()])) for values in found[mode]]
        gap, p = less(found[mode], found[BASE]) if mode != BASE else ("", "")
        minutes = f"{float(np.median([run.minutes for run in runs[mode]])):.1f}"
        worth = experiment.on_dev(mode)
        choice, rate = max(worth, key=lambda key: worth[key])
        settings = ", ".join(filter(None, [choice, f"rate {rate:g}"]))
        each = ", ".join(f"{mean:.3f}" for mean in means)
        rows.append([mode, settings, each, over_seeds(means), gap, p, minutes])
    words = experiment.lexical()
    measured = bootstrap_mean([*words.values()])
    said = f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}] over contexts"
    rows.append(["BM25", "", "", said, *less([words], found[BASE]), ""])
    rows.append(["chance", "", "", f"{1 / CANDIDATES:.3f}", "", "", ""])
    head = ["mode", "chosen", "each seed", "R@1/20", "less bi-encoder, over contexts", "p", "minutes"]
    pilot = [
        [mode, choice, *(f"{worth[choice, rate]:.3f}" for rate in RATES)]
        for mode in modes
        for worth in [experiment.on_dev(mode)]
        for choice in MODES[mode][1]
    ]
    sizes = ", ".join(f"{split} {len(each):,}" for split, each in experiment.splits.items())
    return (
        f"{sizes} conversations; {experiment.epochs} epochs of batches of {BATCH}; {len(seeds)} seeds\n\n"
        f"{table(head, rows)}\n\nPilot, R@1/20 on the days kept for it, by learning rate, seed {PILOT_SEED}:\n\n"
        f"{table(['mode', 'choice', *(f'{rate:g}' for rate in RATES)], pilot)}"
    )


def splits_of(data: Path, names: bool, limit: int | None) -> dict[str, list[Conversation]]:
    """Return the conversations of training, pilot and test, no two of them of one day; SystemExit without the files."""
    files = [data / "train.jsonl", data / "dev.jsonl"]
    if missing := [str(path) for path in files if not path.is_file()]:
        raise SystemExit(f"no {' and no '.join(missing)}: give the folder with --data, or its parent in QUINCUNX_DATA")
    speakers = frozenset() if names else speakers_of(files)
    whole, test = (read(path, speakers, limit) for path in files)
    days = sorted({one.day for one in whole})
    kept = set(days[:: DEV_DAYS if limit is None else 4])
    dates = {one.day[:10] for one in test}
    train = [one for one in whole if one.day not in kept and one.day[:10] not in dates]
    return {"train": train, "dev": [one for one in whole if one.day in kept], "test": test}


def main() -> None:
    """Train what is not trained yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME)
    parser.add_argument("--data", type=Path, help="folder of train.jsonl and dev.jsonl")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--names", action="store_true", help="leave the names of speakers in")
    parser.add_argument("--small", action="store_true", help="few conversations, to see that it works")
    chosen = parser.parse_args()
    needs(transformers="quincunx[transformers]", bm25s="bm25s")
    data = chosen.data or Path(os.environ.get("QUINCUNX_DATA", ".")) / "ubuntu_irc"
    splits = splits_of(data, chosen.names, 200 if chosen.small else None)
    label = NAME + "-names" * chosen.names + "-small" * chosen.small
    experiment = Experiment(chosen.out / label, splits, 1 if chosen.small else EPOCHS)
    experiment.prepare()
    modes = list(dict.fromkeys([BASE, *chosen.modes]))
    seeds = chosen.seeds or SEEDS
    pilots = [run for mode in modes for run in experiment.pilots(mode).values()]
    if chosen.pilot or chosen.part is None:
        train_all(experiment.config(), pilots, chosen.part)
        for run in of_part(pilots, chosen.part):
            experiment.values(run, "dev")
    if chosen.pilot:
        return
    require(pilots, "call this with --pilot first")
    wanted = [experiment.chosen(mode, seed) for seed in seeds for mode in modes]
    train_all(experiment.config(), wanted, chosen.part)
    for run in of_part(wanted, chosen.part):
        experiment.values(run, "test")
    if chosen.part is None:
        print(f"\n{machine(torch.get_num_threads())}\n\n{report(experiment, modes, seeds)}")


if __name__ == "__main__":
    main()
