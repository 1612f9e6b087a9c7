"""What a sweep found, written down: a page to look at, Markdown to quote, CSV to compute with."""

from __future__ import annotations

from pathlib import Path

from quincunx.runs.files import write_atomically
from quincunx.sweep.records import SweepRecord
from quincunx.sweep.report.importance import importance
from quincunx.sweep.report.page import page
from quincunx.sweep.report.results import table
from quincunx.sweep.report.texts import csv_text, markdown
from quincunx.sweep.report.values import Facts, RangeFact

__all__ = ["Facts", "RangeFact", "write_sweep_report"]


def write_sweep_report(dir: Path, record: SweepRecord, facts: Facts) -> list[Path]:
    """Write `report.html`, `report.md` and `results.csv` into a sweep's folder; return their paths, in this order.

    Works at any moment, also before the first run has ended and with runs that failed; a file is replaced as a whole.

    Args:
        dir: The sweep's folder; run folders in it whose own report is there are linked.
        record: The sweep as it stands.
        facts: What a report says beside the trials.

    Raises:
        RunError: A file cannot be written.
    """
    results = table(record, facts.goal)
    found = importance(record, results, facts.ranges)
    reports = {run.folder for run in record.runs if (dir / run.folder / "report.html").is_file()}
    texts = {
        "report.html": page(record, results, facts, found, reports),
        "report.md": markdown(record, results, facts, found),
        "results.csv": csv_text(results, facts),
    }
    for name, text in texts.items():
        # a name may hold half of a surrogate pair, which UTF-8 cannot write
        write_atomically(dir / name, text.encode("utf-8", "backslashreplace"))
    return [dir / name for name in texts]
