"""A pretrained encoder and its tokenizer from a folder or the hub, checked to be whole.

Weights come from safetensors files alone, in float32; a model whose files lack a weight is refused, for the library
would fill it with random numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from quincunx.errors import MissingExtra, UsageError
from quincunx.nn.pretrained import packed
from quincunx.nn.pretrained.folder import find_folder, library, read_layout, refuse_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DROPOUTS = (
    "hidden_dropout_prob", "hidden_dropout", "dropout", "dropout_rate", "resid_pdrop", "embd_pdrop",
    "embedding_dropout", "mlp_dropout", "embed_dropout", "resid_dropout",
)  # fmt: skip
"""Names under which architectures keep the dropout of states and embeddings."""
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "attention_probs_dropout")
"""Names under which they keep the dropout of attention weights."""


def load_backbone(
    path: str | Path,
    *,
    attn_implementation: str | None = None,
    revision: str | None = None,
    special_tokens: Sequence[str] = (),
    dropout: float | None = None,
    attention_dropout: float | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return an encoder, without pooler or task head, and its tokenizer.

    Of a sentence-transformers folder it is the transformer; `read_layout` tells the rest. A decoder is taken as it is
    (its last state has seen all tokens); of an encoder with a decoder the encoder, where the library has it apart.

    Args:
        path: A folder, or a name on the hub.
        attn_implementation: `sdpa`, `eager`, `flash_attention_2` ... of the library; None: ours where the library would
            take `sdpa`, else the library's choice.
        revision: Branch, tag or commit on the hub.
        special_tokens: Added to the tokenizer; their embeddings start near the mean of the others.
        dropout: Overrides the model's own for states and embeddings.
        attention_dropout: The same for attention weights.

    Raises:
        UsageError: The folder or name, the network, a file or an option is not as it must be; see `find_folder`.
        MissingExtra: The library is not installed.
    """
    folder, config, tokenizer = opened(path, revision, dropout, attention_dropout)
    model, missing = read_weights(encoder_class(config, path), folder, config, attn_implementation)
    lacking = [name for name in missing if "pooler" not in name]
    if lacking:
        raise UsageError(lacking_weights(folder, config, lacking))
    return finish(model, attn_implementation), add_special_tokens(model, tokenizer, special_tokens)


def load_scorer(
    path: str | Path,
    *,
    attn_implementation: str | None = None,
    revision: str | None = None,
    special_tokens: Sequence[str] = (),
    dropout: float | None = None,
    attention_dropout: float | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """Return a model with a head of one score, its tokenizer, and the names of the weights that are new and random.

    A reranker saved as a sequence classifier of one label comes whole, and the list is empty; of any other encoder the
    head is new, in the architecture's own form. Arguments and errors as in `load_backbone`.
    """
    folder, config, tokenizer = opened(path, revision, dropout, attention_dropout)
    built = config.architectures or []
    if config.num_labels != 1 and any(name.endswith("ForSequenceClassification") for name in built):
        raise UsageError(
            f"{folder} classifies into {config.num_labels} labels; a cross-encoder needs one score: choose a reranker "
            "of one label, or the plain encoder that this model started from"
        )
    make_scorer(config, tokenizer)
    model, missing = read_weights(scorer_class(), folder, config, attn_implementation)
    inside = f"{model.base_model_prefix}."
    lacking = [name for name in missing if name.startswith(inside) and "pooler" not in name]
    if lacking:
        raise UsageError(lacking_weights(folder, config, lacking))
    return finish(model, attn_implementation), add_special_tokens(model, tokenizer, special_tokens), sorted(missing)


def finish(model: PreTrainedModel, attn_implementation: str | None = None) -> PreTrainedModel:
    """Return the model in training mode, without a pooler that nothing reads and without caches of generation.

    Its attention is ours (`quincunx.nn.pretrained.packed`) where nobody chose one.
    """
    if attn_implementation is None:
        packed.use(model)
    if "add_pooling_layer" in inspect.signature(type(model).__init__).parameters:
        setattr(model, "pooler", None)  # noqa: B010 - what the class itself does for add_pooling_layer=False
    model.config.use_cache = False
    return model.train()


def add_special_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]
) -> PreTrainedTokenizerBase:
    """Return the tokenizer with special tokens added, and give the model rows for all that the tokenizer knows."""
    if tokens:
        from tokenizers import AddedToken

        added: list[Any] = [AddedToken(token, special=True, normalized=False) for token in tokens]
        tokenizer.add_tokens(added, special_tokens=True)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > int(rows):  # pyright: ignore[reportArgumentType]
        model.resize_token_embeddings(len(tokenizer))
    return tokenizer


