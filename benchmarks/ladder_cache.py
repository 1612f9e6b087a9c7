"""A ladder whose layers' states are kept on disk, from the second epoch on, against bottleneck adapters.

Both on the same backbone with as many trained parameters, 64 examples of length 64, float32, without dropout (which
would cost adapters more): seconds of a step (forward and backward), in turn within one process; peak memory of a step,
the pages that are mapped from the cache included, each in a process of its own (Linux).

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/ladder_cache.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import Watch, alternate, growth, in_child, machine, ratios, spread, table
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, BertConfig, BertForSequenceClassification

from quincunx.nn.examples import attach_examples
from quincunx.tuners.adapter import inject
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place as place_bottleneck
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.model import place as place_ladder

EXAMPLES, LENGTH = 64, 64
BATCH = {"bert": 64, "bart": 16}
CONTESTANTS = ("adapters", "ladder", "ladder, kept")


def backbone(name: str) -> nn.Module:
    """Return a model with random weights: BERT of 6 layers 384 wide, or one shaped as BART-base."""
    torch.manual_seed(0)
    if name == "bert":
        sizes: Any = {
            "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip
        return BertForSequenceClassification(BertConfig(**sizes))
    shape: Any = {
        "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12,
        "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "dropout": 0.0,
    }  # fmt: skip
    return BartForConditionalGeneration(BartConfig(**shape))


def trained(model: nn.Module) -> int:
    """Return how many parameters are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def tuned(name: str, contestant: str, folder: Path) -> nn.Module:
    """Return a backbone with a ladder, or with adapters of about as many parameters."""
    model = backbone(name)
    if contestant != "adapters":
        inject(model, place_ladder(model, LadderConfig(cache=str(folder) if "kept" in contestant else None)))
        return model.train()
    with torch.device("meta"):
        parts = place_ladder(model, LadderConfig()).adapters.values()
        wanted = sum(parameter.numel() for part in parts for parameter in part.parameters())
    width, sites = (384, 12) if name == "bert" else (768, 30)
    narrow = round((wanted / sites - width) / (2 * width + 1))
    inject(model, place_bottleneck(model, BottleneckConfig(reduction_factor=width / narrow)))
    return model.train()


def batches(name: str) -> list[tuple[list[int], dict[str, torch.Tensor]]]:
    """Return the batches of an epoch with the ids of their examples."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(5, 30_000, (EXAMPLES, LENGTH), generator=generator)
    labels = tokens.flip(1) if name == "bart" else torch.arange(EXAMPLES) % 2
    size = BATCH[name]
    rows = [list(range(start, start + size)) for start in range(0, EXAMPLES, size)]
    return [(ids, {"input_ids": tokens[ids], "labels": labels[ids]}) for ids in rows]


def epoch(name: str, model: nn.Module, cut: int | None = None) -> Callable[[], None]:
    """Return what computes an epoch forward and backward; of a batch's first `cut` examples where that is given."""
    data, context = batches(name), attach_examples(model)

    def run() -> None:
        for ids, batch in data:
            if context is not None:
                context.set(ids[:cut])
            model.zero_grad()
            model(**{key: tensor[:cut] for key, tensor in batch.items()}).loss.backward()

    return run


def seconds(work: Callable[[], object], steps: int) -> float:
    """Return the wall time of a step."""
    watch = Watch()
    work()
    return watch.read().wall / steps


def compare(name: str, rounds: int, threads: int) -> None:
    """Measure all on one backbone and print the table."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        models = {each: tuned(name, each, folder) for each in CONTESTANTS}
        steps = EXAMPLES // BATCH[name]
        first = seconds(epoch(name, models["ladder, kept"]), steps)
        found = alternate({each: partial(seconds, epoch(name, models[each]), steps) for each in CONTESTANTS}, rounds)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        counts = {each: trained(model) for each, model in models.items()}
        models.clear()
        peaks = {
            each: in_child(__file__, "--memory-of", each, "--backbones", name, "--folder", folder, "--threads", threads)
            for each in CONTESTANTS
        }
    rows: list[list[object]] = []
    for each in CONTESTANTS:
        times = spread([1e3 * value for value in found[each]])
        faster = ratios(found["adapters"], found[each])
        share = peaks[each] / peaks["adapters"]
        rows.append([each, f"{counts[each]:,}", f"{times:.0f}", f"{faster:.2f}", f"{peaks[each]:.0f}", f"{share:.2f}"])
    print(f"\n{name}, batches of {BATCH[name]}; kept: {size:.0f} MiB, first epoch {1e3 * first:.0f} ms a step\n")
    print(table(["", "trained", "ms a step", "adapters / it", "peak MiB", "of adapters'"], rows), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backbones", nargs="+", default=list(BATCH), choices=list(BATCH))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory_of:
        name = chosen.backbones[0]
        model = tuned(name, chosen.memory_of, chosen.folder)
        epoch(name, model, cut=1)()
        print(growth(epoch(name, model), steps=1))
        return
    print(f"{machine(chosen.threads)}; forward and backward, float32, {EXAMPLES} examples of {LENGTH} tokens")
    for name in chosen.backbones:
        compare(name, chosen.rounds, chosen.threads)


if __name__ == "__main__":
    main()
