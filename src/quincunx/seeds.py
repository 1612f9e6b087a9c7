"""Seeds that are looked up, not consumed: every random act asks for the seed at its own address.

Whatever was or was not drawn elsewhere (an evaluation, a resumed run, another worker) then changes nothing here.
"""

from __future__ import annotations

import os
from hashlib import blake2b


def address(seed: int, *parts: int | str) -> int:
    """Return the seed that belongs to an address under a root seed.

    A pure function, the same on every machine, in every version of Python and of this package: finished runs depend
    on its values. Parts that differ in type, value, number or order give unrelated seeds (`1` and `"1"` differ).

    Args:
        seed: The run's seed, any int.
        *parts: What the seed is for, from wide to narrow: `address(seed, "order", epoch)`.

    Returns:
        An int in [0, 2**63), fit for torch, numpy's `default_rng` and `random.Random`.

    Raises:
        TypeError: A part is neither an int nor a str; bools are refused, since they pass for 0 and 1.
    """
    # Type letter, length and text of each part: no two different addresses share an encoding.
    digest = blake2b(digest_size=8, person=b"quincunx")
    for part in (seed, *parts):
        if isinstance(part, str):
            letter, text = b"s", part.encode("utf-8", "surrogatepass")
        elif isinstance(part, int) and not isinstance(part, bool):
            letter, text = b"i", str(part).encode("ascii")
        else:
            raise TypeError(f"an address is made of ints and strings, found {part!r} of type {type(part).__name__}")
        digest.update(letter + len(text).to_bytes(8, "little") + text)
    return int.from_bytes(digest.digest(), "little") >> 1


def draw_seed() -> int:
    """Return a fresh seed in [0, 2**31) from the operating system: short enough to read out and to type again."""
    return int.from_bytes(os.urandom(4), "little") >> 1
