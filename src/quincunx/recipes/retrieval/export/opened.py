"""A run's model ready to leave: weights of a checkpoint, adapters added to what they adapt, and what its texts go
through before it.

N texts, B texts of a batch, S tokens, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quincunx.engine.checkpoint import Checkpoints, load_weights
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.assemble import make_model
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data.tokenizing import PairTokenizer, TextTokenizer
from quincunx.recipes.retrieval.doctor import similarity
from quincunx.recipes.retrieval.encoders import longest, make_encoders
from quincunx.recipes.retrieval.model.cross_encoder import CrossEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = ("query", "document")


@dataclass(frozen=True)
class Side:
    """One side of a model that encodes queries and documents apart, and what its texts go through before it."""

    name: str
    """query or document."""
    encoder: TextEncoder
    tokenizer: PreTrainedTokenizerBase
    """As a text sees it: cut after `max_length` tokens, on the side where texts are cut."""
    max_length: int
    prompt: str
    truncate: str

    def tokens(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the token ids `[S]` of each text."""
        return TextTokenizer(self.tokenizer, self.max_length, prompt=self.prompt, truncate=self.truncate)(texts)  # pyright: ignore[reportArgumentType]

    def reads_like(self, other: Side) -> bool:
        """Return whether both sides make the same tokens of the same text, prompts apart."""
        return (
            self.tokenizer is other.tokenizer
            and self.max_length == other.max_length
            and self.truncate == other.truncate
        )


@dataclass(frozen=True)
class Opened:
    """A run's model, in eval mode on the CPU, without adapters."""

    config: RetrievalConfig
    model: Any
    """A BiEncoder, PolyEncoder or CrossEncoder."""
    sides: dict[str, Side]
    """By name; empty for a cross-encoder."""
    pairs: PairTokenizer | None
    """Of a cross-encoder."""
    tokenizer: PreTrainedTokenizerBase
    """Of queries, and of a cross-encoder's pairs."""
    checkpoint: Path
    samples: Samples
    """What the run's own model, adapters in it, makes of a few texts."""

    @property
    def similarity(self) -> str:
        """cosine or dot."""
        return similarity(self.config)

    @property
    def scaled(self) -> bool:
        """Whether vectors leave with length 1."""
        return scaled(self.config)

    @property
    def alike(self) -> bool:
        """Whether queries and documents go through the same, prompts apart."""
        query, document = (self.sides[name] for name in SIDES)
        return query.encoder is document.encoder and query.reads_like(document)


@dataclass(frozen=True)
class Samples:
    """Texts, and what the run's model makes of them."""

    texts: dict[str, list[str]]
    """By side; of a cross-encoder pairs lie at the same place of both."""
    vectors: dict[str, Tensor]
    """By side, `[N, D]`, of length 1 under cosine; a cross-encoder's scores `[N]` as `score`; a poly-encoder's learned
    codes `[N, M, D]` as `query`."""


def open_run(home: Path, config: RetrievalConfig, checkpoint: Path) -> Opened:
    """Return the model of a run with the weights of one of its checkpoints.

    Args:
        home: The run folder.
        config: Its config.
        checkpoint: Folder of the checkpoint.

    Raises:
        CheckpointError: The checkpoint is damaged.
        UsageError: Adapters that cannot be added to the weights they adapt.
    """
    from quincunx.recipes.retrieval.recipe import pair_tokenizer

    encoders = make_encoders(config, home=home)
    model = make_model(config, encoders)
    load_weights(model, Checkpoints(checkpoint.parent).load(checkpoint).weights["model"], str(checkpoint))
    model.eval()
    sides: dict[str, Side] = {}
    pairs: PairTokenizer | None = None
    if isinstance(model, CrossEncoder):
        pairs = pair_tokenizer(config, encoders)
    else:
        tokenizers: dict[tuple[int, int, str], Any] = {}
        for name in SIDES:
            section, tokenizer = getattr(config, name), getattr(encoders, f"{name}_tokenizer")
            most = longest(config, name, encoders)
            key = (id(tokenizer), most, section.truncate)
            if key not in tokenizers:
                tokenizers[key] = limited(tokenizer, most, section.truncate)
            sides[name] = Side(name, getattr(model, name), tokenizers[key], most, section.prompt, section.truncate)
    samples = _samples(model, sides, pairs, scaled(config))
    if config.peft.method is not None:
        for module in [model] if isinstance(model, CrossEncoder) else [side.encoder for side in sides.values()]:
            merge_adapters(module, config.peft.method)
    return Opened(config, model, sides, pairs, encoders.query_tokenizer, checkpoint, samples)


