"""The first pass: a context, in one or several segments, becomes what branches see of it.

Segments are passes of their own here, each over its own tokens alone, laid behind one another without the gaps that
other segments leave. B batch, C context, s tokens of a segment, K slots of a segment, N segments, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quincunx.nn.pretrained.cache import cut, kept, new_cache
from quincunx.recipes.compression.model import layout
from quincunx.recipes.compression.model.compressed import Compressed, memory_tokens
from quincunx.recipes.compression.model.layout import after, needed
from quincunx.recipes.compression.model.masks import Sight
from quincunx.recipes.compression.model.readout import mixture, pooled

if TYPE_CHECKING:
    from quincunx.recipes.compression.model.compressor import Compressor, Piece


def compress_segments(
    model: Compressor, tensors: Mapping[str, Tensor], segments: int, following: Tensor | None
) -> Compressed:
    """Return contexts compressed segment by segment; arguments as in `Compressor.compress`."""
    settings = model.compress_settings
    count = needed(tensors, "slot_positions").shape[1] // segments
    made: list[Compressed] = []
    visible: list[Compressed] = []  # to the next segment
    for number in range(segments):
        earlier = Compressed.join(visible) if visible else None
        found = _segment(model, tensors, number, segments, count, earlier)
        made.append(found)
        if settings.join == "concatenate":
            continue
        visible = [*visible, found] if settings.join == "accumulate" else [found]
        if settings.stop_gradient is not None and (number + 1) % settings.stop_gradient == 0:
            visible = [part.detach() for part in visible]
    whole = Compressed.join(made[-1:] if settings.join == "recurrent" else made)
    return replace(whole, following=_following(tensors, whole) if following is None else following)


def _segment(
    model: Compressor, tensors: Mapping[str, Tensor], number: int, segments: int, count: int, earlier: Compressed | None
) -> Compressed:
    """Return what one segment is compressed to, given what it sees of those before it."""
    settings = model.compress_settings
    own = slice(number * count, (number + 1) * count)
    slots = needed(tensors, "slot_positions")[:, own]
    context = _context(model, tensors, number if segments > 1 else None)
    pieces = [context]
    if settings.readout != "mean_pool":
        if model.new.separator is not None:
            at = needed(tensors, "separator_positions")[:, number : number + 1]
            pieces.append((model.new.separators(1, len(slots)), layout.separators(at, len(context[1]), number)))
        tokens = layout.slots(slots, 1, len(context[1]), causal=model.causal, earlier=own.start)
        pieces.append((model.new.first_slots(count, 1, len(slots)), tokens))
    sight = Sight(settings.mutual)
    nothing = slots[:, :0]  # what follows is known to the whole alone
    if settings.readout == "kv":
        layers = () if earlier is None else earlier.layers or ()
        before = None if earlier is None else memory_tokens(earlier)
        cache = new_cache(layers)
        unread = sum(len(tokens) for _, tokens in pieces[:-1])
        model.run(pieces, cache=cache, before=before, sight=sight, unread=unread)
        seen = torch.ones_like(slots, dtype=torch.bool)
        return Compressed(slots, seen, nothing, layers=cut(kept(cache), -count))
    ahead = 0
    if earlier is not None and earlier.embeddings is not None:
        memory = memory_tokens(earlier)
        pieces, ahead = [(earlier.embeddings, memory), *pieces], len(memory)
    states = _states(model, pieces, sight)
    if settings.readout == "tokens":
        found, seen = _read(model, states[:, -count:]), torch.ones_like(slots, dtype=torch.bool)
    else:
        length = len(context[1])
        found, seen = pooled(_read(model, states[:, ahead : ahead + length]), context[1].seen, count)
    positions = tensors.get("memory_positions", needed(tensors, "slot_positions"))[:, own]
    return Compressed(positions, seen, nothing, embeddings=model.projection(found))


def _states(model: Compressor, pieces: list[Piece], sight: Sight) -> Tensor:
    """Return the states `[B, S, D]` of the layer that is read; of the last one for the mixture of outputs."""
    last = model.backbone.config.num_hidden_layers
    if model.layer in (None, last):
        return model.run(pieces, sight=sight).last_hidden_state
    return model.run(pieces, sight=sight, all_layers=True).hidden_states[model.layer]


def _read(model: Compressor, states: Tensor) -> Tensor:
    if model.layer is not None:
        return states
    table: Any = model.backbone.get_input_embeddings()
    return mixture(model.logits(states), table.weight)


def _context(model: Compressor, tensors: Mapping[str, Tensor], number: int | None) -> Piece:
    """Return a segment's tokens `[B, s]`, those that are seen moved together; without a number the context as it is."""
    words, seen = needed(tensors, "context"), needed(tensors, "context_seen")
    positions = needed(tensors, "context_positions")
    if number is not None:
        own = seen & (needed(tensors, "context_segment") == number)
        lengths = own.sum(1, keepdim=True)
        longest = max(1, int(lengths.max()))
        order = torch.argsort(own, dim=1, descending=True, stable=True)[:, :longest]
        words, positions = words.gather(1, order), positions.gather(1, order)
        seen = torch.arange(longest, device=words.device) < lengths
    # numbered apart from other segments', whose tokens are moved together too
    first = None if not number else layout.SEGMENTS + (number << 20)
    return model.embed(words), layout.context(seen, positions, causal=model.causal, number=first)


def _following(tensors: Mapping[str, Tensor], whole: Compressed) -> Tensor:
    """Return the position `[B, 1]` after the trunk's last; of the second pass, where that counts anew."""
    ends = [after(whole.positions, whole.seen)]
    if "memory_positions" not in tensors:
        every = ("separator_positions", "slot_positions")
        ends += [
            after(tensors[name], torch.ones_like(tensors[name], dtype=torch.bool)) for name in every if name in tensors
        ]
        ends.append(after(tensors["context_positions"], tensors["context_seen"]))
    return torch.cat(ends, 1).amax(1, keepdim=True)
