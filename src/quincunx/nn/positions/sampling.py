"""Positions drawn at random and sorted, so that a model trained on short sequences meets the numbers of long ones
(Ruoss et al. 2023, arXiv 2305.16843; with real numbers, arXiv 2602.14050). One draw a sequence, from its key alone.

      tokens      t0  t1  t2  t3           size 10
      prefix       0   1   2   3           counted, as without any of this
      even         1   3   5   7           where draws stand on average
      sample       0   4   5   8           one draw; another key, another draw

A sequence that is generated token by token is drawn once, for the longest that it may become; `lookup` then gives each
token its number, and a token keeps it, cached or not. B batch, N drawn numbers, S sequence.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quincunx.errors import DataError
from quincunx.nn.positions.hashed import hashes, uniforms


def sample(lengths: Tensor, longest: int, size: int, *, keys: Tensor, continuous: bool = False) -> Tensor:
    """Return random positions, each row strictly increasing; a row depends on its key, its length and the size alone.

    Args:
        lengths: `[B]`, int64: how many numbers each row needs.
        longest: Columns of the result.
        size: Whole numbers are drawn without replacement from 0 .. size - 1, every set as likely as any other; real
            ones uniformly between 0 and size - 1.
        keys: `[B]`, int64 or uint64: hashes, one a sequence; see `quincunx.seeds.address`.
        continuous: Draw real numbers.

    Returns:
        `[B, longest]`, int64, or float32 when continuous; columns after a row's length repeat its last number (0 where
        there is none).

    Raises:
        DataError: A row needs more numbers than there are columns or whole numbers, or the range is empty.
    """
    _check(lengths, longest, size)
    if continuous:
        return _sample_reals(lengths, longest, size, keys)
    words = hashes(keys, size)
    # The numbers with the smallest hashes; no two are equal, so that exactly so many lie at or below the last one.
    ordered = words.sort(dim=1).values
    limits = ordered.gather(1, (lengths - 1).clamp(min=0)[:, None])
    chosen = (words <= limits) & (lengths > 0)[:, None]
    columns = chosen.cumsum(1) - 1
    numbers = torch.arange(size, device=words.device).expand_as(words)
    # those that were not chosen go to a column of their own, which is cut off
    drawn = torch.zeros(len(lengths), longest + 1, dtype=torch.int64, device=words.device)
    drawn.scatter_(1, torch.where(chosen, columns, longest), numbers)
    return _repeat_last(drawn[:, :longest], lengths)


def _sample_reals(lengths: Tensor, longest: int, size: int, keys: Tensor) -> Tensor:
    inside = torch.arange(longest, device=lengths.device) < lengths[:, None]
    drawn = (uniforms(keys, longest) * (size - 1)).masked_fill(~inside, math.inf).sort(dim=1).values.float()
    # Two numbers may round to the same; the bits of positive floats are ordered as they are, so the next one is 1 away.
    places = torch.arange(longest, device=drawn.device, dtype=torch.int32)
    top = torch.tensor(float(size - 1)).view(torch.int32).to(drawn.device)
    bits = (drawn.view(torch.int32) - places).cummax(dim=1).values + places
    bits = torch.minimum(bits, top - (lengths[:, None] - 1 - places).clamp(min=0).to(torch.int32))
    return _repeat_last(bits.view(torch.float32), lengths)


def even(lengths: Tensor, longest: int, size: int, *, continuous: bool = False) -> Tensor:
    """Return evenly spread positions: each where the draws of `sample` stand on average, rounded down when whole.

    Nothing is random, so that an evaluation needs one pass; short and long sequences cover the range that training
    covered. Arguments, result and errors as in `sample`.
    """
    _check(lengths, longest, size)
    places = torch.arange(1, longest + 1, device=lengths.device)
    if continuous:
        spread = places * ((size - 1) / (lengths[:, None] + 1).double())
        return _repeat_last(spread.float(), lengths)
    spread = torch.div(places * (size + 1), lengths[:, None] + 1, rounding_mode="floor") - 1
    return _repeat_last(spread, lengths)


def prefix(lengths: Tensor, longest: int, size: int, *, continuous: bool = False) -> Tensor:
    """Return the positions 0, 1, 2 ... of each row. Arguments, result and errors as in `sample`."""
    _check(lengths, longest, size)
    counted = torch.arange(longest, device=lengths.device).repeat(len(lengths), 1)
    return _repeat_last(counted.float() if continuous else counted, lengths)


def lookup(drawn: Tensor, ranks: Tensor) -> Tensor:
    """Return the positions of tokens from their ranks in the sequence.

    Args:
        drawn: `[B, N]`: the numbers of each sequence, in order.
        ranks: `[B, S]`, int64: which of them each token has; several tokens may share one.

    Returns:
        `[B, S]`, of the type of `drawn`.

    Raises:
        DataError: A rank is none of 0 .. N - 1.
    """
    if ranks.numel() and (int(ranks.min()) < 0 or int(ranks.max()) >= drawn.shape[1]):
        raise DataError(
            f"tokens have ranks from {int(ranks.min())} to {int(ranks.max())}, but {drawn.shape[1]} positions were "
            "drawn: draw as many as the longest sequence has tokens"
        )
    return drawn.gather(1, ranks)


def _check(lengths: Tensor, longest: int, size: int) -> None:
    if size < 1:
        raise DataError(f"positions are to be taken from {size} numbers: the range must hold at least 1")
    most = int(lengths.max()) if len(lengths) else 0
    if most > size:
        raise DataError(
            f"a sequence needs {most} positions, the range holds {size} numbers: raise the range (max_posencs), or cut "
            "the sequences"
        )
    if most > longest or (len(lengths) and int(lengths.min()) < 0):
        raise DataError(f"lengths must lie in 0 .. {longest}, found {int(lengths.min())} .. {most}")


def _repeat_last(drawn: Tensor, lengths: Tensor) -> Tensor:
    """Return the rows with columns after their length equal to their last number, 0 where the length is 0."""
    if not drawn.shape[1]:
        return drawn
    columns = torch.arange(drawn.shape[1], device=drawn.device).expand_as(drawn)
    filled = drawn.gather(1, columns.minimum((lengths - 1).clamp(min=0)[:, None]))
    return filled.masked_fill(lengths[:, None] == 0, 0)
