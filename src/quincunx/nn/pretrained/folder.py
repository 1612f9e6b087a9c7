"""Where a pretrained encoder lies: a folder, or a name on the hub that is fetched into one; and what a folder of
sentence-transformers says about the modules after its transformer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from quincunx.errors import MissingExtra, UsageError

WANTED = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Files of a hub repository that are fetched; pickled weights are not among them."""
UNWANTED = ("onnx/*", "openvino/*", "original/*", "coreml/*", "*.fp16.safetensors")

POOLINGS = {
    "cls": "cls",
    "mean": "mean",
    "lasttoken": "last",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
"""Their word, in the present and the older form -> ours."""
ACTIVATIONS = {"Identity": "none", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu"}
"""The last part of their activation's name -> our word."""


QUERIES, DOCUMENTS = ("query",), ("document", "passage", "corpus")
"""Names of the prompts that sentence-transformers writes before texts of each side, the first one first."""


@dataclass(frozen=True)
class DenseLayer:
    """One saved layer of a projection head."""

    weight: Tensor
    """`[out, in]`"""
    bias: Tensor | None
    activation: str
    """One of the values of ACTIVATIONS."""


@dataclass(frozen=True)
class SentenceLayout:
    """What a folder of sentence-transformers says beside its transformer."""

    transformer: Path
    """The folder of the transformer itself."""
    pooling: str
    """cls, mean or last."""
    dense: tuple[DenseLayer, ...] = ()
    normalize: bool = False
    """Vectors are scaled to length 1."""
    max_length: int | None = None
    """Tokens after which texts are cut."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """By name, mostly `query` and `document`: what is written before a text."""
    similarity: str | None = None
    """cosine or dot, where it says."""
    query_prompt: str = ""
    """What is written before queries."""
    document_prompt: str = ""
    """What is written before documents."""


def find_folder(path: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a pretrained model: the one that a path leads to, else the hub's, fetched or cached.

    Whether the network may be used is the hub client's own setting (`HF_HUB_OFFLINE=1` forbids it).

    Args:
        path: A folder, or a name on the hub (`owner/name`).
        revision: Branch, tag or commit on the hub.

    Raises:
        UsageError: There is no such folder, or the hub cannot be reached and has not been before.
        MissingExtra: The hub's client is not installed.
    """
    folder = Path(path).expanduser()
    name = str(path)
    if name.strip() and folder.is_dir():
        if revision is not None:
            raise UsageError(f"{folder} is a folder and has no revision {revision!r}: leave revision out")
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise UsageError(f"no folder of a pretrained model at {name!r}: give a folder with config.json, or a hub name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra("transformers", "retrieval", f"loading {name}") from None
    try:
        found = snapshot_download(name, revision=revision, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED))
    except Exception as error:  # the client, its transport and its checks each raise their own
        raise UsageError(
            f"{name!r} is no folder here and could not be had from the hub ({_first_line(error)}). Give the path of a "
            "local folder, fetch it once while online (hf download), or give sizes to build a model from"
        ) from error
    return Path(found)


def read_layout(folder: Path) -> SentenceLayout | None:
    """Return what a folder of sentence-transformers adds to its transformer, None for a plain transformers folder.

    Raises:
        UsageError: It has a module or setting that we have not, named with its file.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return None
    transformer: Path | None = None
    pooling: str | None = None
    dense: list[DenseLayer] = []
    normalize = False
    modules = _json(file)
    if not isinstance(modules, list):
        raise UsageError(f"{file} should list modules, found {type(modules).__name__}")
    for module in modules:
        kind, place = str(module.get("type", "")), folder / str(module.get("path", ""))
        word = kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind
        if word == "Transformer" and transformer is None:
            transformer = place
        elif word == "Pooling" and transformer is not None and pooling is None:
            pooling = _pooling(place / "config.json")
        elif word == "Dense" and pooling is not None and not normalize:
            dense.append(_dense(place))
        elif word == "Normalize" and pooling is not None:
            normalize = True
        else:
            raise UsageError(
                f"{file}: the module {kind!r} at its place cannot be represented here; what can is Transformer, "
                "Pooling (cls, mean, lasttoken), any Dense, then Normalize"
            )
    if transformer is None or pooling is None:
        raise UsageError(f"{file} names no {'Transformer' if transformer is None else 'Pooling'} module")
    settings = _transformer_settings(transformer)
    general = _optional(folder / "config_sentence_transformers.json")
    similarity = general.get("similarity_fn_name")
    if similarity not in (None, "cosine", "dot"):
        raise UsageError(f"{folder}: similarity {similarity!r} cannot be represented here; cosine and dot can")
    prompts = {str(name): str(text or "") for name, text in (general.get("prompts") or {}).items()}
    usual = general.get("default_prompt_name")
    if usual is not None and usual not in prompts:
        raise UsageError(
            f"{folder / 'config_sentence_transformers.json'}: default_prompt_name is {usual!r}, and prompts has "
            f"{', '.join(prompts) or 'none'}"
        )
    return SentenceLayout(
        transformer,
        pooling,
        tuple(dense),
        normalize,
        settings.get("max_seq_length"),
        {name: text for name, text in prompts.items() if text},
        similarity,
        *(_prompt(prompts, names, usual) for names in (QUERIES, DOCUMENTS)),
    )


def _prompt(prompts: Mapping[str, str], names: Sequence[str], usual: str | None) -> str:
    """Return what is written before texts of one side: the first of these prompts that says something.

    One that is there and empty stands for none; where there is no such prompt, the folder's usual one holds.
    """
    named = [prompts[name] for name in names if name in prompts]
    if named:
        return next(filter(None, named), "")
    return "" if usual is None else prompts[usual]


def _pooling(file: Path) -> str:
    config = _json(file)
    chosen = config.get("pooling_mode")
    if chosen is None:
        chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    words = [chosen] if isinstance(chosen, str) else list(chosen)
    if len(words) != 1 or words[0] not in POOLINGS:
        raise UsageError(
            f"{file}: pooling {', '.join(words) or 'without a mode'} cannot be represented here; "
            "one of cls, mean and lasttoken can"
        )
    if config.get("include_prompt") is False:
        raise UsageError(f"{file}: include_prompt=false (prompt tokens left out of the pooling) cannot be represented")
    return POOLINGS[words[0]]


def _dense(place: Path) -> DenseLayer:
    from safetensors.torch import load_file

    config = _json(place / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    odd = {
        "activation_function": activation not in ACTIVATIONS,
        "use_residual": bool(config.get("use_residual")),
        "module_input_name": config.get("module_input_name", "sentence_embedding") != "sentence_embedding",
        "module_output_name": config.get("module_output_name") not in (None, "sentence_embedding"),
    }
    for name, unknown in odd.items():
        if unknown:
            raise UsageError(f"{place / 'config.json'}: {name}={config.get(name)!r} cannot be represented here")
    file = place / "model.safetensors"
    if not file.is_file():
        raise UsageError(_pickled(place, "the Dense layer's weights"))
    tensors = load_file(file)
    return DenseLayer(tensors["linear.weight"], tensors.get("linear.bias"), ACTIVATIONS[activation])


def _transformer_settings(transformer: Path) -> dict[str, Any]:
    settings = _optional(transformer / "sentence_bert_config.json")
    if settings.get("do_lower_case"):
        raise UsageError(
            f"{transformer / 'sentence_bert_config.json'}: do_lower_case=true (texts are lowered before the tokenizer "
            "sees them) cannot be represented here; let the tokenizer lower them"
        )
    return settings


def _pickled(place: Path, what: str) -> str:
    found = sorted(file.name for file in place.glob("*.bin")) + sorted(file.name for file in place.glob("*.pt"))
    has = f" (it has {', '.join(found)}, a pickle, which is never read)" if found else ""
    return (
        f"{place} has no safetensors file with {what}{has}. Convert it once in a place you trust: load it with its own "
        "library and save it again with safetensors"
    )


def refuse_without_weights(folder: Path) -> None:
    """Raise UsageError when a folder holds no safetensors weights."""
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise UsageError(_pickled(folder, "weights"))


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file} is missing: the folder is not whole") from None
    except ValueError as error:
        raise UsageError(f"{file} is no JSON: {error}") from error


def _optional(file: Path) -> dict[str, Any]:
    return _json(file) if file.is_file() else {}


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def library(action: str, call: Callable[[], Any]) -> Any:
    """Return what a call of the transformers library returns; what it raises about its input becomes a UsageError.

    Raises:
        UsageError: With the action (`the tokenizer of ...`) and the library's own first line.
    """
    try:
        return call()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
        raise UsageError(f"{action} could not be loaded: {_first_line(error)}") from error
