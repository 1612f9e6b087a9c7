"""Lists of names of weights that people can read: a model of many layers has each of its names many times over."""

from __future__ import annotations

from collections.abc import Sequence


def folded(names: Sequence[str]) -> list[str]:
    """Return all names in their order, those that differ in their first number alone as one: `layer.{0-11}.weight`."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    for name in names:
        words = name.split(".")
        place = next((place for place, word in enumerate(words) if _is_number(word)), None)
        if place is None:
            numbers[(name,)] = []
        else:
            numbers.setdefault((".".join(words[:place]), ".".join(words[place + 1 :])), []).append(int(words[place]))
    return [".".join(filter(None, [*key[:1], *_runs(found), *key[1:]])) for key, found in numbers.items()]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and word == str(int(word))  # 01 would be said as 1


def _runs(numbers: Sequence[int]) -> list[str]:
    """Return numbers as one word, neighbours among them as `first-last`; no word of none."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if len(numbers) < 2:
        return [str(number) for number in numbers]
    return ["{" + ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) + "}"]
