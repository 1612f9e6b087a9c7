"""When does a memory of earlier batches help a bi-encoder, beside larger batches? At equal examples, on code search.

A small bi-encoder is built from nothing and reads every training pair once (which function does a docstring's first
sentence describe?), with the batch's own negatives alone, with a queue of passages, a dual queue, each also filled by a
key encoder, and with batches four times as large, replayed in chunks. All look in both directions, so that they differ
in their negatives alone. The learning rate of each variant is chosen on the development split by a pilot with a seed of
its own; the table is of the test split, five seeds.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/retrieval_memory.py [--out runs] [--data FOLDER]

Without --data the pairs are mined from Python's standard library, numpy, torch and transformers as they are installed,
as by `quincunx data stdlib-code-search --packages numpy,torch,transformers`. About 2.5 minutes a run on one thread of
its own, 48 runs; runs that are finished are not repeated. Several processes: first `--pilot --part 1/2` and
`--pilot --part 2/2`, then the same without --pilot, then once without --part for the table. `--small` tries it all on
few pairs. From a pretrained encoder five seeds are hours on a CPU, so this says nothing about one.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Values, Wanted, add_options, evaluation, less, needs, over_seeds, require, train_all
from measure import machine, table

from quincunx.index.lexical import Lexical
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.ranking import id_order, score_arrays
from quincunx.recipes.retrieval.data.code_search import generate
from quincunx.recipes.retrieval.data.load import load_collection

NAME = "retrieval-memory"
PACKAGES = ("numpy", "torch", "transformers")
"""What is mined beside the standard library: what the recipe needs anyway."""
MEASURES = {"MRR@10": "recip_rank_cut_10", "nDCG@10": "ndcg_cut_10", "R@10": "recall_10"}
FIRST = MEASURES["MRR@10"]
SEEDS, PILOT_SEED = (1, 2, 3, 4, 5), 101
BATCH, LARGER = 32, 4
RATES = (3e-4, 1e-3, 3e-3)
"""Tried for every variant."""


@dataclass(frozen=True)
class Variant:
    """One way to negatives."""

    label: str
    changes: Sequence[str] = ()
    batch: int = BATCH


BASE = "in-batch"
KEYS = "memory.momentum=0.99"
VARIANTS: dict[str, Variant] = {
    BASE: Variant("in-batch only"),
    "passages": Variant("passage queue", ("memory.use=true", "memory.kind=passages")),
    "dual": Variant("dual queue", ("memory.use=true", "memory.kind=dual")),
    "passages-keys": Variant("passage queue, key encoder", ("memory.use=true", "memory.kind=passages", KEYS)),
    "dual-keys": Variant("dual queue, key encoder", ("memory.use=true", "memory.kind=dual", KEYS)),
    "larger-batch": Variant(f"batch x {LARGER}, replayed chunks", ("chunking.graphs=replay",), LARGER * BATCH),
}


@dataclass(frozen=True)
class Experiment:
    """What is run, on what, and where."""

    data: Path
    folder: Path
    examples: int
    """Training pairs, each read once."""
    size: int
    """Entries of a memory."""

    def config(self) -> Mapping[str, Any]:
        """Return what all runs share."""
        return {
            "recipe": "retrieval",
            "mode": "bi-encoder",
            "data": {"path": str(self.data)},
            "encoder": {
                "build": {"num_layers": 2, "width": 128, "num_heads": 4, "positions": 128},
                "tokenizer": {"kind": "wordpiece", "vocabulary": 8000},
                "pooling": "mean",
            },
            "query": {"max_length": 32},
            "document": {"max_length": 128},
            "objective": {
                "similarity": "cosine",
                "temperature": 0.05,
                "directions": ["query_to_document", "document_to_query"],
            },
            "update": {"clip_norm": 1.0},
            "chunking": {"tokens": 1024},
            "budget": {"epochs": 1},
            "schedule": {"kind": "linear"},
            "evaluate": {"every": None, "measures": list(MEASURES.values())},
            "checkpoint": {"every": 0.25, "keep": 1},
            "log": {"every": 50},
        }

    def run(self, name: str, rate: float, seed: int, *, pilot: bool) -> Wanted:
        """Return a variant's run."""
        variant = VARIANTS[name]
        updates = -(-self.examples // variant.batch)
        changes = [
            *variant.changes,
            f"seed={seed}",
            f"update.batch_size={variant.batch}",
            f"optimizer.learning_rate={rate}",
            f"schedule.warmup={max(1, updates // 10)}",
        ]
        label = name
        if "memory.use=true" in variant.changes:
            changes += [f"memory.size={self.size}", f"memory.warmup={max(1, updates // 5)}"]
            label = f"{name}-{self.size}"
        where = f"{label}-{rate:g}-{seed}"
        return Wanted(self.folder / ("pilot" if pilot else "runs") / where, changes)

    def pilots(self, names: Sequence[str]) -> list[Wanted]:
        """Return the runs by which learning rates are chosen."""
        return [self.run(name, rate, PILOT_SEED, pilot=True) for name in names for rate in RATES]

    def on_dev(self, name: str) -> dict[float, float]:
        """Return what a variant's pilots are worth on the development split, by learning rate."""
        runs = {rate: self.run(name, rate, PILOT_SEED, pilot=True) for rate in RATES}
        return {rate: evaluation(run, "dev").scalars[FIRST] for rate, run in runs.items()}

    def chosen(self, name: str, seeds: Sequence[int]) -> list[Wanted]:
        """Return a variant's runs at its best learning rate, once the pilots are there."""
        worth = self.on_dev(name)
        best = max(worth, key=lambda rate: worth[rate])
        return [self.run(name, best, seed, pilot=False) for seed in seeds]


def lexical(data: Path) -> tuple[dict[str, Values], int]:
    """Return BM25's values on the test split by measure, and the number of documents."""
    test = load_collection(str(data), split="test")
    asked = np.flatnonzero(test.relevant.counts > 0)
    index = Lexical(test.documents.text(number) or "" for number in range(len(test.documents)))
    found = index.search([test.queries.text(int(query)) or "" for query in asked], 10)
    names = [test.queries.ids[query] for query in asked.tolist()]
    judged, order = test.relevant.pick(asked), id_order(test.documents.ids)
    scores = score_arrays(found.documents, found.scores, judged, list(MEASURES.values()), order=order, names=names)
    values = {name: dict(zip(scores.names, scores.of(name).tolist(), strict=True)) for name in MEASURES.values()}
    return values, len(test.documents)


def report(experiment: Experiment, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the tables of all variants, and of the pilot."""
    runs = {name: experiment.chosen(name, seeds) for name in names}
    found = {name: [evaluation(run, "test").values for run in each] for name, each in runs.items()}
    rows: list[list[object]] = []
    for name in names:
        means = [[float(np.mean([*values[m].values()])) for values in found[name]] for m in MEASURES.values()]
        first = [values[FIRST] for values in found[name]]
        gap, p = less(first, [values[FIRST] for values in found[BASE]]) if name != BASE else ("", "")
        pairs = [] if name == BASE else [a - b for a, b in zip(means[0], _means(found[BASE]), strict=True)]
        minutes = f"{float(np.median([run.minutes for run in runs[name]])):.1f}"
        rate = runs[name][0].path.name.removesuffix(f"-{seeds[0]}").rpartition("-")[2]
        paired_seeds = over_seeds(pairs) if pairs else ""
        rows.append([VARIANTS[name].label, rate, *map(over_seeds, means), gap, p, paired_seeds, minutes])
    words, documents = lexical(experiment.data)
    measured = [bootstrap_mean(list(words[measure].values())) for measure in MEASURES.values()]
    gap, p = less([words[FIRST]], [values[FIRST] for values in found[BASE]])
    baseline = [f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in measured]
    rows.append(["BM25 (interval over queries)", "", *baseline, gap, p, "", ""])
    less_base = "MRR@10 less in-batch, over queries"
    head = ["negatives", "rate", *MEASURES, less_base, "p", "the same, over seeds", "minutes"]
    pilot = [[VARIANTS[name].label, *(f"{worth:.3f}" for worth in experiment.on_dev(name).values())] for name in names]
    return (
        f"{experiment.examples:,} training pairs, each once; {len(words[FIRST]):,} test queries over {documents:,} "
        f"functions; batch {BATCH}, memories of {experiment.size}; {len(seeds)} seeds\n\n{table(head, rows)}\n\n"
        f"Pilot, MRR@10 on the development split by learning rate, seed {PILOT_SEED}:\n\n"
        f"{table(['negatives', *(f'{rate:g}' for rate in RATES)], pilot)}"
    )


def _means(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> list[float]:
    return [float(np.mean([*values[FIRST].values()])) for values in runs]


def main() -> None:
    """Train what is not trained yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME)
    parser.add_argument("--data", type=Path, help="BEIR folder with splits train, dev and test; default: mined here")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--memory-size", type=int, default=512, help="entries of each queue; default: 512")
    parser.add_argument("--small", action="store_true", help="few pairs, to see that it works")
    chosen = parser.parse_args()
    needs(transformers="quincunx[transformers]", bm25s="bm25s")
    folder = chosen.out / (f"{NAME}-small" if chosen.small else NAME)
    data = chosen.data
    if data is None:
        data = folder / "data"
        packages, limit = ((), 600) if chosen.small else (PACKAGES, None)
        generate(data, packages=packages, limit=limit)
    examples = int((load_collection(str(data), split="train").positives.counts > 0).sum())
    experiment = Experiment(data, folder, examples, chosen.memory_size)
    names = list(dict.fromkeys([BASE, *chosen.variants]))
    pilots, seeds = experiment.pilots(names), chosen.seeds or SEEDS
    if chosen.pilot or chosen.part is None:
        train_all(experiment.config(), pilots, chosen.part)
    if chosen.pilot:
        return
    require(pilots, "call this with --pilot first")
    # seed by seed, so that what slows the machine down meets all variants
    wanted = [experiment.chosen(name, [seed])[0] for seed in seeds for name in names]
    train_all(experiment.config(), wanted, chosen.part)
    if chosen.part is None:
        print(f"\n{machine(torch.get_num_threads())}\n\n{report(experiment, names, seeds)}")


if __name__ == "__main__":
    main()
