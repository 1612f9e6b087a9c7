"""One batch as training or a measurement draws it, in words: what is left out, what each token is to predict, where it
stands, and who sees whom. Reads data and tokenizer, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from quincunx.config.plan import make_plan
from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.data.loader import Updates
from quincunx.data.order import Order
from quincunx.engine.experiment import order_of
from quincunx.errors import UsageError
from quincunx.nn.pretrained.folder import find_folder
from quincunx.nn.pretrained.kept import read_tokenizer
from quincunx.recipes.compression import assemble, blotch
from quincunx.recipes.compression.blotching import Blotching, Texts
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.config_positions import samples
from quincunx.recipes.compression.evaluate.batches import batches
from quincunx.recipes.compression.evaluate.controls import PREDICTED, SEED
from quincunx.recipes.compression.kinds import compresses, generated, lengths, slots, weights
from quincunx.recipes.compression.looking.gloss import Words, cut, gloss
from quincunx.recipes.compression.looking.passes import Drawn, passes
from quincunx.recipes.compression.model.layout import BRANCHES
from quincunx.recipes.compression.shapes import evaluation_shaping, training_shaping
from quincunx.recipes.compression.shaping import Shaping
from quincunx.recipes.compression.sources import Items, Read, read

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Style = Literal["plain", "head", "dropped", "note"]

GLOSSED = 64
"""Tokens of a part that are shown with positions and targets."""
NOTHING = "·"
"""Stands for a token that is to predict nothing."""


class Line(NamedTuple):
    """A line, and what kind of line it is."""

    text: str
    style: Style = "plain"


@dataclass(frozen=True)
class Inspection:
    """A batch in words."""

    lines: Sequence[Line]

    def __str__(self) -> str:
        return "\n".join(line.text for line in self.lines)


def inspect(config: CompressionConfig, number: int = 0, rows: int = 2, split: str = "train") -> Inspection:
    """Return a logical batch in words.

    Args:
        config: A decided config.
        number: Of the batch, from 0: over all of training, or among those that a measurement of the split computes.
        rows: Examples of it that are shown, the first.
        split: `train`: shaped as for training; another: as for its measurement, where nothing is left out.

    Raises:
        UsageError: There is no such batch or split, or no row is asked for.
        DataError: The data cannot be read.
    """
    if number < 0 or rows < 1:
        raise UsageError(f"batches count from 0 and at least 1 row is shown, found batch {number} and {rows} rows")
    found = read(config, _tokenizer(config))
    if split not in found.splits:
        raise UsageError(f"there is no split {split!r}; there are: {', '.join(found.splits)}")
    source = found.splits[split]
    if not len(source):
        raise UsageError(f"the split {split} has no examples")
    config = assemble.numbered(config, found.splits)[0]
    drawn = _trained(config, found, number) if split == "train" else _measured(config, source, split, number)
    shown = range(min(rows, len(drawn.batch)))
    rest = len(drawn.batch) - len(shown)
    lines = [*drawn.lines, *_settings(config, drawn)]
    for row in shown:
        lines += [Line(""), *_row(config, found, source, drawn, row, split)]
    if rest:
        lines += [Line(""), Line(f"{rest} more rows of the batch are not shown (--rows)", "note")]
    return Inspection(lines)


@dataclass(frozen=True)
class _Cut:
    """What blotching did to the texts of a batch."""

    texts: Texts
    """All tokens, those left out marked."""
    units: blotch.Units
    asked: Sequence[str]
    """What of each text was to be left out."""
    led: bool
    """Whether a token before each text tells its share."""


@dataclass(frozen=True)
class _Watched(Blotching):
    """Blotching that notes what it does, in whatever form it is done."""

    noted: list[_Cut] = field(default_factory=list[_Cut])

    def __call__(self, texts: Texts, keys: Tensor) -> Texts:
        masked = Blotching.__call__(replace(self, form="mask", level_tokens=()), texts, keys)
        units, shares = self.cut(texts, keys), self.draw(keys)[1].tolist()
        asked = [f"share {share:.3g}" if self.step is None else f"step {self.step}" for share in shares]
        self.noted.append(_Cut(masked, units, asked, bool(self.levels and self.level_tokens)))
        return super().__call__(texts, keys)


def _watched(blotching: Blotching | None) -> _Watched | None:
    if blotching is None:
        return None
    return _Watched(**{each.name: getattr(blotching, each.name) for each in fields(Blotching)})


@dataclass(frozen=True)
class _Batch:
    """A batch that was drawn, and what is known of how."""

    batch: Batch
    shaping: Shaping
    lines: Sequence[Line]
    context: _Cut | None = None
    text: _Cut | None = None


def _trained(config: CompressionConfig, found: Read, number: int) -> _Batch:
    """Return a logical batch of training."""
    source = found.splits["train"]
    seed = config.seed or 0
    order = order_of(config, len(source), source.lengths, seed)
    update, place = _address(order, number)
    shaping = training_shaping(config, found).at(update)
    context, text = _watched(shaping.context_blotching), _watched(shaping.text_blotching)
    shaping = replace(shaping, context_blotching=context, text_blotching=text)
    batch = Updates(source, shaping, order, seed)[update][place]
    assert batch is not None  # there is one process
    plan = make_plan(config, Sizes(train=len(source)))
    within = "" if config.update.accumulation == 1 else f", logical batch {place + 1} of {len(order.update(update))}"
    head = f"batch {number} of training: update {update + 1} of {plan.stop_at}{within}, {len(batch)} examples"
    lines = [Line(head, "head")]
    if config.seed is None:
        lines.append(Line("no seed is given, so a run draws its own: this is the batch of seed 0", "note"))
    if update >= plan.stop_at:
        lines.append(Line(f"training ends after update {plan.stop_at}: this batch comes later", "note"))
    return _Batch(batch, shaping, lines, *(one and one.noted[place] for one in (context, text)))


def _address(order: Order, number: int) -> tuple[int, int]:
    """Return the update (from 0) of a logical batch, and its place among the update's batches."""
    if order.overfit or order.flows:
        return divmod(number, order.accumulation)
    epoch, within = divmod(number, order.batches_per_epoch)
    updates, place = divmod(within, order.accumulation)
    return epoch * order.updates_per_epoch + updates, place


