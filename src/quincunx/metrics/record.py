"""The one form in which every evaluator hands over what it found, so that reports need to know no recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A titled table of plain values."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation of one split found."""

    scalars: Mapping[str, float]
    """Metrics by name; a name ending in `_se` is the standard error of the name before it."""
    tables: Sequence[Table] = field(default_factory=tuple)
    samples: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """A few examples with what the model made of them."""
    notes: Sequence[str] = field(default_factory=tuple)
    """Sentences for the terminal and the report, such as a comparison with an oracle."""
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By metric, the value of each example by name: what two runs are compared by, pair by pair."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further text files for the run folder, by path within it; no part of the record."""

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return {
            "scalars": dict(self.scalars),
            "tables": [
                {"title": t.title, "columns": list(t.columns), "rows": [list(row) for row in t.rows]}
                for t in self.tables
            ],
            "samples": [dict(sample) for sample in self.samples],
            "notes": list(self.notes),
            **({"values": {name: dict(found) for name, found in self.values.items()}} if self.values else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that `to_json` wrote."""
        tables = [Table(t["title"], t["columns"], t["rows"]) for t in data.get("tables", ())]
        return cls(data["scalars"], tables, data.get("samples", ()), data.get("notes", ()), data.get("values", {}))
