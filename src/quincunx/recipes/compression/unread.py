"""The model of a config without weights and without its texts: what its shapes are, before anything is downloaded."""

from __future__ import annotations

import torch

from quincunx.nn.pretrained.placeholder import placeholder_tokenizer
from quincunx.recipes.compression import assemble
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.data.tokenizer import read_tokenizer, train_tokenizer
from quincunx.recipes.compression.kinds import generated, lengths
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.sources import read


def unread(config: CompressionConfig) -> tuple[Compressor, list[str]]:
    """Return the compressor of a decided config, and what was taken for granted; to be called on the meta device.

    Examples that are made by rule are made, for their lengths and their alphabet; texts are not looked at.
    """
    notes: list[str] = []
    language = assemble.pretrained(config)
    chosen = config.tokenizer
    context, forward = lengths(config)
    most = assemble.longest_sequence(config, context + forward)
    if language is not None:
        pass
    elif generated(config) is not None:
        with torch.device("cpu"):
            found = read(config, None)
        config, notes = assemble.numbered(config, found.splits)
        most = max(
            assemble.longest_sequence(config, int(split.lengths.max())) for split in found.splits.values() if len(split)
        )
        language = assemble.built(config, found.tokenizer, max(most, config.positions.size or 0))
    elif chosen.path is not None:
        language = assemble.built(config, read_tokenizer(chosen.path), most)
    elif chosen.kind == "byte":
        language = assemble.built(config, train_tokenizer((), "byte", 0), most)
    else:
        notes.append(f"a tokenizer of {chosen.vocabulary:,} entries, the most that its training may give")
        language = assemble.built(config, placeholder_tokenizer(chosen.vocabulary), most)
    if config.positions.size is None and assemble.needs_numbers(config):
        notes.append(f"positions.size is {3 * most:,}, three times the longest sequence that the lengths allow")
        config = config.model_copy(update={"positions": config.positions.model_copy(update={"size": 3 * most})})
    model, said = assemble.make_model(config, language)
    return model, [*notes, *said]