def override_dropout(config: PreTrainedConfig, dropout: float | None, attention_dropout: float | None) -> None:
    """Write dropout probabilities into a config, under whatever names its architecture has for them.

    Raises:
        UsageError: A probability outside [0, 1), or the architecture has no such dropout.
    """
    for word, value, names in (
        ("dropout", dropout, DROPOUTS),
        ("attention_dropout", attention_dropout, ATTENTION_DROPOUTS),
    ):
        if value is None:
            continue
        if not 0 <= value < 1:
            raise UsageError(f"{word} must lie in [0, 1), found {value}")
        own = [name for name in names if hasattr(config, name)]
        if not own and value > 0:
            raise UsageError(f"the architecture {config.model_type!r} has no {word} that could be set: leave it out")
        for name in own:
            setattr(config, name, value)


def transformers_library(purpose: str) -> Any:
    """Return the transformers module; MissingExtra, naming the purpose, when it is not installed."""
    try:
        import transformers
    except ImportError:
        raise MissingExtra("transformers", "retrieval", purpose) from None
    return transformers


def scorer_class() -> Any:
    """Return the class that makes a sequence classifier of any architecture."""
    return transformers_library("a cross-encoder").AutoModelForSequenceClassification


def make_scorer(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Ask a config for a head of one score.

    Raises:
        UsageError: The architecture has a decoder beside its encoder, or no padding token is known, by which the head
            of a decoder finds the last token.
    """
    if config.is_encoder_decoder:
        raise UsageError(
            f"{config.model_type} has an encoder and a decoder; a cross-encoder needs one of the two alone"
        )
    if getattr(config, "pad_token_id", None) is None:
        if tokenizer.pad_token_id is None:
            raise UsageError("the tokenizer has no padding token: choose a model with one, or set one in its folder")
        config.pad_token_id = tokenizer.pad_token_id
    config.num_labels = 1


def opened(
    path: str | Path, revision: str | None, dropout: float | None, attention_dropout: float | None
) -> tuple[Path, PreTrainedConfig, PreTrainedTokenizerBase]:
    """Return the folder of a model's transformer, its config with these dropouts, and its tokenizer."""
    transformers = transformers_library(f"loading {path}")
    folder = find_folder(path, revision)
    layout = read_layout(folder)
    if layout is not None:
        folder = layout.transformer
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} has no config.json: it is no folder of a transformers model")
    own: Mapping[str, bool] = {"trust_remote_code": False, "local_files_only": True}
    config = library(f"the config in {folder}", lambda: transformers.AutoConfig.from_pretrained(folder, **own))
    override_dropout(config, dropout, attention_dropout)
    if not only_shapes():
        refuse_without_weights(folder)
    tokenizer = library(f"the tokenizer in {folder}", lambda: transformers.AutoTokenizer.from_pretrained(folder, **own))
    return folder, config, tokenizer


def encoder_class(config: PreTrainedConfig, path: str | Path) -> Any:
    """Return the class that makes an encoder of this config."""
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    if config.get_text_config() is not config:
        raise UsageError(f"{path} ({config.model_type}) is a model of several inputs, not a text encoder")
    if config.is_encoder_decoder:
        if config.model_type not in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES:
            raise UsageError(
                f"{path} ({config.model_type}) has an encoder and a decoder, and its encoder cannot be had apart; "
                "choose an encoder, a decoder, or a model of the T5 family"
            )
        return AutoModelForTextEncoding
    return AutoModel


def read_weights(
    maker: Any, folder: Path, config: PreTrainedConfig, attn_implementation: str | None, **further: Any
) -> tuple[PreTrainedModel, list[str]]:
    """Return the model, in float32 unless `dtype` says otherwise, and the names of its weights that the files lack.

    On the meta device (`with torch.device("meta")`) no file is read: there a model has shapes alone.
    """
    options: dict[str, Any] = {"config": config, "use_safetensors": True, "dtype": torch.float32, **further}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    if only_shapes():
        chosen = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        make = partial(maker.from_config, config, trust_remote_code=False, **chosen)
        return library(f"the config in {folder}", make), []
    with _quiet():
        model, info = library(
            f"the weights in {folder}",
            lambda: maker.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, output_loading_info=True, **options
            ),
        )
    return model, sorted(info["missing_keys"])


def only_shapes() -> bool:
    """Return whether models are made on the meta device just now, where they have no weights."""
    return torch.get_default_device().type == "meta"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from drawing a progress bar and a table of missing names: we say ourselves what is wrong."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def lacking_weights(folder: Path, config: PreTrainedConfig, names: Sequence[str]) -> str:
    """Return what is said of files that lack weights of these names."""
    some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"the weights in {folder} lack {len(names)} that a {config.model_type} model has ({some}): they would be "
        "random. Is the folder whole, and config.json its own?"
    )
