"""How an arithmetic problem and its solution are written: one character a token.

12+7PP=7+12=2+7+10=9+10=19E
|     ||                  end
|     |the solution: equal statements, one a step, the last one a number
|     the first separator
the problem, padded to one width
"""

from __future__ import annotations

from quincunx.recipes.compression.data.alphabet import Alphabet

PAD, EOS, SEPARATOR, PLUS, TIMES = "P", "E", "=", "+", "*"

ALPHABET = Alphabet(PAD + EOS + SEPARATOR + PLUS + TIMES + "0123456789", PAD, EOS)

PAD_ID, EOS_ID, SEPARATOR_ID = (ALPHABET.id(symbol) for symbol in (PAD, EOS, SEPARATOR))

KINDS = ("rearrange", "decompose", "sum", "combine")
"""What a step of a solution does: puts terms in order; writes one as several; adds two terms of one magnitude; adds
two terms of different magnitudes."""


def written(problem: str, solution: str, width: int) -> str:
    """Return the whole text of an example, its problem padded to `width` characters."""
    return problem.ljust(width, PAD) + SEPARATOR + solution + EOS
