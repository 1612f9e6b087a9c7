"""Compressing models small enough for tests, and ragged batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from small_encoders import tokenizer

SIZES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1},
    "gpt2": {},
    # the first layer sees everything, the second three positions back
    "qwen2": {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "mistral": {"sliding_window": 4},
}
LENGTHS = [5, 3, 6]
"""Tokens of each context."""
FORWARD = [4, 5, 2]
"""Tokens of each text after it."""


def backbone(
    architecture: str = "llama", *, attention: str = "sdpa", dtype: torch.dtype = torch.float64, dropout: float = 0.0
) -> Any:
    """Return a causal language model of two layers, the same at every call."""
    from quincunx.nn.pretrained.causal import build_causal

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3}
    if architecture != "gpt2":
        sizes["intermediate_size"] = 24
    # long enough for any numbering that a test comes up with
    settings = {"architecture": architecture, "max_position_embeddings": 128, **sizes, **SIZES[architecture]}
    of_states = dropout if architecture == "gpt2" else None
    options: Any = {"attn_implementation": attention, "dropout": of_states, "attention_dropout": dropout}
    return build_causal(settings, tokenizer(), **options).to(dtype)


def compressor(architecture: str = "llama", *, attention: str = "sdpa", dropout: float = 0.0, **options: Any) -> Any:
    """Return a compressor of that model in float64; options are of the section `compress`, or the compressor's own."""
    from quincunx.recipes.compression.config_model import Compress
    from quincunx.recipes.compression.model.compressor import Compressor

    own = {name: options.pop(name) for name in ("slots", "causal", "positions", "table", "starts") if name in options}
    made = backbone(architecture, attention=attention, dropout=dropout)
    torch.manual_seed(1)
    return Compressor(made, Compress(**options), **{"slots": 3, **own})


def batch(
    *,
    slots: int = 3,
    segments: int = 1,
    separator: bool = False,
    style: Any = "continue",
    wider: int = 0,
    lengths: list[int] | None = None,
    forward: list[int] | None = None,
) -> dict[str, Tensor]:
    """Return a ragged batch of all branches; `wider` adds columns of padding everywhere.

    The tokens of a row do not depend on the padding, nor on the other rows.
    """
    from quincunx.recipes.compression.model.layout import number

    lengths, forward = lengths or LENGTHS, forward or FORWARD
    sizes, texts = torch.tensor(lengths), torch.tensor(forward)
    context = _words(lengths, max(lengths) + wider, 1)
    columns = torch.arange(context.shape[1])
    segment = None
    if segments > 1:
        segment = (columns * segments // sizes[:, None]).clamp(max=segments - 1)
    ranks = number(
        sizes, slots, longest=len(columns), separator=separator, segment=segment, segments=segments, style=style
    )
    found = {
        "context": context,
        "context_seen": columns < sizes[:, None],
        "context_positions": ranks.context,
        "slot_positions": ranks.slots,
    }
    if segment is not None:
        found["context_segment"] = segment
    if separator:
        found["separator_positions"] = ranks.separators
    if style == "restart":
        found["memory_positions"] = ranks.memory
    whole = [a + b for a, b in zip(lengths, forward, strict=True)]
    for name, size, first in (
        ("forward", texts, ranks.branch),
        ("reconstruction", sizes, ranks.branch),
        ("without", texts, ranks.branch),
        ("full", texts, ranks.full),
        ("plain", torch.tensor(whole), torch.zeros_like(sizes)),
    ):
        salt = {"reconstruction": 1, "plain": 3}.get(name, 2)
        words = _words(size.tolist(), int(size.max()) + wider, salt)
        places = torch.arange(words.shape[1] + (name != "plain"))
        found[f"{name}_tokens"] = words
        found[f"{name}_seen"] = torch.arange(words.shape[1]) < size[:, None]
        found[f"{name}_positions"] = first[:, None] + places
    return found


def rows_of(tensors: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """Return one row as a batch of its own, without its padding."""
    lengths = {name: int(tensors[f"{name}_seen"][row].sum()) for name in _texts(tensors)}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        text = next((each for each in lengths if name.startswith(f"{each}_") or name == each), None)
        one = tensor[row : row + 1]
        if text is not None:
            start = name.endswith("_positions") and text not in ("context", "plain")
            one = one[:, : lengths[text] + start]
        found[name] = one
    return found


def _texts(tensors: dict[str, Tensor]) -> list[str]:
    return [name.removesuffix("_seen") for name in tensors if name.endswith("_seen")]


def _words(lengths: list[int], width: int, salt: int) -> Tensor:
    """Return tokens `[B, width]` that depend on row, column and salt alone; padding is token 0."""
    rows, columns = torch.arange(len(lengths))[:, None], torch.arange(width)
    words = (rows * 31 + columns * 17 + columns * columns * 7 + salt * 53) % 120 + 5
    return words.where(columns < torch.tensor(lengths)[:, None], torch.zeros(()).long())
