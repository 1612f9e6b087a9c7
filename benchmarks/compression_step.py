"""What an update of compression costs: beside a plain Hugging Face model over as many tokens, and in one pass or two.

First losses and gradients are compared, in float64 too; then all take their updates (forward and backward, no
optimizer) in turn within one process; memory is how far a process of its own grows at its peak (Linux).

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/compression_step.py [--rounds 21]

The plain model is called as anyone would call it, `model(input_ids, labels=...)`, over context and text behind one
another. Of the text alone it need not compute the rest of its logits, so a row shows it without them as well.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from measure import Seconds, Watch, alternate, growth, in_child, machine, ratios, spread, table
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.nn.pretrained.causal import build_causal
from quincunx.recipes.compression.config_model import Compress
from quincunx.recipes.compression.data.tokenizer import train_tokenizer
from quincunx.recipes.compression.model.compressor import Compressor, Plan
from quincunx.recipes.compression.objective import Prediction
from quincunx.recipes.compression.shaping import Item, Shaping

BAR = 1.3
"""What an update may take, times that of the plain model."""
RATIO = 4
CONTROLLED = {"forward": 1.0, "reconstruction": 0.5, "without": 0.5, "full": 0.5}
"""The starter's objective: the text predicted in three ways, and the context told again."""
BASE, HEADLESS = "plain Hugging Face", "the same, logits of the text alone"
Update = Callable[[], Tensor]


@dataclass(frozen=True)
class Size:
    """A model and its batches."""

    layers: int
    width: int
    words: int
    context: int
    text: int
    batch: int
    architecture: str = "llama"

    def __str__(self) -> str:
        return (
            f"{self.layers} layers of {self.width}, {self.words:,} words, {self.batch} examples of {self.context} + "
            f"{self.text} tokens"
        )


SIZES = {
    "starter": Size(2, 128, 1024, 32, 32, 32),
    "default": Size(4, 256, 2048, 64, 64, 32),
    "longer": Size(4, 256, 2048, 512, 128, 4),
    "wider": Size(6, 512, 8192, 128, 128, 4),
}
OURS = {f"{words}, {plan.replace('_', ' ')}": (words, plan) for words in ("forward", "controls")
        for plan in ("one_pass", "two_pass")}  # fmt: skip
TARGET = "forward, one pass"


def backbone(size: Size) -> nn.Module:
    """Return the language model, the same at every call."""
    settings = {
        "architecture": size.architecture,
        "num_hidden_layers": size.layers,
        "hidden_size": size.width,
        "num_attention_heads": size.width // 64,
        "vocab_size": size.words,
        "max_position_embeddings": 2 * (size.context + size.text),
        "tie_word_embeddings": True,
    }
    if size.architecture == "llama":
        settings["intermediate_size"] = 4 * size.width
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_causal(settings, train_tokenizer([""], "byte", 258), dropout=0.0, attention_dropout=0.0)


