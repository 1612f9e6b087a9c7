"""From a config to tokenizers and encoders: loaded, built round a tokenizer of the corpus, or as a run kept them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.nn.pretrained import SentenceLayout, build_backbone, find_folder, load_backbone, load_scorer, read_layout
from quincunx.nn.pretrained.kept import files_of, read_model, read_tokenizer
from quincunx.nn.pretrained.load import add_special_tokens
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
    layout: SentenceLayout | None = None
    """What a sentence-transformers folder says beside its transformer."""
    files: dict[str, str] = field(default_factory=dict[str, str])
    """What the run keeps of them, by path in its folder."""
    notes: list[str] = field(default_factory=list[str])
    untrained: list[str] = field(default_factory=list[str])
    """Weights of a pretrained encoder that begin at random."""


def make_encoders(config: RetrievalConfig, corpus: Corpus | None = None, home: Path | None = None) -> Encoders:
    """Return the encoders of a decided config, with fresh or pretrained weights, ready to train.

    Args:
        config: The config.
        corpus: The texts that a tokenizer is trained on, where one is; None: there is nothing to train one on.
        home: The run folder that kept the encoders' form; weights are loaded afterwards, so none are read here.

    Raises:
        UsageError: An encoder cannot be loaded or built as asked.
    """
    made = _Maker(config, corpus, home)
    scorer = config.mode == "cross-encoder"
    query, query_tokenizer = made.encoder(KEPT, config.encoder.path, config.encoder.revision, scorer=scorer)
    files = {f"{KEPT}/{name}": text for name, text in files_of(query, query_tokenizer).items()}
    own = config.document.path is not None
    if scorer or (config.encoder.share != "nothing" and not own):
        document, document_tokenizer = query, query_tokenizer
    elif own:
        document, document_tokenizer = made.encoder(KEPT_DOCUMENT, config.document.path, config.document.revision)
        files |= {f"{KEPT_DOCUMENT}/{name}": text for name, text in files_of(document, document_tokenizer).items()}
    else:
        document, document_tokenizer = copy.deepcopy(query), query_tokenizer
    shared = document is query
    if config.document.special_tokens:
        add_special_tokens(document, document_tokenizer, config.document.special_tokens)
        if not shared and document_tokenizer is query_tokenizer:
            add_special_tokens(query, query_tokenizer, ())
        files |= {f"{KEPT}/{name}": text for name, text in files_of(query, query_tokenizer).items()}
    notes = list(made.notes)
    query = _adapted(query, config, notes)
    document = query if shared else _adapted(document, config, [])
    return Encoders(query, document, query_tokenizer, document_tokenizer, made.layout, files, notes, made.untrained)


def longest(config: RetrievalConfig, side: str, encoders: Encoders) -> int:
    """Return how many tokens of a text are kept: what the config says, else what the encoder takes, at most 512."""
    chosen = getattr(config, side).max_length
    if chosen is not None:
        return chosen
    model, tokenizer = getattr(encoders, side), getattr(encoders, f"{side}_tokenizer")
    limits = [MOST, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    if encoders.layout is not None:
        limits.append(encoders.layout.max_length)
    return min(int(limit) for limit in limits if limit)


@dataclass
class _Maker:
    config: RetrievalConfig
    corpus: Corpus | None
    home: Path | None
    layout: SentenceLayout | None = None
    notes: list[str] = field(default_factory=list[str])
    untrained: list[str] = field(default_factory=list[str])

    def encoder(
        self, kept: str, path: str | None, revision: str | None, *, scorer: bool = False
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return a model and its tokenizer, as the run kept them, from a path, or built."""
        chosen = self.config.encoder
        if self.home is not None and (self.home / kept / "config.json").is_file():
            model = read_model(self.home / kept, attn_implementation=chosen.attn_implementation, scorer=scorer)
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
        self.layout = self.layout or layout
        source = folder if layout is None else layout.transformer
        options["special_tokens"] = chosen.special_tokens
        if scorer:
            model, tokenizer, self.untrained = load_scorer(source, **options)
        else:
            model, tokenizer = load_backbone(source, **options)
        if chosen.tokenizer.path is not None:
            tokenizer = add_special_tokens(model, self._tokenizer(), chosen.special_tokens)
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
        return build_backbone({**sizes, **build.options}, tokenizer, scorer=scorer, **options), tokenizer

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        chosen, build = self.config.encoder.tokenizer, self.config.encoder.build
        if chosen.path is not None:
            tokenizer = read_tokenizer(find_folder(chosen.path))
            tokenizer.model_max_length = min(tokenizer.model_max_length, build.positions)
            return tokenizer
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


def _adapted(model: PreTrainedModel, config: RetrievalConfig, notes: list[str]) -> nn.Module:
    """Return the model with adapters in it and frozen parts frozen."""
    frozen = config.encoder.freeze
    if frozen == "backbone":
        model.requires_grad_(False)
    elif frozen == "embeddings":
        model.get_input_embeddings().requires_grad_(False)
    if config.peft.method is None and config.peft.train is None:
        return model
    attached = attach(model, config.peft)
    notes += attached.notes
    return attached.model
