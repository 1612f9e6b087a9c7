"""Data of the `retrieval` recipe: collections, the readers of their files, and a corpus made from Python's own code.

What is named here never imports torch; `batch`, `sampling` and what they stand on do, and are imported by their names.
"""

from __future__ import annotations

from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.load import FORMATS, load_collection
from quincunx.recipes.retrieval.data.readers.files import NoSuchSplit
from quincunx.recipes.retrieval.data.texts import Strings, Texts, TokenTexts

__all__ = ["FORMATS", "Collection", "NoSuchSplit", "Relations", "Strings", "Texts", "TokenTexts", "load_collection"]
