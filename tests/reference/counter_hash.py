"""The dropout hash in plain Python integers, one element at a time: what `quincunx.nn.dropout` computes in bulk."""

from __future__ import annotations

GOLDEN = 0x9E3779B97F4A7C15
SQRT_TWO = 0xB504F333F9DE6485
SQRT_THREE = 0xDDB3D742C265539D
LAST = 0x2C1B3C6D


def scramble(word: int) -> int:
    """Two rounds of xor-shift and multiplication on an unsigned 64-bit word."""
    word = (word ^ (word >> 32)) * SQRT_TWO % 2**64
    word = (word ^ (word >> 29)) * SQRT_THREE % 2**64
    return word ^ (word >> 32)


def position_word(position: int) -> int:
    """The unsigned 32-bit word of a position within a row."""
    word = ((position ^ 0xB504F333) * 0x9E3779B9) % 2**32
    word ^= word >> 16
    word = (word * 0xC265539D) % 2**32
    return word ^ (word >> 15)


def row_word(key: int, row: int, layer: int, salt: int, *indices: int) -> int:
    """The unsigned 64-bit word of a row in one application of one layer, and of further leading indices."""
    word = scramble((row * GOLDEN + key) % 2**64)
    word = scramble(word ^ (layer * 2**32 + salt))
    for index in indices:
        other = position_word(index)
        word = scramble(word ^ (other + (0xFFFFFFFF << 32 if other >> 31 else 0)))  # 32 signed bits made 64
    return word


def is_kept(p: float, word: int, position: int) -> bool:
    """Whether the element at this position of the row with this word survives dropout of probability p."""
    mixed = ((position_word(position) ^ (word >> 32)) * ((word % 2**32) | 1)) % 2**32
    copied_sign = 0xFFFF0000 if mixed >> 31 else 0  # the shift of signed 32-bit words fills up with the sign
    mixed = (mixed ^ (mixed >> 16) ^ copied_sign) * LAST % 2**32
    signed = mixed - 2**32 if mixed >> 31 else mixed
    return signed + 2**31 < round((1 - p) * 2**32)
