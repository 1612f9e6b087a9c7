"""Everything about a run that needs no torch: its folder and lock, its files, the machine it ran on, lists of runs."""

from quincunx.runs.files import (
    LineFile,
    as_number,
    metric_rows,
    read_json,
    read_lines,
    read_metrics,
    to_json,
    write_atomically,
)
from quincunx.runs.folder import Holder, RunFolder, claim, reopen
from quincunx.runs.listing import (
    Best,
    RunSummary,
    State,
    Summary,
    as_table,
    list_runs,
    read_config,
    read_summary,
    state_of,
)
from quincunx.runs.machine import environment, mask_secrets

__all__ = [
    "Best",
    "Holder",
    "LineFile",
    "RunFolder",
    "RunSummary",
    "State",
    "Summary",
    "as_number",
    "as_table",
    "claim",
    "environment",
    "list_runs",
    "mask_secrets",
    "metric_rows",
    "read_config",
    "read_json",
    "read_lines",
    "read_metrics",
    "read_summary",
    "reopen",
    "state_of",
    "to_json",
    "write_atomically",
]
