"""From a config to tokenizers and encoders: loaded, built round a tokenizer of the corpus, or as a run kept them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from quincunx.errors import UsageError
from quincunx.nn.pretrained import (
    DenseLayer,
    SentenceLayout,
    build_backbone,
    find_folder,
    load_backbone,
    load_scorer,
    read_layout,
)
from quincunx.nn.pretrained.kept import files_of, read_model, read_tokenizer
from quincunx.nn.pretrained.load import add_special_tokens, only_shapes
from quincunx.nn.pretrained.placeholder import placeholder_tokenizer
from quincunx.nn.pretrained.tokens import Tokens
from quincunx.nn.pretrained.train_tokenizer import train_tokenizer
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.tuners import attach

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST = 512
"""Tokens of a text where neither config nor encoder say less."""
HIDDEN = ("intermediate_size", "hidden_dim", "d_ff", "ffn_dim", "encoder_ffn_dim")
"""Names under which architectures keep the hidden width of an MLP."""
KEPT, KEPT_DOCUMENT = "encoder", "document_encoder"
"""Folders of the run folder for what a run keeps of its encoders."""

DENSE = "dense.json"
"""File there of the layers of a head that came with the encoder."""

Corpus = Callable[[], Iterable[str]]


@dataclass
class Encoders:
    """What both sides are encoded by, before poolings and projections."""

    query: Any
    """The model to call, adapters in it."""
    document: Any
    """Of documents: the same object where the backbone is shared."""
    query_tokenizer: PreTrainedTokenizerBase
    document_tokenizer: PreTrainedTokenizerBase
    layouts: dict[str, SentenceLayout] = field(default_factory=dict[str, SentenceLayout])
    """By side: what a sentence-transformers folder that was read says beside its transformer."""
    dense: dict[str, Sequence[DenseLayer]] = field(default_factory=dict[str, Sequence[DenseLayer]])
    """By side: the layers of such a folder's head; read back from a run, their sizes alone."""
    files: dict[str, str] = field(default_factory=dict[str, str])
    """What the run keeps of them, by path in its folder."""
    notes: list[str] = field(default_factory=list[str])
    untrained: list[str] = field(default_factory=list[str])
    """Weights of a pretrained encoder that begin at random."""


def make_encoders(config: RetrievalConfig, corpus: Corpus | None = None, home: Path | None = None) -> Encoders:
    """Return the encoders of a decided config, with fresh or pretrained weights, ready to train.

    Args:
        config: The config.
        corpus: The texts that a tokenizer is trained on, where one is; None: there is nothing to train one on. On the
            meta device, where models have shapes alone, none is needed.
        home: The run folder that kept the encoders' form; weights are loaded afterwards, so none are read here.

    Raises:
        UsageError: An encoder cannot be loaded or built as asked.
    """
    made = _Maker(config, corpus, home)
    scorer = config.mode == "cross-encoder"
    query, query_tokenizer = made.encoder(KEPT, config.encoder.path, config.encoder.revision, scorer=scorer)
    files = made.files(KEPT, query, query_tokenizer)
    own = config.document.path is not None
    if scorer or (config.encoder.share != "nothing" and not own):
        document, document_tokenizer = query, query_tokenizer
    elif own:
        document, document_tokenizer = made.encoder(KEPT_DOCUMENT, config.document.path, config.document.revision)
        files |= made.files(KEPT_DOCUMENT, document, document_tokenizer)
    else:
        document, document_tokenizer = copy.deepcopy(query), query_tokenizer
    shared = document is query
    if config.document.special_tokens:
        add_special_tokens(document, document_tokenizer, config.document.special_tokens)
        if not shared and document_tokenizer is query_tokenizer:
            add_special_tokens(query, query_tokenizer, ())
        files |= made.files(KEPT, query, query_tokenizer)
        if own:
            files |= made.files(KEPT_DOCUMENT, document, document_tokenizer)
    notes = list(made.notes)
    query = _adapted(query, config, notes, made.untrained)
    document = query if shared else _adapted(document, config, [], made.untrained)
    places = {"query": KEPT, "document": KEPT_DOCUMENT if own else KEPT}
    if config.init_from is not None and home is None:
        for place, tokenizer in {KEPT: query_tokenizer, places["document"]: document_tokenizer}.items():
            _check_start(config, place, tokenizer, notes)
    return Encoders(
        query,
        document,
        query_tokenizer,
        document_tokenizer,
        {side: made.layouts[place] for side, place in places.items() if place in made.layouts},
        {side: made.dense[place] for side, place in places.items() if place in made.dense},
        files,
        notes,
        made.untrained,
    )


