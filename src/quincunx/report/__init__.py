"""Reports: one self-contained page a run, made from its folder alone, so that any run of any recipe has one."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from quincunx.report.collect import RunData, collect
from quincunx.report.curves import charts
from quincunx.report.draw import to_png
from quincunx.report.html import page

__all__ = ["RunData", "collect", "write_report"]


def write_report(folder: Path) -> Path:
    """Write `report.html`, and `report/<metric>.png` for every curve, into a run folder; return the page's path.

    Reads nothing but the folder; also for a run that is going on, was interrupted or is damaged, and says so.

    Raises:
        RunError: There is no such folder, or the files cannot be written.
    """
    from importlib.metadata import version

    data = collect(folder)
    curves = charts(data)
    try:
        config_text = data.folder.config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        config_text = ""
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    for chart in curves:
        data.folder.write_bytes(f"report/{chart.file_name}.png", to_png(chart))
    return data.folder.write_text(
        "report.html", page(data, curves, config_text, f"Written {now} by quincunx {version('quincunx')}.")
    )
