"""A causal language model that compresses: states of branches, in one masked pass or in two.

With the read-out `kv` both give the same: a branch sees of the slots nothing but their keys and values, whether they
were computed in its own pass or before. B batch, C context, K slots, M compressed tokens, L branch, S all tokens, D
width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from quincunx.data.batch import Batch
from quincunx.errors import UsageError
from quincunx.nn.positions import PositionTable
from quincunx.nn.pretrained.cache import kept, new_cache
from quincunx.nn.pretrained.causal import token_logits, windows
from quincunx.nn.pretrained.facts import position_table
from quincunx.nn.rows import Columns, RowAware
from quincunx.recipes.compression.config_model import Compress
from quincunx.recipes.compression.model import layout, masks, parts
from quincunx.recipes.compression.model.compressed import Compressed, memory_tokens
from quincunx.recipes.compression.model.last_layer import last_layer, since
from quincunx.recipes.compression.model.layout import BRANCHES, Tokens, after, needed
from quincunx.recipes.compression.model.new_tokens import NewTokens
from quincunx.recipes.compression.model.readout import Projection, layer_number
from quincunx.recipes.compression.model.segments import compress_segments
from quincunx.tuners.positions import Teller

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Plan = Literal["one_pass", "two_pass"]
Piece = tuple[Tensor, Tokens]
"""Embeddings `[B, s, D]` without positions, and what the mask has to know of them."""
OWN_POSITIONS = ("model", "rope")
"""Kinds of positions that the backbone makes of `position_ids` itself."""


class Compressor(Teller):
    """The backbone with what compression adds to it.

    Args:
        backbone: A causal language model; see `quincunx.nn.pretrained.causal`.
        compress: The section `compress`.
        slots: Rows of the slot table: the most that are ever in use; 0 where nothing is compressed.
        starts: Whether branches begin with a start; false where only plain texts are read.
        causal: False: the context, and plain texts, are read both ways.
        positions: Kind of positions: `model` or `rope` (the backbone's own), `sinusoidal` or `random` (a table added to
            the embeddings), `alibi`, `none`. With the last four the backbone is told 0 everywhere, which no rotation
            and no table tells tokens apart by.
        table: The table, for the kinds that have one.

    Raises:
        UsageError: What is asked for does not go together, named with the remedy.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        compress: Compress,
        *,
        slots: int,
        starts: bool = True,
        causal: bool = True,
        positions: str = "model",
        table: PositionTable | None = None,
    ) -> None:
        super().__init__()
        _check(compress, slots)
        if (table is None) != (positions not in ("sinusoidal", "random")):
            raise UsageError(f"positions of the kind {positions} {'need a' if table is None else 'have no'} table")
        self.backbone = backbone
        self.row = RowAware()
        """Knows the rows at hand."""
        self.compress_settings = compress
        self.sight = masks.Sight(compress.mutual, compress.join, compress.segments)
        self.causal = causal
        self.position_kind = positions
        self.position_table = table
        config: Any = backbone.config
        vocabulary: Any = backbone.get_input_embeddings()
        in_trunk = 0 if compress.readout == "mean_pool" else slots
        self.new = NewTokens(vocabulary.weight, in_trunk, compress.separator and in_trunk > 0, starts)
        self.projection = Projection(compress.projection, vocabulary.weight.shape[1], compress.projection_factor)
        self.projection.to(vocabulary.weight)
        self.layer = layer_number(compress.layer, config.num_hidden_layers)
        self.windows = windows(backbone)
        self.heads: int = config.num_attention_heads
        # windows are a matter of each layer, and then a mask for each kind is what the library takes
        self._by_parts = tuple(self.windows.values()) == (None,) and parts.use(backbone)
        # not as a submodule: its weights are the backbone's
        self._last: nn.Module | None
        object.__setattr__(self, "_last", last_layer(backbone) if self._by_parts else None)
        self._learned_positions = position_table(backbone) is not None

    @property
    def plan(self) -> Plan:
        """The plan where none is asked for."""
        return self.compress_settings.plan or ("one_pass" if self.compress_settings.readout == "kv" else "two_pass")

    @property
    def device(self) -> torch.device:
        """Where tokens are to be."""
        table: Any = self.backbone.get_input_embeddings()
        return table.weight.device

    def forward(self, batch: Batch | Mapping[str, Tensor], branches: Sequence[str]) -> dict[str, Tensor]:
        """Return `states` by the usual plan."""
        return self.states(batch, branches)

    def states(
        self, batch: Batch | Mapping[str, Tensor], branches: Sequence[str], plan: Plan | None = None
    ) -> dict[str, Tensor]:
        """Return the last states of branches, by name, `[B, start + L, D]`; `logits` makes predictions of chosen ones.

        Of the trunk only that is computed which one of the branches sees.

        Args:
            batch: Tensors by name: `context`, `context_seen`, `context_positions` `[B, C]`, `slot_positions` `[B, N K]`
                (its width says how many slots are used), with a separator `separator_positions` `[B, N]`, with several
                segments `context_segment` `[B, C]`, for another place in the second pass `memory_positions` `[B, N K]`;
                and for each branch `<name>_tokens`, `<name>_seen` `[B, L]`, `<name>_positions` `[B, start + L]`.
            branches: Names, of `quincunx.recipes.compression.model.layout.BRANCHES`.
            plan: `one_pass` or `two_pass`.

        Raises:
            UsageError: A tensor is missing, a plan or branch cannot be had.
        """
        tensors = batch.tensors if isinstance(batch, Batch) else batch
        for name in branches:
            if name not in BRANCHES:
                raise UsageError(f"unknown branch {name!r}: there are {', '.join(BRANCHES)}")
        plan = plan or self.plan
        sees = {BRANCHES[name].sees for name in branches}
        if plan == "two_pass":
            return self._two_passes(tensors, branches, "compressed" in sees)
        if self.compress_settings.stop_gradient is not None and self.sight.segments > 1:
            raise UsageError("compress.stop_gradient cuts between passes: choose compress.plan two_pass")
        if "compressed" in sees and self.compress_settings.readout != "kv":
            raise UsageError(
                f"the read-out {self.compress_settings.readout} feeds one pass with what another has found: choose "
                "compress.plan two_pass, or compress.readout kv"
            )
        pieces = self._trunk(tensors, "compressed" in sees) if sees - {"nothing"} else []
        if "context" in sees and self.sight.segments > 1:
            pieces = [*(pieces if "compressed" in sees else []), self._context(tensors, whole=True)]
        before = sum(len(tokens) for _, tokens in pieces)
        pieces = [*pieces, *(self._branch(tensors, name, number) for number, name in enumerate(branches))]
        unread = (
            len(pieces[0][1]) if "compressed" in sees and not ("context" in sees and self.sight.segments == 1) else 0
        )
        states = self.run(pieces, unread=unread).last_hidden_state
        lengths = [len(tokens) for _, tokens in pieces[len(pieces) - len(branches) :]]
        return dict(zip(branches, states[:, before:].split(lengths, 1), strict=True))

    def logits(self, states: Tensor) -> Tensor:
        """Return the logits `[..., V]` of last states `[..., D]`: at column j of a branch, of what comes next."""
        return token_logits(self.backbone, states)

    def compress(
        self, batch: Batch | Mapping[str, Tensor], *, following: Tensor | None = None, segments: int | None = None
    ) -> Compressed:
        """Return contexts as branches see them once they are compressed.

        Args:
            batch: The tensors of the trunk; see `states`.
            following: `[B, P]`: positions, from the same draw, of the tokens to come. Unset: they are counted on from
                the last of the trunk.
            segments: Into how many the contexts are cut, where it is not `compress.segments`.

        Raises:
            UsageError: A tensor is missing; or keys and values are asked for under gradient checkpointing in training,
                where the library does not keep any.
        """
        tensors = batch.tensors if isinstance(batch, Batch) else batch
        if self.compress_settings.readout == "kv" and self.training and self._checkpoints():
            raise UsageError(
                "model.gradient_checkpointing does not keep the keys and values that compress.plan two_pass needs: "
                "choose compress.plan one_pass, or compress.readout tokens"
            )
        return compress_segments(self, tensors, segments or self.sight.segments, following)

    def read(self, batch: Batch | Mapping[str, Tensor], *, following: Tensor | None = None) -> Compressed:
        """Return the contexts uncompressed, in the form of compressed ones: keys and values of all their tokens.

        What goes on from there is the yardstick: it has seen everything, at the full price.
        """
        tensors = batch.tensors if isinstance(batch, Batch) else batch
        piece = self._context(tensors, whole=True)
        cache = new_cache()
        self.run([piece], cache=cache)
        seen, positions = piece[1].seen, piece[1].positions
        return Compressed(positions, seen, after(positions, seen) if following is None else following, kept(cache))

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the vocabulary's embeddings `[B, S, D]`, without positions."""
        table: Any = self.backbone.get_input_embeddings()
        return table(tokens)

    def memory(self, compressed: Compressed) -> tuple[Any, Tokens, list[Piece]]:
        """Return a compressed context as a pass takes it: a cache (None without), its tokens, and pieces to compute."""
        tokens = memory_tokens(compressed)
        if compressed.embeddings is not None:
            return None, tokens, [(compressed.embeddings, tokens)]
        return new_cache(compressed.layers or ()), tokens, []

    def run(
        self,
        pieces: Sequence[Piece],
        *,
        cache: Any = None,
        before: Tokens | None = None,
        all_layers: bool = False,
        sight: masks.Sight | None = None,
        unread: int = 0,
    ) -> Any:
        """Return the backbone's output for pieces behind one another.

        Args:
            pieces: What is computed.
            cache: Keys and values from before, to which this pass adds its own; see `quincunx.nn.pretrained.cache`.
            before: The tokens that the cache holds.
            all_layers: Also return the states of every layer (`hidden_states`).
            sight: Other choices than the model's own, for parts of a trunk.
            unread: So many first tokens of which nothing is read in the last layer, neither by the caller nor by other
                tokens that the caller reads: their last states may be anything.
        """
        tokens = layout.joined([part for _, part in pieces])
        whole = tokens if before is None else layout.joined([before, tokens])
        embedded = torch.cat([each for each, _ in pieces], 1) if len(pieces) > 1 else pieces[0][0]
        base: Any = self.backbone.base_model
        first = len(whole) - len(tokens)
        with (
            self.row.numbering(Columns(tokens.numbers, whole.numbers)),
            self._narrowed(whole, first, unread, embedded.dtype, sight or self.sight),
            self.telling(tokens.seen),
        ):
            if self.position_table is not None:
                embedded = embedded + self.position_table(tokens.positions).to(embedded.dtype)
            return base(
                inputs_embeds=embedded,
                **self._who_sees_whom(whole, first, embedded, sight or self.sight),
                position_ids=self._position_ids(tokens.positions),
                past_key_values=cache,
                use_cache=cache is not None,
                output_hidden_states=all_layers,
            )

    def _narrowed(
        self, tokens: Tokens, first: int, unread: int, dtype: torch.dtype, sight: masks.Sight
    ) -> AbstractContextManager[None]:
        """Return a context in which the last layer leaves out the first so many computed tokens."""
        if unread == 0 or self._last is None or torch.compiler.is_compiling():
            return nullcontext()
        spans = [span for span in tokens.spans if span.stop <= first or span.start >= first + unread]
        bias = self._bias(dtype) if self.position_kind == "alibi" else None
        chosen = layout.picked(tokens, spans)
        return since(self._last, unread, parts.split(chosen, first, sight, dtype, bias, self.row))

    def _who_sees_whom(self, tokens: Tokens, first: int, embedded: Tensor, sight: masks.Sight) -> dict[str, Any]:
        """Return the arguments that say it: parts, or a mask, or one for each kind of layer where there are several."""
        bias = self._bias(embedded.dtype) if self.position_kind == "alibi" else None
        if self._by_parts:
            return {
                "attention_mask": parts.placeholder(embedded),
                "parts": parts.split(tokens, first, sight, embedded.dtype, bias, self.row),
            }
        added = None if bias is None else bias(tokens, first)
        found = {
            kind: masks.additive(masks.opened(tokens, sight, first, window), embedded.dtype, added)
            for kind, window in self.windows.items()
        }
        return {"attention_mask": found if len(found) > 1 else next(iter(found.values()))}

    def _bias(self, dtype: torch.dtype) -> Callable[[Tokens, int], Tensor]:
        return lambda tokens, first: masks.linear_bias(tokens, self.heads, first, dtype, causal=self.causal)

    def _position_ids(self, positions: Tensor) -> Tensor:
        if self.position_kind not in OWN_POSITIONS:
            return torch.zeros_like(positions, dtype=torch.int64)
        if positions.is_floating_point() and self._learned_positions:
            raise UsageError(
                f"{self.backbone.config.model_type} has a table of whole positions, and these are drawn between them: "
                "choose positions.sample integer, or another kind"
            )
        return positions

    def _two_passes(
        self, tensors: Mapping[str, Tensor], branches: Sequence[str], compresses: bool
    ) -> dict[str, Tensor]:
        compressed = self.compress(tensors) if compresses else None
        found: dict[str, Tensor] = {}
        for number, name in enumerate(branches):
            piece = self._branch(tensors, name, number)
            cache, before, pieces = None, None, [piece]
            if BRANCHES[name].sees == "compressed" and compressed is not None:
                cache, tokens, ahead = self.memory(compressed)
                before = tokens if cache is not None else None
                pieces = [*ahead, piece]
            elif BRANCHES[name].sees == "context":
                pieces = [self._context(tensors, whole=True), piece]
            states = self.run(pieces, cache=cache, before=before).last_hidden_state
            found[name] = states[:, states.shape[1] - len(piece[1]) :]
        return found

    def _trunk(self, tensors: Mapping[str, Tensor], compresses: bool) -> list[Piece]:
        """Return the trunk: of one that nothing is compressed from, the context alone."""
        pieces = [self._context(tensors)]
        if not compresses:
            return pieces
        segments = self.sight.segments
        positions = needed(tensors, "slot_positions")
        batch, after_context = len(positions), len(pieces[0][1])
        if self.new.separator is not None:
            at = needed(tensors, "separator_positions")
            pieces.append((self.new.separators(segments, batch), layout.separators(at, after_context)))
        tokens = layout.slots(positions, segments, after_context, causal=self.causal)
        return [*pieces, (self.new.first_slots(positions.shape[1] // segments, segments, batch), tokens)]

    def _context(self, tensors: Mapping[str, Tensor], *, whole: bool = False) -> Piece:
        segment = None if whole or self.sight.segments == 1 else needed(tensors, "context_segment")
        stream = layout.WHOLE if whole else layout.TRUNK
        seen, positions = needed(tensors, "context_seen"), needed(tensors, "context_positions")
        # where nothing cuts it, the whole is the trunk's own context, in whichever pass it is computed
        number = layout.UNCUT if self.sight.segments == 1 else None
        tokens = layout.context(seen, positions, segment, causal=self.causal, stream=stream, number=number)
        return self.embed(needed(tensors, "context")), tokens

    def _branch(self, tensors: Mapping[str, Tensor], name: str, number: int) -> Piece:
        words, seen = needed(tensors, f"{name}_tokens"), needed(tensors, f"{name}_seen")
        return self.branch(name, words, seen, needed(tensors, f"{name}_positions"), number)

    def branch(self, name: str, words: Tensor, seen: Tensor, positions: Tensor, number: int = 0) -> Piece:
        """Return a branch of tokens `[B, L]`, its start before them where it has one; positions `[B, start + L]`."""
        embedded = self.embed(words)
        start = BRANCHES[name].start
        if start is not None:
            embedded = torch.cat([self.new.start(start, len(words)).to(embedded.dtype), embedded], 1)
        return embedded, layout.branch(name, number, seen, positions, causal=self.causal)

    def _checkpoints(self) -> bool:
        # of the layers themselves: the model's own word for it changes from version to version
        return any(getattr(module, "gradient_checkpointing", False) for module in self.backbone.modules())


def _check(compress: Compress, slots: int) -> None:
    if compress.positions == "restart" and compress.readout == "kv":
        raise UsageError(
            "compress.positions restart moves slots between passes, and keys of the read-out kv hold where "
            "they were: choose continue or uniform, or compress.readout tokens"
        )
    if compress.plan == "one_pass" and compress.readout != "kv" and slots:
        raise UsageError(f"compress.readout {compress.readout} needs compress.plan two_pass: one pass feeds the other")