def _check_start(config: RetrievalConfig, place: str, tokenizer: PreTrainedTokenizerBase, notes: list[str]) -> None:
    """Refuse a tokenizer that numbers tokens otherwise than that of the run whose weights training starts from."""
    start = Path(config.init_from or "").expanduser()
    run = start.parent.parent if start.parent.name == "checkpoints" else start
    kept = run / place
    if (
        not (kept / "tokenizer.json").is_file()
        or Tokens(read_tokenizer(kept)).fingerprint == Tokens(tokenizer).fingerprint
    ):
        return
    said = f"the tokenizer is not that of init_from ({kept}): its weights would stand for other tokens"
    if not config.init_partial:
        setting = "document.path" if place == KEPT_DOCUMENT else "encoder.tokenizer.path"
        raise UsageError(f"{said}. Set {setting}={kept}, or init_partial=true if that is meant")
    notes.append(said)


def longest(config: RetrievalConfig, side: str, encoders: Encoders) -> int:
    """Return how many tokens of a text are kept: what the config says, else what the encoder takes, at most 512."""
    return getattr(config, side).max_length or room(side, encoders)


def room(side: str, encoders: Encoders) -> int:
    """Return how many tokens the encoder of a side takes, at most 512."""
    model, tokenizer = getattr(encoders, side), getattr(encoders, f"{side}_tokenizer")
    limits = [MOST, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    if side in encoders.layouts:
        limits.append(encoders.layouts[side].max_length)
    return min(int(limit) for limit in limits if limit)


def as_the_folders_say(
    config: RetrievalConfig, encoders: Encoders, explicit: Collection[str], tokenized: Collection[str] = ()
) -> RetrievalConfig:
    """Return the config with what folders of sentence-transformers say and nobody set otherwise; notes say so.

    The run's folder then holds it, and does not need theirs any more.

    Args:
        config: A decided config.
        encoders: Made for it.
        explicit: Dotted paths of the settings that somebody made.
        tokenized: The sides of which some texts are token ids, before which no prompt can be put.
    """
    changes: dict[str, dict[str, Any]] = {}

    def take(section: str, setting: str, value: Any, place: str | None) -> None:
        changes.setdefault(section, {})[setting] = value
        shown = repr(value) if setting == "prompt" else value
        encoders.notes.append(f"{section}.{setting}: {shown}, as {place} says")

    layout, place = encoders.layouts.get("query"), config.encoder.path
    pooling = config.encoder.pooling
    if layout is not None:
        if "encoder.pooling" not in explicit and layout.pooling != pooling:
            take("encoder", "pooling", pooling := layout.pooling, place)
        similar = "cosine" if layout.normalize else layout.similarity
        if "objective.similarity" not in explicit and similar not in (None, config.objective.similarity):
            take("objective", "similarity", similar, place)
    own = encoders.layouts.get("document") if config.document.path is not None else None
    if own is not None and "document.pooling" not in explicit and own.pooling != (config.document.pooling or pooling):
        take("document", "pooling", own.pooling, config.document.path)
    for side, found in encoders.layouts.items():
        section = getattr(config, side)
        place = config.encoder.path if side == "query" else config.document.path or config.encoder.path
        prompt = found.query_prompt if side == "query" else found.document_prompt
        if prompt != section.prompt and f"{side}.prompt" not in explicit:
            hindered = "texts are cut on the left" if section.truncate == "left" else None
            hindered = "texts were tokenized beforehand" if side in tokenized else hindered
            if hindered is None:
                take(side, "prompt", prompt, place)
            else:
                encoders.notes.append(f"{side}.prompt: not {prompt!r}, as {place} says, because {hindered}")
        if found.max_length is not None and section.max_length is None:
            changes.setdefault(side, {})["max_length"] = room(side, encoders)
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=update) for name, update in changes.items()}
    )


