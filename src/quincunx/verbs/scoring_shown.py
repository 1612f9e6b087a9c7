"""How the verbs below `score` show what they measured: tables or JSON, intervals, and every sample's values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.verbs.common import aligned, say

if TYPE_CHECKING:
    from quincunx.metrics.measured import Measured


def add_output(made: argparse.ArgumentParser) -> None:
    """Add the options of what is shown and written."""
    made.add_argument("--json", action="store_true", help="as JSON, in full precision")
    what = "with --json, also the bounds of the 95 %% intervals, as NAME_low and NAME_high"
    made.add_argument("--intervals", action="store_true", help=what)
    made.add_argument(
        "--samples", metavar="FILE", help="also write every sample's values, as JSON {measure: {id: value}}"
    )


@contextmanager
def of_file(path: str) -> Iterator[None]:
    """Name the file of what is wrong with its data."""
    from quincunx.errors import DataError

    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def say_measures(
    options: argparse.Namespace,
    found: Mapping[str, Measured],
    kinds: Mapping[str, Mapping[str, Measured]] | None = None,
) -> None:
    """Show measures, with tables by kind, and write the samples' values where it is asked for."""
    from quincunx.runs.files import to_json, write_atomically

    if options.samples is not None:
        values = {name: measured.by_name for name, measured in found.items()}
        write_atomically(Path(options.samples), to_json(values, indent=1))
    if options.json:
        plain: dict[str, Any] = {}
        for name, measured in found.items():
            plain[name] = measured.value
            if options.intervals:
                bounds = measured.interval()
                plain |= {f"{name}_low": bounds.low, f"{name}_high": bounds.high}
        for kind, groups in (kinds or {}).items():
            plain[f"by_{kind.replace(' ', '_')}"] = {group: measured.value for group, measured in groups.items()}
        say(to_json(plain, indent=1).decode())
        return
    some = next(iter(found.values()))
    say(f"{len(some.names):,} samples; 95 % intervals by resampling them\n")
    say(_table("measure", found))
    for kind, groups in (kinds or {}).items():
        if groups:
            say("\n" + _table(kind, groups))


def _table(head: str, found: Mapping[str, Measured]) -> str:
    rows = [
        (name, len(measured.names), f"{measured.value:.4f}", f"{bounds.low:.4f} to {bounds.high:.4f}")
        for name, measured in found.items()
        for bounds in [measured.interval()]
    ]
    return aligned([(head, "samples", "value", "interval"), *rows])
