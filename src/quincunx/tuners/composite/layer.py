"""Parts of several methods round one module; they are what each method makes, one round the other."""

from __future__ import annotations

from collections.abc import Mapping

from quincunx.tuners.adapter import Chain, SiteAdapter


def joined(parts: Mapping[str, SiteAdapter]) -> SiteAdapter:
    """Return parts as one, the first one innermost."""
    return Chain(parts)
