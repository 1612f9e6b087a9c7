"""`python -m quincunx` and the command `quincunx`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from quincunx.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before anything was begun
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
