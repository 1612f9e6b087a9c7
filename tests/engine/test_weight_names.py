"""Names of weights in few lines are all there."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from quincunx.engine.weight_names import folded


def test_layers_share_a_line():
    names = [f"encoder.layer.{n}.{rest}" for n in (0, 1, 2, 4) for rest in ("q.0", "k")]
    assert folded(["first", *names, "3", "encoder.layer.01.k"]) == [
        "first",
        "encoder.layer.{0-2, 4}.q.0",
        "encoder.layer.{0-2, 4}.k",
        "3",
        "encoder.layer.01.k",
    ]


@given(st.lists(st.from_regex(r"[ab0-3]{1,2}(\.[ab0-3]{1,2}){0,3}", fullmatch=True), unique=True))
def test_every_name_is_said_once(names: list[str]):
    said: list[str] = []
    for line in folded(names):
        found = re.search(r"\{(.*)\}", line)
        if found is None:
            said.append(line)
            continue
        for part in found[1].split(", "):
            first, _, last = part.partition("-")
            said += [line.replace(found[0], str(number)) for number in range(int(first), int(last or first) + 1)]
    assert sorted(said) == sorted(names)
