"""Where prepared data is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(configured: str | None) -> Path:
    """Return the folder for prepared data: the configured one, else QUINCUNX_CACHE, else `~/.cache/quincunx`."""
    return Path(configured or os.environ.get("QUINCUNX_CACHE") or "~/.cache/quincunx").expanduser()
