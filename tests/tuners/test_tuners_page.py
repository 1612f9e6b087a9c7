"""The pages on tuners: every option with its default, the counts and shares, the words, peft's methods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from bart_base import NORMS, added, bart_base, percent
from quincunx.tuners.methods import METHODS
from quincunx.tuners.peft_limits import UNSUITED
from quincunx.tuners.residual import ResidualConfig
from quincunx.tuners.sites import TAILS
from quincunx.tuners.trainable import WORDS

DOCS = Path(__file__).parents[2] / "docs"
GUIDE, OPTIONS = ((DOCS / name).read_text(encoding="utf-8") for name in ("tuners.md", "tuner_options.md"))
TASKS = ["vqa", "gqa", "nlvr", "caption"]
COMMON = ("sites", "target_modules", "leave_out")


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.partition(f"\n## {title}")[2], maxsplit=1, flags=re.MULTILINE)[0]


def told(text: str) -> Iterator[tuple[str, str]]:
    """Yield options and their defaults."""
    for row in rows(text):
        names, values = re.findall(r"`(\w+)`", row[0]), row[1].split(", ")
        for place, name in enumerate(names):
            yield name, values[min(place, len(values) - 1)].strip("`")


def shown(default: Any) -> str:
    if default is None:
        return "unset"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("method", METHODS)
def test_every_option_is_there_with_its_default(method: str) -> None:
    config = METHODS[method].config
    title = "bitfit, norms" if method in ("bitfit", "norms") else method
    found = dict(told(section(OPTIONS, f"{title}\n")))
    if issubclass(config, ResidualConfig):
        found = {**dict(told(section(OPTIONS, "bottleneck, low_rank"))), **found}
        found["parallel"] = shown(method == "head")  # said in words for a head
    else:
        found.pop("batch_norms", None) if method == "bitfit" else None
    own = {
        field.name: field.default if field.default is not MISSING else field.default_factory()  # pyright: ignore
        for field in fields(config)
        if field.name not in COMMON
    }
    assert {name: value for name, value in found.items() if name not in COMMON} == {
        name: shown(value) for name, value in own.items()
    }


COUNTED: list[tuple[str, dict[str, Any], int, str | None, str | None]] = [
    ("bottleneck", {"reduction_factor": 8}, NORMS, "4.177", "12.224"),
    ("compacter",
     {"reduction_factor": 8, "hypercomplex_division": 2, "factorized_phm": False, "phm_rule": "none"},
     NORMS, "2.699", "7.051"),
    ("compacter", {"reduction_factor": 8, "hypercomplex_division": 4, "phm_rank": 2}, 0, None, None),
    ("low_rank", {"reduction_factor": 8}, 0, None, None),
    ("hyperformer",
     {"reduction_factor": 8, "projected_task_embedding_dim": 8, "tasks": TASKS}, NORMS, None, "5.793"),
    ("task_lora", {"rank": 128, "biases": "all"}, 125_952, "5.928", "17.714"),
    ("prompts", {"encoder_prompt_len": 40, "mid_dim": 800}, 0, "1.997", "4.533"),
    ("prefix", {"prefix_len": 20}, 0, None, None),
    ("ladder", {}, 0, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options", "own", "one", "four"), COUNTED)
def test_counts_and_shares_are_those_of_the_methods(
    method: str, options: dict[str, Any], own: int, one: str | None, four: str | None
) -> None:
    def count(**more: Any) -> int:
        return added(METHODS[method].place, METHODS[method].config(**options, **more))

    line = next(
        row for row in rows(section(GUIDE, "Which to pick")) if row[0] == f"`{method}`" and f"{count():,}" in row[2]
    )
    if one is not None:
        assert f"{percent(count(), own=own):.3f}" == one and line[3] == f"{one} %"
    if four is not None:
        mine = count() if "tasks" in options else count(tasks=TASKS)
        assert f"{percent(mine, own=own):.3f}" == four and line[4] == f"{four} %"


def test_vl_pet_s_and_the_models_own_parameters_are_counted_so() -> None:
    adapter = 2 * 768 * 96 + 96 + 768
    lines = rows(section(GUIDE, "Which to pick"))
    counts = {row[2]: row[3] for row in lines if "gate: " in row[1]}
    assert counts == {
        f"{12 * 2 * adapter + 6 * adapter:,}": "4.16 %",
        f"{12 * (adapter + 1537) + 6 * adapter:,}": "2.98 %",
    }
    for method in ("bitfit", "norms"):
        place = METHODS[method].place(bart_base(), METHODS[method].config())
        model = bart_base()
        own = sum(model.get_parameter(name).numel() for name in place.trained)
        assert any(row[0] == f"`{method}`" and row[2].startswith(f"{own:,} ") for row in lines)


def test_every_method_word_and_method_of_peft_is_named() -> None:
    peft = pytest.importorskip("peft")
    picked = {name for row in rows(section(GUIDE, "Which to pick")) for name in re.findall(r"`(\w+)`", row[0])}
    assert picked == {*METHODS}
    sites = {name for row in rows(section(GUIDE, "Sites")) for name in re.findall(r"`(\w+)`", row[0])}
    assert sites == {*TAILS}
    words = {name for row in rows(section(GUIDE, "The model's own")) for name in re.findall(r"`(\w+)`", row[0])}
    assert words == {*WORDS}
    theirs = section(GUIDE, "Methods of peft")
    taken = {*re.split(r",\s+", theirs.partition("taken: ")[2].partition(".")[0])}
    every = {kind.value.lower() for kind in peft.PeftType} - {*METHODS}
    assert taken == every - {*UNSUITED}
    refused = {name for row in rows(theirs) for name in re.findall(r"\w+", row[0])}
    assert {*UNSUITED} <= refused
