"""The examples of an experiment, whatever they are made from, as items of one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.recipes.compression import blotch
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.data import arithmetic, tasks
from quincunx.recipes.compression.data.arithmetic.language import ALPHABET, PAD_ID, SEPARATOR_ID
from quincunx.recipes.compression.data.load import load as load_texts
from quincunx.recipes.compression.kinds import compresses, generated, lengths
from quincunx.recipes.compression.shaping import Item

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int, int], None]


class Numbered(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Items:
    """Examples by number, each as an item; a `Source` of the loader."""

    source: Numbered
    """What they are made from."""
    item: Callable[[Any], Item]
    lengths: NDArray[np.int64]
    """Tokens of each [N]."""

    def document(self, index: int) -> int:
        """Return the number of the document that an example is from; its own where there are none."""
        return getattr(self.source[index], "document", index)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Item:
        return self.item(self.source[index])


@dataclass(frozen=True)
class Read:
    """All splits, and what belongs to them."""

    splits: Mapping[str, Items]
    """`train`, `dev`, `test`, and the further ones that there are."""
    tokenizer: PreTrainedTokenizerBase
    separators: Sequence[int]
    """Token ids that end a step, unless the config names a text for it."""
    fingerprint: str
    notes: Sequence[str] = ()
    answers: Sequence[Tensor] = ()
    """Of labelled examples: token ids of each answer."""
    chance: float | None = None
    """Accuracy of guessing, where it is known."""
    further: Sequence[str] = ()
    """Names of splits beside train, dev and test."""
    level_tokens: Sequence[int] = ()
    """Token ids that tell how much is left out, one for each level of `blotch`; none unless it asks for them."""


def read(
    config: CompressionConfig,
    tokenizer: PreTrainedTokenizerBase | None = None,
    on_progress: Progress | None = None,
) -> Read:
    """Return the data of a decided config.

    Args:
        config: Its sections on data, and what they are for.
        tokenizer: The pretrained model's, where there is one; examples by rule have an alphabet of their own.
        on_progress: Told how generating goes on.

    Raises:
        DataError: There is none, or it is bad.
        UsageError: Settings that contradict the data.
    """
    kind = generated(config)
    if kind == "arithmetic":
        found = _arithmetic(config, on_progress)
    elif kind == "tasks":
        found = _tasks(config)
    else:
        found = _texts(config, tokenizer)
    return _with_levels(found, config)


def _with_levels(found: Read, config: CompressionConfig) -> Read:
    """Return the data with a word in its vocabulary for each level of `blotch.p_max`, where the config asks for it."""
    shares = levels_of(config)
    if not shares or not config.blotch.intensity_tokens:
        return found
    words = [level_word(share) for share in shares]
    tokenizer: Any = found.tokenizer
    tokenizer.add_tokens(words, special_tokens=True)
    return replace(found, level_tokens=tokenizer.convert_tokens_to_ids(words))


def level_word(share: float) -> str:
    """Return the word that tells which share of a text's pieces was left out."""
    return f"<left-out-{share:.3g}>"


def nearest_level(config: CompressionConfig) -> int:
    """Return the number of the level that is nearest to `evaluate.blotch_p`; of two the lower."""
    asked = config.evaluate.blotch_p
    shares = levels_of(config)
    return min(range(len(shares)), key=lambda level: abs(shares[level] - asked))


def levels_of(config: CompressionConfig) -> tuple[float, ...]:
    """Return the shares of which each text draws one; none where all have the same."""
    chosen = config.blotch
    if chosen.p_max is None or chosen.step is not None:
        return ()
    return blotch.levels(chosen.p_min or 0.0, chosen.p_max, chosen.levels)


def _texts(config: CompressionConfig, tokenizer: PreTrainedTokenizerBase | None) -> Read:
    context, forward = lengths(config)
    found = load_texts(
        config.data, config.tokenizer, context=context, forward=forward, tokenizer=tokenizer, limit=config.debug.limit
    )
    splits = {name: Items(split, _of_text, split.lengths) for name, split in found.splits.items()}
    answers = [torch.from_numpy(ids) for ids in found.answers]
    return Read(splits, found.tokenizer, _line_ends(found.tokenizer), found.fingerprint, found.notes, answers)


def _of_text(example: Any) -> Item:
    context, text = torch.from_numpy(example.context), torch.from_numpy(example.forward)
    # what is repeated of the context is shown: to predict it would be to copy
    return Item(context, text, example.overlap)


def _line_ends(tokenizer: Any) -> list[int]:
    return tokens_with(tokenizer, "\n")


def tokens_with(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of all tokens whose text holds this one."""
    count = len(tokenizer)
    return [number for number in range(count) if text in tokenizer.decode([number])]


def _arithmetic(config: CompressionConfig, on_progress: Progress | None) -> Read:
    found = arithmetic.load(
        config.arithmetic,
        path=config.data.path,
        cache=config.data.cache,
        limit=config.debug.limit,
        on_progress=on_progress,
    )
    item = partial(_of_problem, apart=compresses(config), shown=not config.objective.initial_problem)

    def unpadded(source: Any) -> NDArray[np.int64]:
        return source.lengths - np.add.reduceat(source.flat == PAD_ID, source.offsets[:-1], dtype=np.int64)

    digest = [source.fingerprint() for source in found.sources.values()]
    splits = {name: Items(source, item, unpadded(source)) for name, source in found.sources.items()}
    further = [name for name in splits if name not in ("train", "dev", "test")]
    return Read(splits, ALPHABET.tokenizer(), [SEPARATOR_ID], "-".join(digest), found.notes, further=further)


def _tasks(config: CompressionConfig) -> Read:
    found = tasks.load(config.tasks, path=config.data.path, limit=config.debug.limit)

    splits = {name: Items(source, _of_task, source.lengths) for name, source in found.sources.items()}
    return Read(splits, found.task.alphabet.tokenizer(), [], found.fingerprint, found.notes, chance=found.task.chance)


def _of_problem(example: Any, *, apart: bool, shown: bool) -> Item:
    """Return a problem as context and its solution as text, or both as text, the problem shown or predicted too."""
    # padding of the problem is no text: nobody sees it and it takes no place
    tokens = torch.from_numpy(example.tokens[example.tokens != PAD_ID].astype(np.int64))
    separator = int((tokens == SEPARATOR_ID).nonzero()[0])
    if apart:
        return Item(tokens[:separator], tokens[separator:], given=1)
    return Item(tokens[:0], tokens, given=separator + 1 if shown else 0)


def _of_task(example: Any) -> Item:
    tokens = torch.from_numpy(example.tokens.astype(np.int64))
    return Item(tokens[:0], tokens, answers=torch.from_numpy(example.targets))
