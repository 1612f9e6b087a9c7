"""A blotched text as lines to look at, one a unit."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quincunx.recipes.compression.blotch.cut import PADDING
from quincunx.recipes.compression.blotch.excise import UNTRAINED


def picture(symbols: Sequence[str], numbers: Tensor, keep: Tensor, targets: Tensor, names: Sequence[str]) -> str:
    """Return one text's units, what became of them, and which targets jump over a hole.

          0  kept      1+2+3=   = -> 3
          1  dropped   2+1+3=
          2  kept      3+3=
          3  kept      6

    Args:
        symbols: Its tokens in characters, S of them.
        numbers: `[S]`, int64: their units; see `cut.Units`.
        keep: `[S]`, bool.
        targets: `[S]`, int64, ids; see `excise.targets`.
        names: The vocabulary's tokens in characters, by id.
    """
    units, stays, wanted = numbers.tolist(), keep.tolist(), targets.tolist()
    lines: list[str] = []
    for unit in range(max(units, default=PADDING) + 1):
        places = [place for place, number in enumerate(units) if number == unit]
        kept = [place for place in places if stays[place]]
        state = "kept" if len(kept) == len(places) else "dropped" if not kept else f"{len(kept)}/{len(places)} kept"
        text = "".join(symbols[place] for place in places)
        jumps = [
            f"{symbols[place]} -> {names[wanted[place]]}"
            for place in kept
            if wanted[place] != UNTRAINED and not stays[place + 1]
        ]
        lines.append(f"{unit:>3}  {state:<10} {text}" + (f"   {', '.join(jumps)}" if jumps else ""))
    return "\n".join(line.replace("\n", "\\n") for line in lines)