def _measured(config: CompressionConfig, source: Items, split: str, number: int) -> _Batch:
    """Return a batch as a split's measurement computes it."""
    plan = make_plan(config, Sizes(train=1))
    limit = plan.evaluation_limit if split == "dev" else None
    count = len(source) if limit is None else min(limit, len(source))
    names: tuple[str, ...] = ("plain",)
    if compresses(config):
        names = (*PREDICTED, "reconstruction") if lengths(config)[1] else ("reconstruction",)
    shaping = evaluation_shaping(config, max(slots(config), default=0), names)
    batch = next(islice(batches(source, shaping, plan.evaluation_batch, SEED, count), number, None), None)
    total = -(-count // plan.evaluation_batch)
    if batch is None:
        raise UsageError(f"a measurement of {split} computes {total} batches, counted from 0; there is no {number}")
    head = f"batch {number} of the {total} that measure {split}, shortest first: {len(batch)} examples"
    return _Batch(batch, shaping, [Line(head, "head")])


def _tokenizer(config: CompressionConfig) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of a pretrained model, without the model."""
    path = config.model.path
    return None if path is None else read_tokenizer(find_folder(path, config.model.revision))


def _settings(config: CompressionConfig, drawn: _Batch) -> list[Line]:
    """Return what all rows share."""
    lines: list[Line] = []
    terms = weights(config)
    names = [f"{name} (weight {terms[name]:g})" if name in terms else name for name in drawn.shaping.branches]
    lines.append(Line(f"predicted: {', '.join(names)}", "note"))
    if "slot_positions" in drawn.batch.tensors:
        count, parts = drawn.batch["slot_positions"].shape[1], config.compress.segments
        cuts = "" if parts == 1 else f", {count // parts} for each of {parts} segments ({config.compress.join})"
        lines.append(Line(f"compressed tokens: {count}{cuts}; read-out {config.compress.readout}", "note"))
    kind, sample = config.positions.kind, samples(config)
    if kind == "none" or sample == "none":
        lines.append(Line(f"positions: {kind}, counted", "note"))
    else:
        mode = drawn.shaping.numbering.mode
        lines.append(Line(f"positions: {kind}, {sample} numbers below {config.positions.size}, {mode}", "note"))
    return lines


def _row(config: CompressionConfig, found: Read, source: Items, drawn: _Batch, row: int, split: str) -> list[Line]:
    one = drawn.batch.select([row])
    words = Words(found.tokenizer)
    number = int(one.ids[0])
    of = "" if generated(config) is not None else f" of document {source.document(number)}"
    lines = [Line(f"row {row}: example {number} of {split}{of}", "head")]
    tensors, names = one.tensors, drawn.shaping.branches
    if "context" in tensors:
        targets = tensors.get("reconstruction_targets")
        told = None if targets is None or drawn.shaping.restored else targets[0, 1:]
        lines += _text("context", drawn.context, row, tensors["context"][0], told, words)
    # beside others a plain text is the whole example, and none of it is left out
    text = next((name for name in names if name not in ("reconstruction", "plain")), None)
    if text is not None or names == ("plain",):
        name = text or "plain"
        targets = tensors[f"{name}_targets"][0, BRANCHES[name].start is not None :]
        answers = generated(config) == "tasks"  # each place says its own token: no target jumps over any other
        lines += _text("text", drawn.text, row, tensors[f"{name}_tokens"][0], None if answers else targets, words)
    lines.append(Line(""))
    if "context" in tensors:
        lines += _trunk(config, tensors, words)
    lines += _branches(names, tensors, words)
    for each in passes(config, tensors, names, words):
        lines += [Line(""), *_mask(each)]
    return lines


def _text(what: str, done: _Cut | None, row: int, tokens: Tensor, targets: Tensor | None, words: Words) -> list[Line]:
    """Return a text in words, unit by unit where blotching was at work."""
    if done is None:
        whole = "".join(words[number] for number in tokens.tolist())
        return [Line(cut(f"{what}, {len(tokens)} tokens: {whole}"))]
    size = int(done.texts.lengths[row])
    ids, keep = done.texts.tokens[row, :size], done.texts.keep[row, :size]
    left = int((~keep).sum())
    head = f"{what}, {size} tokens: {left} left out, {done.asked[row]}"
    if done.led:
        head += f", told by {words[int(tokens[0])]}"
    # a text that was excised is shown whole, its targets where they would stand
    wanted = torch.full_like(ids, blotch.UNTRAINED)
    if targets is not None:
        places = keep.nonzero()[:, 0]
        seen = targets[int(done.led) :]
        wanted[places] = seen[places] if len(seen) == size else seen[: len(places)]
    symbols = [words[number] for number in ids.tolist()]
    picture = blotch.picture(symbols, done.units.numbers[row, :size], keep, wanted, words)  # pyright: ignore[reportArgumentType] - asked by number alone
    return [
        Line(head),
        *(Line(cut(line), "dropped" if "  dropped " in line[:14] else "plain") for line in picture.split("\n")),
    ]


def _trunk(config: CompressionConfig, tensors: Mapping[str, Tensor], words: Words) -> list[Line]:
    seen = tensors["context_seen"]
    tokens = _tokens(tensors["context"], seen, words)
    names, rows = ["token", "position"], [tokens, _numbers(tensors["context_positions"])]
    if "context_segment" in tensors:
        names, rows = [*names, "segment"], [*rows, _numbers(tensors["context_segment"])]
    lines = _part("context" + ("" if bool(seen.all()) else ", in brackets what is left out"), names, rows)
    if "separator_positions" in tensors:
        lines += _part("separator", ["position"], [_numbers(tensors["separator_positions"])])
    names, rows = ["position"], [_numbers(tensors["slot_positions"])]
    if "memory_positions" in tensors:
        names, rows = ["position", "in the second pass"], [*rows, _numbers(tensors["memory_positions"])]
    what = "pooled windows" if config.compress.readout == "mean_pool" else "slots"
    return [*lines, *_part(what, names, rows)]


def _branches(names: Sequence[str], tensors: Mapping[str, Tensor], words: Words) -> list[Line]:
    """Return what branches predict; those that differ in nothing but what they see of the context together."""
    alike: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for name in names:
        alike.setdefault(_columns(name, tensors, words), []).append(name)
    lines: list[Line] = []
    for rows, some in alike.items():
        tokens, _, targets = rows
        seen = ", ".join(f"{name} (sees {BRANCHES[name].sees})" for name in some)
        trained = sum(cell != NOTHING for cell in targets)
        head = f"{seen}: {trained} of {len(tokens)} tokens are to predict something"
        lines += _part(head, ["token", "position", "target"], rows)
    return lines


def _columns(name: str, tensors: Mapping[str, Tensor], words: Words) -> tuple[tuple[str, ...], ...]:
    """Return the tokens of a branch, their positions and their targets."""
    tokens = _tokens(tensors[f"{name}_tokens"], tensors[f"{name}_seen"], words)
    if BRANCHES[name].start is not None:
        tokens = (">", *tokens)
    targets = tensors[f"{name}_targets"][0].tolist()
    wanted = tuple(NOTHING if number == blotch.UNTRAINED else words.cell(number) for number in targets)
    return tokens, tuple(_numbers(tensors[f"{name}_positions"])), wanted


def _tokens(ids: Tensor, seen: Tensor, words: Words) -> tuple[str, ...]:
    cells = [words.cell(number) for number in ids[0].tolist()]
    return tuple(cell if sees else f"[{cell}]" for cell, sees in zip(cells, seen[0].tolist(), strict=True))


def _part(head: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Line]:
    count = len(rows[0])
    lines = [Line(head, "head")]
    if count > GLOSSED:
        lines.append(Line(f"  the first {GLOSSED} of {count} tokens", "note"))
    shown = gloss([f"  {name}" for name in names], [row[:GLOSSED] for row in rows])
    return [*lines, *(Line(line) for line in shown)]


def _mask(drawn: Drawn) -> list[Line]:
    lines = [Line(f"who sees whom{drawn.name}", "head")]
    lines += [Line(f"  {note}", "note") for note in drawn.notes]
    return [*lines, *(Line(f"  {line}") for line in drawn.picture.split("\n"))]


def _numbers(tensor: Tensor) -> list[str]:
    return [f"{value:.1f}" if isinstance(value, float) else str(value) for value in tensor[0].tolist()]
