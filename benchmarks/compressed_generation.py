"""Generation from a compressed context of 2,048 tokens beside the whole one: bytes kept, seconds to read, and a token.

The same weights, untrained, as time and memory do not depend on them; all generate in turn within one process. A loop
of one's own over the plain Hugging Face model, with its cache, shows what our generation costs besides.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/compressed_generation.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from measure import Watch, alternate, machine, ratios, spread, table
from torch import Tensor

from quincunx.nn.pretrained.causal import build_causal
from quincunx.recipes.compression.answers.generate import generate
from quincunx.recipes.compression.config_model import Compress
from quincunx.recipes.compression.data.tokenizer import train_tokenizer
from quincunx.recipes.compression.model.compressed import Compressed
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.shaping import Item, Shaping

CONTEXT, TOKENS = 2048, 32
"""Tokens that are read, and that are generated."""
RATIOS = (4, 8, 16, 32)
BASE, OURS = "whole context, plain Hugging Face", "whole context"
SIZES = {"4 layers of 256": (4, 256, 2048), "6 layers of 512": (6, 512, 8192)}
"""Layers, width, words."""
BATCHES = {"4 layers of 256": (1, 8), "6 layers of 512": (1,)}


@dataclass(frozen=True)
class Way:
    """How a context is kept and gone on from."""

    read: Callable[[], Any]
    """Reads the context and returns what is kept of it."""
    write: Callable[[Any, int], Tensor]
    """Goes on from that by so many tokens."""
    kept: Callable[[Any], int]
    """Bytes of what is kept."""


def backbone(layers: int, width: int, words: int) -> Any:
    """Return the language model, the same at every call."""
    settings = {
        "architecture": "llama",
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "vocab_size": words,
        "max_position_embeddings": 2 * CONTEXT,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_causal(settings, train_tokenizer([""], "byte", 258)).eval()


def plain(model: Any, ids: Tensor) -> Way:
    """Return the library's model with its cache, in a loop of one's own."""

    def read() -> Any:
        return model(input_ids=ids[:, :-1], use_cache=True, logits_to_keep=1).past_key_values

    def write(cache: Any, count: int) -> Tensor:  # the cache grows by them, which is no matter here
        word, found = ids[:, -1:], list[Tensor]()
        for _ in range(count):
            answer = model(input_ids=word, past_key_values=cache, use_cache=True)
            word = answer.logits[:, -1:].argmax(-1)
            found.append(word)
        return torch.cat(found, 1)

    def kept(cache: Any) -> int:
        return sum(each.numel() * each.element_size() for layer in cache.layers for each in (layer.keys, layer.values))

    return Way(read, write, kept)


def ours(model: Compressor, ids: Tensor, slots: int | None) -> Way:
    """Return the compressor with so many slots, or with the whole context."""
    places = range(len(ids))
    items = [Item(row, row[:0]) for row in ids]
    batch = Shaping(("forward",), slots=(slots or 1,))(items, places, places, seed=0)
    branch = "full" if slots is None else "forward"

    def write(kept: Compressed, count: int) -> Tensor:
        return generate(model, kept, most=count, branch=branch).tokens

    reading = partial(model.read if slots is None else model.compress, batch)
    return Way(reading, write, lambda kept: kept.bytes)


def ways(size: tuple[int, int, int], batch: int) -> Mapping[str, Way]:
    """Return all that are compared, by the names they are shown under."""
    ids = torch.randint(2, size[2], (batch, CONTEXT), generator=torch.Generator().manual_seed(1))
    compressor = Compressor(backbone(*size), Compress(), slots=CONTEXT // RATIOS[0]).eval()
    tokens = Compressor(backbone(*size), Compress(readout="tokens"), slots=CONTEXT // RATIOS[0]).eval()
    found = {BASE: plain(backbone(*size), ids), OURS: ours(compressor, ids, None)}
    found |= {f"keys and values, {ratio} to one": ours(compressor, ids, CONTEXT // ratio) for ratio in RATIOS}
    name = f"token states, {RATIOS[0]} to one"
    return found | {name: ours(tokens, ids, CONTEXT // RATIOS[0])}


def read_and_write(way: Way) -> tuple[float, float]:
    """Return the seconds until the first token is there, and those of each token after it."""
    watch = Watch()
    kept = way.read()
    way.write(kept, 1)
    first = watch.read().wall
    watch = Watch()
    way.write(kept, 1)
    one = watch.read().wall
    watch = Watch()
    way.write(kept, 1 + TOKENS)
    return first, (watch.read().wall - one) / TOKENS


def compare(name: str, batch: int, rounds: int) -> None:
    """Print the table of one model and batch."""
    found = ways(SIZES[name], batch)
    sizes = {who: way.kept(way.read()) for who, way in found.items()}
    took = alternate({who: partial(read_and_write, way) for who, way in found.items()}, rounds)
    reads = {who: [read for read, _ in each] for who, each in took.items()}
    writes = {who: [written for _, written in each] for who, each in took.items()}
    rows: list[list[str]] = []
    for who in found:
        rows.append(
            [
                who,
                f"{sizes[who] / batch:,.0f}",
                f"{sizes[OURS] / sizes[who]:.3g}",
                f"{spread([1e3 * each / batch for each in reads[who]]):.0f}",
                f"{spread([1e3 * each / batch for each in writes[who]]):.2f}",
                f"{ratios(writes[OURS], writes[who]):.2f}",
                f"{ratios(writes[BASE], writes[who]):.2f}",
            ]
        )
    head = [
        "from",
        "bytes kept of a context",
        "times less",
        "ms to the first token",
        "ms a token after it",
        f"faster than {OURS}",
        "than plain Hugging Face",
    ]
    print(f"\n{name}, {batch} contexts of {CONTEXT:,} tokens at once, {TOKENS} tokens each; bytes and times of one")
    print(f"\n{table(head, rows)}")
    compressed = [who for who in found if who not in (BASE, OURS)]
    least = {base: min(ratios(writes[base], writes[who]).median for who in compressed) for base in (OURS, BASE)}
    said = "; ".join(f"{times:.2f} times as fast as {base}" for base, times in least.items())
    print(f"\nfrom compressed contexts at least {said}", flush=True)


@torch.no_grad()
def main() -> None:
    """Print what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--batches", type=int, nargs="+", help="contexts at once; default: 1, of the smaller model 8 too"
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    chosen = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    print(f"{machine(torch.get_num_threads())}; float32; median [quartiles], ratios round by round")
    for name in chosen.sizes:
        for batch in chosen.batches or BATCHES[name]:
            compare(name, batch, chosen.rounds)


if __name__ == "__main__":
    main()
