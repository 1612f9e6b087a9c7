"""Code search in Python's standard library from scratch: a bi-encoder, BM25 and both fused, three seeds.

Trains `examples/retrieval/stdlib_code_search.yaml`, which is what `make run` trains, once per seed on the same data.
BM25 and the fusions (of the first 1,000 documents each, both with weight 1) are of the same test queries; the corpus
holds every module's functions, the encoder saw those of the training modules.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/code_search.py [--out runs] [--data FOLDER]

FOLDER is what `quincunx data stdlib-code-search --out FOLDER` mined; unset, it is mined below --out. Figures depend on
the interpreter whose library it is. Runs that are finished are not repeated.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import torch
from experiments import Wanted, add_options, evaluation, over_seeds, require, train_all
from measure import machine, table

from quincunx.recipes.retrieval.data.code_search import generate

CONFIG = Path("examples/retrieval/stdlib_code_search.yaml")
SEEDS = (1, 2, 3)
RANKINGS = {"bi-encoder": "", "BM25": "bm25_", "fused, reciprocal ranks": "rrf_", "fused, scores min-max": "weighted_"}
"""Name -> how its measures begin in an evaluation."""
MEASURES = ("ndcg_cut_10", "recip_rank_cut_10", "recall_100")


def main() -> None:
    """Mine the data, train what is not trained yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "code-search", pilot=False)
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    folder = chosen.out / "code-search"
    data = chosen.data or folder / "data"
    made = generate(data)
    places = (f"data.path={data}", f'data.mix=[{{"path": "{data / "names.jsonl"}"}}]')
    runs = [Wanted(folder / f"seed-{seed}", (f"seed={seed}", *places)) for seed in chosen.seeds or SEEDS]
    train_all(CONFIG, runs, chosen.part)
    if chosen.part is not None:
        return
    require(runs, "python benchmarks/code_search.py")
    found = [evaluation(run, "test").scalars for run in runs]
    rows = [
        [name, *(over_seeds([each[start + measure] for each in found]) for measure in MEASURES)]
        for name, start in RANKINGS.items()
    ]
    print(
        f"\n{machine(torch.get_num_threads())}; Python {platform.python_version()}: {made.counts['train']:,} pairs and "
        f"{made.named:,} of names train, {made.counts['test']:,} test queries, {made.pairs:,} documents; "
        f"{sum(run.minutes for run in runs) / len(runs):.1f} minutes a run\n"
    )
    print(table(["ranking", *MEASURES], rows))


if __name__ == "__main__":
    main()