@dataclass
class _Maker:
    config: RetrievalConfig
    corpus: Corpus | None
    home: Path | None
    layouts: dict[str, SentenceLayout] = field(default_factory=dict[str, SentenceLayout])
    dense: dict[str, Sequence[DenseLayer]] = field(default_factory=dict[str, Sequence[DenseLayer]])
    """Both by the folder of the run in which the encoder is kept."""
    notes: list[str] = field(default_factory=list[str])
    untrained: list[str] = field(default_factory=list[str])

    def encoder(
        self, kept: str, path: str | None, revision: str | None, *, scorer: bool = False
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return a model and its tokenizer, as the run kept them, from a path, or built."""
        chosen = self.config.encoder
        if self.home is not None and (self.home / kept / "config.json").is_file():
            model = read_model(self.home / kept, attn_implementation=chosen.attn_implementation, scorer=scorer)
            if (self.home / kept / DENSE).is_file():
                self.dense[kept] = _dense_of(self.home / kept / DENSE)
            return model, read_tokenizer(self.home / kept)
        options: dict[str, Any] = {
            "attn_implementation": chosen.attn_implementation,
            "dropout": chosen.dropout,
            "attention_dropout": chosen.attention_dropout,
        }
        if path is None:
            return self._built(options, scorer)
        folder = find_folder(path, revision)
        layout = None if scorer else read_layout(folder)
        if layout is not None:
            self.layouts[kept] = layout
            if layout.dense:
                self.dense[kept] = layout.dense
        source = folder if layout is None else layout.transformer
        options["special_tokens"] = chosen.special_tokens
        if scorer:
            model, tokenizer, self.untrained = load_scorer(source, **options)
        else:
            model, tokenizer = load_backbone(source, **options)
        if chosen.tokenizer.path is not None:
            tokenizer = add_special_tokens(model, self._tokenizer(), self._added)
        return model, tokenizer

    def _built(self, options: dict[str, Any], scorer: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        from transformers import AutoConfig

        build, tokenizer = self.config.encoder.build, self._tokenizer()
        sizes: dict[str, Any] = {
            "architecture": build.architecture,
            "num_hidden_layers": build.num_layers,
            "hidden_size": build.width,
            "num_attention_heads": build.num_heads,
        }
        known: Any = AutoConfig.for_model(build.architecture) if build.architecture in _architectures() else None
        name = next((name for name in HIDDEN if hasattr(known, name)), HIDDEN[0])
        sizes[name] = build.hidden or 4 * build.width
        model = build_backbone({**sizes, **build.options}, tokenizer, scorer=scorer, **options)
        # one that is trained here has them already
        return model, add_special_tokens(model, tokenizer, self._added)

    @property
    def _added(self) -> Sequence[str]:
        """The special tokens that a tokenizer of a path of its own lacks."""
        chosen = self.config.encoder
        return chosen.special_tokens if chosen.tokenizer.path is not None else ()

    def files(self, kept: str, model: Any, tokenizer: Any) -> dict[str, str]:
        """Return what the run keeps of an encoder, by path in its folder."""
        files = files_of(model, tokenizer)
        if kept in self.dense:
            sizes = [[*layer.weight.shape, layer.bias is not None, layer.activation] for layer in self.dense[kept]]
            files[DENSE] = json.dumps(sizes)
        return {f"{kept}/{name}": text for name, text in files.items()}

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        chosen, build = self.config.encoder.tokenizer, self.config.encoder.build
        if chosen.path is not None:
            tokenizer = read_tokenizer(find_folder(chosen.path))
            if self.config.encoder.path is None:
                tokenizer.model_max_length = min(tokenizer.model_max_length, build.positions)
            return tokenizer
        if only_shapes():
            self.notes.append(f"a tokenizer of {chosen.vocabulary:,} entries, the most that its training may give")
            return placeholder_tokenizer(chosen.vocabulary, self.config.encoder.special_tokens, build.positions)
        if self.corpus is None:
            raise ValueError("there is no corpus to train the tokenizer on, and no run that kept one")
        made = train_tokenizer(
            self.corpus(),
            vocabulary=chosen.vocabulary,
            kind=chosen.kind,
            lowercase=chosen.lower_case,
            special_tokens=self.config.encoder.special_tokens,
            max_length=build.positions,
        )
        self.notes.append(f"a {chosen.kind} tokenizer of {len(made):,} entries was trained on the corpus")
        return made


def _architectures() -> frozenset[str]:
    from transformers.models.auto import configuration_auto

    return frozenset(configuration_auto.CONFIG_MAPPING_NAMES)  # pyright: ignore[reportPrivateImportUsage]


def _dense_of(file: Path) -> list[DenseLayer]:
    """Return layers of the sizes that a run kept, for weights that are loaded afterwards."""
    sizes = json.loads(file.read_text(encoding="utf-8"))
    return [
        DenseLayer(torch.zeros(out, width), torch.zeros(out) if biased else None, activation)
        for out, width, biased, activation in sizes
    ]


def _adapted(model: PreTrainedModel, config: RetrievalConfig, notes: list[str], untrained: Sequence[str]) -> nn.Module:
    """Return the model with adapters in it and frozen parts frozen."""
    frozen = config.encoder.freeze
    if frozen == "backbone":
        model.base_model.requires_grad_(False)  # a cross-encoder's head is none of it
        for name in untrained:
            model.get_parameter(name).requires_grad_(True)
    elif frozen == "embeddings":
        model.get_input_embeddings().requires_grad_(False)
    if config.peft.method is None and config.peft.train is None:
        return model
    attached = attach(model, config.peft)
    notes += attached.notes
    return attached.model
