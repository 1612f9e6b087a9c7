"""A sweep's results as Markdown to read and as CSV to compute with, and the sentences that all its reports share."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from quincunx.report.markup import amount, duration, number
from quincunx.sweep.records import SweepRecord
from quincunx.sweep.report.importance import Importance
from quincunx.sweep.report.results import Results, Row, again, fresh_seed
from quincunx.sweep.report.values import (
    NOT_SET,
    Facts,
    gist,
    half,
    identity,
    in_order,
    label,
    printable,
    with_interval,
)

SHOWN = 50
"""Rows of the Markdown table; results.csv has all."""

COLUMNS = (
    "rank", "trial", "state", "value", "interval_low", "interval_high", "against_best", "difference",
    "difference_low", "difference_high", "seeds", "values", "update", "total", "seconds", "memory_bytes", "pareto",
    "same_as", "folders", "reason",
)  # fmt: skip

VERDICTS = {"best": "best", "even": "not told apart", "worse": "worse", "unknown": "cannot be told"}


def csv_text(results: Results, facts: Facts) -> str:
    """Return one line a configuration: what was found, then its settings; numbers in full, empty where there is none.

    Values of settings are words, numbers, or JSON; a setting that does not act is empty. No cell is taken for a formula
    by a spreadsheet: a text that looks like one begins with an apostrophe.
    """
    keys = in_order(results, facts)
    names = [key if key not in COLUMNS else f"settings.{key}" for key in keys]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_safe(name) for name in (*COLUMNS, *names)])
    for row in results.rows:
        settings = [_setting(row.settings[key]) if key in row.settings else "" for key in keys]
        writer.writerow([*(_safe(cell) for cell in _cells(row)), *map(_safe, settings)])
    return text.getvalue()


def markdown(record: SweepRecord, results: Results, facts: Facts, found: Importance | str) -> str:
    """Return the report as Markdown."""
    blocks = [f"# {_escaped(facts.name)}", " ".join([_escaped(standing(record, results)), *map(_escaped, facts.notes)])]
    best = results.best
    if best is not None:
        blocks += [
            "## Best configuration",
            _escaped(f"{facts.metric}: {with_interval(best.estimate)} (trial {best.trial})"),
        ]
        blocks.append("\n".join(f"- {_escaped(key)}: {_escaped(label(value))}" for key, value in best.settings.items()))
        blocks += [f"{words}:\n\n{_code(command)}" for words, command in commands(results, facts)]
    blocks += ["## Configurations", _table(*_ranking(results, facts))]
    if len(results.rows) > SHOWN:
        blocks.append(f"{len(results.rows) - SHOWN} more are in results.csv.")
    blocks.append("\n".join(f"- {_escaped(line)}" for line in remarks(results, facts)))
    blocks += ["## Importance", _escaped(found) if isinstance(found, str) else _importance(found)]
    unranked = [row for row in results.rows if row.rank is None and row.reasons]
    if unranked:
        lines = [
            f"- trial {row.trial} ({row.state}): {_escaped('; '.join(map(gist, row.reasons)))}"
            for row in unranked[:SHOWN]
        ]
        blocks += ["## How the others ended", "\n".join(lines)]
    blocks += ["## Going on", _code(facts.command), _escaped(facts.written)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def standing(record: SweepRecord, results: Results) -> str:
    """Return in one sentence how far the sweep is."""
    states = [row.state for row in results.rows]
    parts = [
        f"{states.count(state):,} {words}"
        for state, words in (
            ("done", "trained to the end"),
            ("pruned", "pruned"),
            ("failed", "failed"),
            ("open", "not finished"),
        )
        if state in states
    ]
    if not parts:
        return "No configuration has been begun yet."
    some = f"{len(states):,} configuration{'s' * (len(states) != 1)}"
    runs = sum(run.same_as is None for run in record.runs)
    hours = "" if not record.hours else f", {duration(3600 * record.hours)} at work"
    return f"{some}: {', '.join(parts)}; {runs:,} run{'s' * (runs != 1)}, {made(record):,} updates{hours}."


def made(record: SweepRecord) -> int:
    """Return the updates that were made, of copies none."""
    return sum(run.update for run in record.runs if run.same_as is None)


def verdict(results: Results) -> str:
    """Return in a sentence or two what the ranking tells and what it does not."""
    best = results.best
    if best is None:
        first = next((row for row in results.rows if row.value is not None), None)
        if first is None:
            return "No configuration has a value yet."
        return (
            f"No configuration is trained to its end with a value from every seed yet. Trial {first.trial} leads those "
            f"that came furthest, with {number(first.value)} at update {first.update:,}."
        )
    others = len(results.distinct) - 1
    if not others:
        return "It is the only configuration that was trained to its end."
    if not results.comparisons:
        return (
            f"It has the best value of {others + 1}, but with fewer than two seeds in common nothing tells a better "
            "configuration from a luckier one."
        )
    even = results.count("even")
    if results.count("worse") == others:
        return f"{'The other one is' if others == 1 else f'All {others} others are'} told apart from it."
    if even == others == 1:
        return "The other one is not told apart from it."
    said = f"{even} of {others} others {'is' if even == 1 else 'are'} not told apart from it"
    unknown = results.count("unknown")
    said += f"; {unknown} cannot be, for want of common seeds" if unknown else ""
    return f"{said}."


def remarks(results: Results, facts: Facts) -> list[str]:
    """Return what a reader has to know to read the numbers rightly."""
    percent = f"{100 * results.level:g} %"
    evaluation = "its best evaluation" if facts.value == "best" else "its last evaluation"
    lines = [f"The value of a run is {facts.metric} of {evaluation}; that of a configuration the mean over its seeds."]
    several = any(len(row.values) > 1 for row in results.rows)
    if several:
        lines.append(
            f"[low, high] is the {percent} interval of that mean over seeds (Student's t): where the mean over ever "
            "more seeds would come to lie."
        )
    else:
        lines.append("There is one seed a configuration, so no value has an interval: set sweep.n_seeds to 3 or more.")
    if results.comparisons:
        lines += _comparisons(results, percent)
    if results.best is not None and len(results.distinct) > 1:
        lines.append(
            "Part of the lead of the best is luck, because it was chosen for its lead: a fair value comes from seeds "
            "that took no part in the choice (there is a command for it), or from a split that took none."
        )
    if short := [str(row.trial) for row in results.rows if row.state == "failed" and row.values]:
        some = ", ".join(short[:8]) + (", ..." if len(short) > 8 else "")
        lines.append(
            f"Without a rank, because a seed failed and leaving it out would flatter the configuration: trial {some}."
        )
    if strange := [str(row.trial) for row in results.rows if row.state == "done" and row.rank is None]:
        lines.append(
            "Without a rank, because the value of a run is missing or is no finite number: trial "
            f"{', '.join(strange[:8])}{', ...' * (len(strange) > 8)}."
        )
    if any(row.state == "pruned" for row in results.rows):
        lines.append(
            "Pruned configurations have no rank: their values are those of fewer updates, and one that starts slowly "
            "may have been ended although it would have won."
        )
    if any(row.same_as is not None for row in results.rows):
        lines.append("Configurations that come out as the same config were run once; the copies count nowhere.")
    if results.costs:
        lines.append("Seconds and memory are as measured, on whichever machine and beside whatever else ran there.")
    return lines


def _comparisons(results: Results, percent: str) -> list[str]:
    count, worse = results.comparisons, results.count("worse")
    sure = sum(row.sure for row in results.distinct)
    lines = [
        f"Held against the best: {count} configuration{'s' * (count != 1)}, each by the {percent} interval of the "
        "difference, seed by seed, over the seeds that both have. Where it holds 0, the two are not told apart.",
    ]
    if any(
        row.difference is not None and row.difference.low is not None and not half(row.difference)
        for row in results.distinct
    ):
        lines.append(
            "A difference that is the same for every seed has an interval without width, which coarse measures come to "
            "by chance: take it for one that cannot be told until there are more seeds."
        )
    if count > 1:
        lines.append(
            f"These {count} intervals are not corrected for being several, nor for the best having been chosen as the "
            "best of many: of equally good configurations some would be called worse by chance alone. "
            f"{worse} {'is' if worse == 1 else 'are'} called worse; by intervals wide enough for all {results.pairs:,} "
            f"pairs at once (Bonferroni), which covers the choice too, {sure} would be."
        )
    return lines


def commands(results: Results, facts: Facts) -> list[tuple[str, str]]:
    """Return what each command does and the command, for the best configuration; none without one."""
    best = results.best
    if best is None:
        return []
    return [
        ("Train it again", again(facts.dir, best)),
        ("Train it with a seed that took no part in the choice", again(facts.dir, best, seed=fresh_seed(results))),
    ]


def against(row: Row) -> str:
    """Return what is said of a configuration against the best."""
    if row.verdict is None:
        return row.state
    if row.verdict == "best" or row.difference is None:
        return VERDICTS[row.verdict]
    return f"{VERDICTS[row.verdict]}: {with_interval(row.difference, signed=True)}"


def seeds_of(row: Row) -> str:
    """Return how many seeds have a value, and of how many where some have none."""
    return str(len(row.values)) if len(row.values) == len(row.runs) else f"{len(row.values)} of {len(row.runs)}"


def value_of(row: Row) -> str:
    """Return the value of a configuration without a rank, and how many of its seeds gave it where some did not."""
    if row.value is None:
        return "-"
    return number(row.value) + ("" if len(row.values) == len(row.runs) else f" ({seeds_of(row)} seeds)")


def updates_of(row: Row) -> str:
    """Return the updates that were made, and of how many where some were not."""
    return f"{row.update:,}" if row.total in (None, row.update) else f"{row.update:,} of {row.total:,}"


def _ranking(results: Results, facts: Facts) -> tuple[list[str], list[list[str]]]:
    keys = in_order(results, facts)
    head = ["rank", facts.metric, "against the best", *keys, "seeds", "updates", "time a run", "memory", "trial"]
    rows = [
        [
            "" if row.rank is None else str(row.rank),
            with_interval(row.estimate),
            against(row) if row.same_as is None else f"same as trial {row.same_as}",
            *(label(row.settings[key]) if key in row.settings else NOT_SET for key in keys),
            seeds_of(row),
            updates_of(row),
            "" if row.seconds is None else duration(row.seconds),
            "" if row.memory is None else amount(row.memory),
            f"{row.trial}{' (front)' if row.front else ''}",
        ]
        for row in results.rows[:SHOWN]
    ]
    return head, rows


def _importance(found: Importance) -> str:
    rows = [
        [name, f"{share:.0%}", f"{found.chance[name]:.0%}", "yes" if found.matters(name) else "no"]
        for name, share in found.shares.items()
    ]
    table = _table(["range", "share", "by chance", "above chance"], rows)
    return f"{table}\n\n{_escaped(importance_words(found))}"


def importance_words(found: Importance) -> str:
    """Return how the shares are to be read."""
    return (
        f"Share of what sets the best {found.target} of {found.configurations} configurations apart (PED-ANOVA). "
        "Shares sum to 100 % also where nothing matters, so each is held against chance: the part of the same whole "
        f"that one in 20 of {found.shuffles} random shuffles of the values exceeds, which may be more than all of it. "
        "A range below that may matter all the same; it takes more configurations to tell."
    )


def _cells(row: Row) -> list[Any]:
    low, high = (None, None) if row.estimate is None else (row.estimate.low, row.estimate.high)
    gap = row.difference
    return [
        row.rank,
        row.trial,
        row.state,
        row.value,
        low,
        high,
        row.verdict,
        *((None, None, None) if gap is None else (gap.value, gap.low, gap.high)),
        " ".join(map(str, row.values)),
        " ".join(map(repr, row.values.values())),
        row.update,
        row.total,
        row.seconds,
        row.memory,
        "yes" if row.front else "",
        row.same_as,
        " ".join(run.folder for run in row.runs),
        "; ".join(row.reasons),
    ]


def _setting(value: Any) -> Any:
    """Return a setting as a cell: numbers and words as they are, everything else as JSON."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return value if isinstance(value, str) and value else identity(value)


def _safe(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula, without signs that readers of CSV stumble over."""
    if not isinstance(cell, str):
        return repr(cell) if isinstance(cell, float) else cell
    cell = "\n".join(map(printable, cell.split("\n")))
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\n") else cell


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, *rows]
    text = ["| " + " | ".join(map(_escaped, line)) + " |" for line in lines]
    return "\n".join([text[0], "|" + " --- |" * len(head), *text[1:]])


def _code(command: str) -> str:
    """Return a command as a block that nothing in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence}sh\n{printable(command)}\n{fence}"


def _escaped(text: str) -> str:
    """Return a text of which Markdown takes nothing for its own; an underscore within a word is none of Markdown's."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*|~$]|\](?=[\[(:]))", r"\\\1", text)  # brackets alone are no link
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return re.sub(r"^(\s*)([#>+-]|\d+[.)])(?=\s|$)", r"\1\\\2", text)
