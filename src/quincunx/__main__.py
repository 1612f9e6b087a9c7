"""`python -m quincunx` and the command `quincunx`."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line and leave with its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end of the process
    try:
        from quincunx.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before anything was begun
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