def compressor(size: Size, plan: Plan) -> Compressor:
    """Return it with what compression adds, also the same."""
    model = backbone(size)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Compressor(cast("Any", model), Compress(plan=plan), slots=size.context // RATIO)


def words(size: Size) -> Tensor:
    """Return the token ids of context and text `[B, C + L]`."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(2, size.words, (size.batch, size.context + size.text), generator=generator)


def batch(size: Size, branches: Sequence[str]) -> Batch:
    """Return the same for the compressor."""
    items = [Item(row[: size.context], row[size.context :]) for row in words(size)]
    places = range(size.batch)
    return Shaping(branches, slots=(size.context // RATIO,))(items, places, places, seed=0)


def ours(size: Size, terms: str, plan: Plan, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Update]:
    """Return a compressor, and an update of it that returns its loss."""
    model = compressor(size, plan).to(dtype)
    objective = Prediction({"forward": 1.0} if terms == "forward" else CONTROLLED)
    shaped = batch(size, objective.branches)
    counts = objective.weights(shaped)

    def update() -> Tensor:
        model.zero_grad(set_to_none=True)
        sums = objective.loss(model, shaped)
        loss = torch.stack([objective.coefficients[term] * sums[term] / counts[term] for term in sums]).sum()
        loss.backward()
        return loss.detach()

    return model, update


def plain(size: Size, *, whole: bool) -> tuple[nn.Module, Update]:
    """Return the language model by itself, and an update of it, over all tokens or those of the text."""
    model: Any = backbone(size)
    ids = words(size)
    targets = ids[:, -size.text :]

    def update() -> Tensor:
        model.zero_grad(set_to_none=True)
        if whole:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        else:
            logits = model(input_ids=ids, logits_to_keep=size.text + 1, use_cache=False).logits[:, :-1]
            loss = functional.cross_entropy(logits.reshape(-1, size.words), targets.reshape(-1))
        loss.backward()
        return loss.detach()

    return model, update


def contestants(size: Size) -> dict[str, Callable[[], tuple[nn.Module, Update]]]:
    """Return who takes part, by the names they are shown under."""
    made: dict[str, Callable[[], tuple[nn.Module, Update]]] = {
        BASE: partial(plain, size, whole=True),
        HEADLESS: partial(plain, size, whole=False),
    }
    return made | {name: partial(ours, size, *chosen) for name, chosen in OURS.items()}


def apart(size: Size, terms: str, dtype: torch.dtype) -> tuple[float, float]:
    """Return how far loss and gradient of two passes are from those of one, relative to them."""
    losses: list[float] = []
    gradients: list[Tensor] = []
    for plan in ("one_pass", "two_pass"):
        model, update = ours(size, terms, plan, dtype)
        losses.append(float(update()))
        # the input embedding of a start that nothing is predicted from has none
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    one, two = gradients
    return abs(losses[1] / losses[0] - 1), float((two - one).norm() / one.norm())


def same(size: Size) -> str:
    """Return a table of these; SystemExit where they are not the same."""
    rows: list[list[str]] = []
    # llama's norms are computed in float32 whatever the weights are, gpt2's are not
    tried = ((size, torch.float32, 1e-4), (replace(size, architecture="gpt2"), torch.float64, 1e-11))
    for terms in ("forward", "controls"):
        for one, dtype, most in tried:
            loss, gradient = apart(one, terms, dtype)
            what = f"{terms}, {one.architecture}, {str(dtype).removeprefix('torch.')}"
            if max(loss, gradient) > most:
                raise SystemExit(f"{what}: one pass and two differ by {loss:.1e}, gradients by {gradient:.1e}")
            rows.append([what, f"{loss:.1e}", f"{gradient:.1e}"])
    return table(["two passes from one, relative", "loss", "gradient, by its norm"], rows)


def timed(update: Update) -> Seconds:
    """Return what one update takes."""
    watch = Watch()
    update()
    return watch.read()


def compare(name: str, rounds: int) -> bool:
    """Print the table of one size and return whether the bar is reached."""
    size = SIZES[name]
    calls = {who: partial(timed, make()[1]) for who, make in contestants(size).items()}
    found = alternate(calls, rounds, warmup=2)
    wall = {who: [each.wall for each in took] for who, took in found.items()}
    cpu = {who: [each.cpu for each in took] for who, took in found.items()}
    rows: list[list[str]] = []
    for who, seconds in wall.items():
        two = f"{OURS[who][0]}, two pass" if who.endswith("one pass") else None
        memory = in_child(__file__, "--memory", who, "--sizes", name)
        rows.append(
            [
                who,
                f"{spread([1e3 * each for each in seconds]):.1f}",
                f"{ratios(seconds, wall[BASE]):.2f}",
                f"{ratios(cpu[who], cpu[BASE]):.2f}",
                f"{ratios(cpu[who], cpu[HEADLESS]).median:.2f}",
                "" if two is None else f"{ratios(wall[two], seconds):.2f}",
                "" if two is None else f"{ratios(cpu[two], cpu[who]):.2f}",
                f"{memory:.0f}",
            ]
        )
    head = [
        "",
        "ms an update",
        f"times {BASE}",
        "CPU time",
        "of its text's logits alone",
        "two passes, times",
        "CPU time",
    ]
    print(f"\n{size}, {RATIO} to one\n\n{table([*head, 'MiB'], rows)}\n")
    reached = ratios(wall[TARGET], wall[BASE]).median <= BAR
    faster = {terms: ratios(cpu[f"{terms}, two pass"], cpu[f"{terms}, one pass"]) for terms in ("forward", "controls")}
    print(f"bar: at most {BAR} times: {'reached' if reached else 'MISSED'}; CPU time of two passes over that of one:")
    print(", ".join(f"{terms} {each:.2f}" for terms, each in faster.items()), flush=True)
    return reached


def grown(who: str, name: str) -> float:
    """Return how far memory grows over updates, in MiB, beyond what a batch of one leaves behind."""
    size = SIZES[name]
    contestants(replace(size, batch=1))[who]()[1]()
    model, update = contestants(size)[who]()
    model.zero_grad(set_to_none=True)
    return growth(update)


def main() -> None:
    """Print what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if chosen.memory is not None:
        print(grown(chosen.memory, chosen.sizes[0]))
        return
    print(f"{machine(torch.get_num_threads())}; median [quartiles], ratios round by round\n\n{same(SIZES['default'])}")
    reached = [compare(name, chosen.rounds) for name in chosen.sizes]
    if not all(reached):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
