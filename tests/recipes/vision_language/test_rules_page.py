"""The page of conditions names every rule about them, says of each what the rule does, and leaves out no number."""

from __future__ import annotations

import re
from pathlib import Path

from quincunx.config.sections.rules import RULES as SHARED
from quincunx.recipes.vision_language.config import SCHEMA

PAGE = Path(__file__).parents[3] / "docs" / "vision_language_rules.md"
ELSEWHERE = {
    "a-collection-is-needed", "a-task-once", "weights-of-tasks", "mixing-by-updates-needs-a-number", "weights-once",
    "scratch-and-frozen", "moments-once",
    "nothing-to-sort-by-length", "several-or-one", "adapt-or-peft", "nothing-is-trained",
}  # fmt: skip
"""Rules about settings that are not the guide's, or about none of its conditions."""


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| C")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_condition_has_a_line() -> None:
    numbers = {int(number) for row in rows() for number in re.findall(r"C(\d+)", row[0])}
    assert numbers == set(range(1, 31))


def test_rules_are_those_that_there_are_and_do_what_is_said() -> None:
    rules = {rule.name: rule for rule in SCHEMA.rules}
    named = {name: row for row in rows() for name in re.findall(r"`([\w'-]+)`", row[3])}
    text = PAGE.read_text().rpartition("\n\n")[2]
    also = set(re.findall(r"`([\w'-]+)`", text)) & rules.keys()
    assert named.keys() | also == rules.keys() - ELSEWHERE - {rule.name for rule in SHARED}
    words = {"error": "refused", "warning": "warned"}
    for name, row in named.items():
        assert row[2].startswith(words[rules[name].severity]), name
