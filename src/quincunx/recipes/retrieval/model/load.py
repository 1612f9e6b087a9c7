"""A text encoder from a folder or the hub: the transformer, and what a sentence-transformers folder puts after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.nn.pretrained import SentenceLayout, find_folder, load_backbone, read_layout
from quincunx.recipes.retrieval.model.text_encoder import Pooling, Projection, TextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_text_encoder(
    path: str | Path,
    *,
    pooling: Pooling | None = None,
    projection: Projection | None = None,
    normalize: bool | None = None,
    gradient_checkpointing: bool = False,
    revision: str | None = None,
    **options: Any,
) -> tuple[TextEncoder, PreTrainedTokenizerBase, SentenceLayout | None]:
    """Return a text encoder, its tokenizer, and what the folder said beside the transformer, if it is of that kind.

    Args:
        path: A folder of transformers or sentence-transformers, or a name on the hub.
        pooling: None: the folder's, else `mean`.
        projection: None: the folder's dense layers, if any.
        normalize: None: what the folder says, else False.
        gradient_checkpointing: As in `TextEncoder`.
        revision: Branch, tag or commit on the hub.
        options: Of `quincunx.nn.pretrained.load_backbone`.

    Raises:
        UsageError: As in `load_backbone` and `TextEncoder`.
    """
    folder = find_folder(path, revision)
    layout = read_layout(folder)
    backbone, tokenizer = load_backbone(folder, **options)
    if layout is not None:
        pooling = pooling or ("cls" if layout.pooling == "cls" else "last" if layout.pooling == "last" else "mean")
        if projection is None and layout.dense:
            projection = Projection.saved(layout.dense)
        normalize = layout.normalize if normalize is None else normalize
    encoder = TextEncoder(
        backbone,
        pooling or "mean",
        projection=projection,
        normalize=bool(normalize),
        gradient_checkpointing=gradient_checkpointing,
    )
    return encoder, tokenizer, layout
