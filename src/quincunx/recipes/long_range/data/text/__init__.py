"""Texts with labels, byte by byte: class folders, CSV, JSON lines or a saved Hugging Face dataset.

A token is a byte of the UTF-8 text plus 1, as in the Long Range Arena (Tay et al. 2021, arXiv 2011.04006), where the
texts are the IMDb reviews (Maas et al. 2011).
"""

from __future__ import annotations

from quincunx.recipes.long_range.data.text.assemble import load, sample

__all__ = ["load", "sample"]