def scaled(config: RetrievalConfig) -> bool:
    """Return whether vectors are compared by cosine; a poly-encoder scales what documents take from codes instead."""
    return config.mode == "bi-encoder" and similarity(config) == "cosine"


def limited(tokenizer: Any, most: int, truncate: str) -> Any:
    """Return a copy of a tokenizer that by itself cuts texts after so many tokens, on that side, as the run does."""
    made = copy.deepcopy(tokenizer)
    made.model_max_length, made.truncation_side = most, truncate
    backend = getattr(made, "backend_tokenizer", None)
    if backend is not None:  # what the last call asked for would be saved with it
        backend.no_truncation()
        backend.no_padding()
    return made


def merge_adapters(model: nn.Module, method: str) -> None:
    """Add what adapters have learnt to the weights that they adapt, in place, so that plain modules are left.

    Raises:
        UsageError: The method of peft has adapters that are no change of weights.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer

    reason = (
        f"adapters of peft's method {method} are no change of the weights they adapt, and a model without them is all "
        "that can leave: train with lora, say, or use the run itself"
    )
    if any(isinstance(module, PeftModel | BaseTuner) for module in model.modules()):
        raise UsageError(reason)
    for name, module in reversed(list(model.named_modules())):
        if not isinstance(module, BaseTunerLayer):
            continue
        try:
            module.merge(safe_merge=True)
        except (NotImplementedError, ValueError, AttributeError, TypeError, RuntimeError) as error:
            raise UsageError(f"{reason} ({error or type(error).__name__})") from error
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module.get_base_layer())


WORDS = ("which", "cells", "carry", "oxygen", "through", "Blood", "and", "why", "do", "they", "lack", "a", "nucleus?")


def _texts(longest: int) -> list[str]:
    """Return a few texts of many lengths, the last one longer than what a model takes."""
    lengths = [1, 2, 3, 5, 8, 13, 40, 2 * longest]
    return [" ".join(WORDS[(start + place) % len(WORDS)] for place in range(n)) for start, n in enumerate(lengths)]


def _samples(model: Any, sides: dict[str, Side], pairs: PairTokenizer | None, cosine: bool) -> Samples:
    if pairs is not None:
        documents = _texts(pairs.max_length)
        queries = [*reversed(documents[:-1]), documents[3]]
        return Samples(
            {"query": queries, "document": documents}, {"score": scores_of(model, pairs, queries, documents)}
        )
    texts = {name: _texts(side.max_length) for name, side in sides.items()}
    found: dict[str, Tensor] = {}
    for name, side in sides.items():
        tokens = side.tokens(texts[name])
        if not isinstance(model, PolyEncoder) or name == "document":
            found[name] = vectors_of(side.encoder, tokens, cosine=cosine)
        elif model.codes.reduction == "codes":
            found[name] = vectors_of(lambda *batch: model.encode_query(*batch)[0], tokens, cosine=cosine)
    return Samples(texts, found)


def batched(tokens: Sequence[NDArray[np.int32]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield padded tokens `[B, S]` and lengths `[B]`, `size` texts at a time, in their order."""
    for start in range(0, len(tokens), size):
        part = tokens[start : start + size]
        lengths = torch.tensor([len(text) for text in part])
        batch = torch.zeros(len(part), max(1, int(lengths.max())), dtype=torch.int64)
        for row, text in enumerate(part):
            batch[row, : len(text)] = torch.from_numpy(text)
        yield batch, lengths


@torch.no_grad()
def vectors_of(
    encode: Callable[[Tensor, Tensor], Tensor], tokens: Sequence[NDArray[np.int32]], *, cosine: bool, size: int = 4
) -> Tensor:
    """Return `[N, D]` of texts, of length 1 where cosines are compared; padded in batches of `size`."""
    found = torch.cat([encode(*batch) for batch in batched(tokens, size)])
    return nn.functional.normalize(found, dim=-1) if cosine else found


@torch.no_grad()
def scores_of(model: CrossEncoder, pairs: PairTokenizer, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
    """Return the scores `[N]` of pairs."""
    tokens, types = pairs(queries, documents)
    kinds = None if types is None else [batch for batch, _ in batched(types, 4)]
    found = [model(*batch, None if kinds is None else kinds[number]) for number, batch in enumerate(batched(tokens, 4))]
    return torch.cat(found)
