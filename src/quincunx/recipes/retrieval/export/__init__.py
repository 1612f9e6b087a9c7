"""Trained models in forms that other programs read, each compared with the run before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.data.readers.files import BadRows
from quincunx.recipes.retrieval.data.stream import CorpusStream
from quincunx.recipes.retrieval.export.cross_encoder import write_cross_encoder
from quincunx.recipes.retrieval.export.graphs import RUNTIMES, write_graphs
from quincunx.recipes.retrieval.export.opened import Opened, Side, open_run
from quincunx.recipes.retrieval.export.sentence_transformers import write_sentence_transformers
from quincunx.recipes.retrieval.written import ExportError, new_folder

FORMATS = ("sentence-transformers", "onnx", "openvino")
LOOKED_AT = 8192
"""Documents at the head of a corpus from which those are taken that set 8 bits up."""

__all__ = ["FORMATS", "ExportError", "export_model"]


def export_model(
    home: Path,
    config: Any,
    checkpoint: Path,
    out: Path,
    *,
    format: str,
    int8: bool = False,
    corpus: str | None = None,
    card: Callable[[Opened, list[str]], str],
) -> list[str]:
    """Write a checkpoint's model in another program's form; what is left on an error is nothing.

    Args:
        home: The run folder.
        config: Its config.
        checkpoint: Folder of the checkpoint.
        out: A folder that is not there yet.
        format: One of FORMATS.
        int8: Of a graph: linear maps in 8 bits.
        corpus: With `int8`: texts from which scales are taken, in any form that `quincunx encode` reads.
        card: Makes the text of the folder's README.md of the opened model and the sentences on what was compared.

    Returns:
        Those sentences.

    Raises:
        UsageError: A model or option that the format has no form for, or `out` is there already.
        DataError: The corpus cannot be read.
        ExportError: What was written does not do what the run does.
        RunError: It cannot be written there.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r}: {', '.join(FORMATS)}")
    if format not in RUNTIMES and (int8 or corpus is not None):
        raise UsageError("8 bits are for --format onnx and --format openvino: sentence-transformers takes float32")
    if int8 != (corpus is not None):
        lacking = "--corpus, texts to set them up by" if int8 else "--int8, for which --corpus is"
        raise UsageError(f"8 bits need {lacking}")
    with new_folder(out) as folder:
        texts = None if corpus is None else sample_of(corpus)
        opened = open_run(home, config, checkpoint)
        if format in RUNTIMES:
            tokens = None if texts is None else _tokens(texts)
            notes = write_graphs(folder, opened, RUNTIMES[format], tokens)
        elif opened.pairs is not None:
            notes = write_cross_encoder(folder, opened)
        else:
            notes = write_sentence_transformers(folder, opened)
        (folder / "README.md").write_text(card(opened, notes), encoding="utf-8")
    return notes


def _tokens(texts: list[str]) -> Callable[[Side], Sequence[NDArray[np.int32]]]:
    return lambda side: side.tokens(texts)


def sample_of(corpus: str, most: int = 384) -> list[str]:
    """Return texts spread evenly over the head of a corpus."""
    stream = CorpusStream(corpus)
    try:
        head = [row.text for row in islice(stream.rows(BadRows()), LOOKED_AT)]
    finally:
        stream.close()
    places = np.linspace(0, len(head) - 1, min(most, len(head))).astype(int) if head else ()
    return [head[place] for place in places]
