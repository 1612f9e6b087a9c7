"""A bi-encoder as a folder of sentence-transformers, written file by file, so that their library is not needed.

Where queries and documents go through the same, prompts apart, the folder is a plain one. Else their Router leads each
side to a folder of its own, `query` or `document`, and each of these is a plain folder too. Forms as their versions 5
and 6 read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.pretrained import load_backbone, read_layout
from quincunx.nn.pretrained.folder import ACTIVATIONS as THEIRS
from quincunx.recipes.retrieval.backends.quiet import quiet
from quincunx.recipes.retrieval.export.opened import Opened, Side, vectors_of
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.text_encoder import ACTIVATIONS, Projection, TextEncoder
from quincunx.recipes.retrieval.written import check_near, write_json

MODULES = "sentence_transformers.models"
"""Where their modules could be imported from in every version so far."""
POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "last": "pooling_mode_lasttoken",
}
"""Our word -> the setting of theirs that is true; all of `POOLING_MODES` are written."""
POOLING_MODES = (
    *POOLING_KEYS.values(), "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
)  # fmt: skip


def write_sentence_transformers(folder: Path, opened: Opened) -> list[str]:
    """Write the folder, read it back, and compare what it makes of a few texts with what the run makes of them.

    Args:
        folder: Exists and is empty.
        opened: A bi-encoder.

    Returns:
        Sentences on what was written and compared.

    Raises:
        UsageError: A part that sentence-transformers has no module for.
        ExportError: What was written gives other vectors.
    """
    if not isinstance(opened.model, BiEncoder):
        raise UsageError(
            "sentence-transformers has no model whose queries are several vectors, as a poly-encoder's are: export it "
            "by --format onnx"
        )
    _check(opened)
    folders = {name: folder if opened.alike else folder / name for name in opened.sides}
    for name, place in folders.items():
        if name == "query" or not opened.alike:
            place.mkdir(exist_ok=True)
            _write_side(place, opened.sides[name], opened)
    notes: list[str] = []
    if not opened.alike:
        _write_router(folder, opened)
        notes.append(
            "queries and documents go through different things: a Router, used by encode_query and encode_document; "
            "the folders query and document in it are whole models themselves"
        )
    worst = max(compare_side(folders[name], opened, name) for name in opened.sides)
    notes.append(f"read back here: vectors lie within {worst:.1e} of the run's")
    theirs = compare_theirs(folder, opened)
    if theirs is None:
        notes.append("sentence-transformers is not installed here: its own reading of the folder was not tried")
    else:
        notes.append(f"read by sentence-transformers {theirs[1]}: vectors lie within {theirs[0]:.1e} of the run's")
    return notes


def _check(opened: Opened) -> None:
    for name, side in opened.sides.items():
        pooling = side.encoder.pooling
        if pooling not in POOLING_KEYS:
            raise UsageError(
                f"{name}.pooling {pooling}: sentence-transformers has no module for a learned query that attends over "
                "the states; mean, cls and last can leave that way, and --format onnx takes every pooling"
            )


def _write_side(folder: Path, side: Side, opened: Opened) -> None:
    """Write a plain folder: transformer, pooling, dense layers, scaling."""
    encoder = side.encoder
    save_backbone(folder, encoder.backbone, side.tokenizer)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": side.max_length, "do_lower_case": False})
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    width = encoder.states_width
    pooling = {name: name == POOLING_KEYS[encoder.pooling] for name in POOLING_MODES}
    write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **pooling, "include_prompt": True}
    )
    for number, layer in enumerate(_dense(side), len(modules)):
        modules.append((f"{number}_Dense", "Dense"))
        _write_dense(folder / modules[-1][0], *layer)
    if opened.scaled or encoder.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
        write_json(folder / modules[-1][0] / "config.json", {})
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": f"{MODULES}.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    write_json(folder / "config_sentence_transformers.json", _general(opened))


def save_backbone(folder: Path, backbone: Any, tokenizer: Any) -> None:
    """Write a transformer and its tokenizer as their own library reads them."""
    with quiet():
        backbone.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _general(opened: Opened) -> dict[str, Any]:
    return {
        "model_type": "SentenceTransformer",
        "__version__": {},
        "prompts": {name: side.prompt for name, side in opened.sides.items()},
        "default_prompt_name": None,
        "similarity_fn_name": opened.similarity,
    }


def _dense(side: Side) -> list[tuple[Tensor, Tensor | None, str]]:
    """Return weight, bias and activation (our word) of each layer of a side's head."""
    head = side.encoder.projection
    if head is None:
        return []
    words = {kind: word for word, kind in ACTIVATIONS.items()}
    found: list[tuple[Tensor, Tensor | None, str]] = []
    for linear, activation in zip(head.maps, head.activations, strict=True):
        assert isinstance(linear, torch.nn.Linear)
        found.append(
            (linear.weight.detach(), None if linear.bias is None else linear.bias.detach(), words[type(activation)])
        )
    return found


def _write_dense(folder: Path, weight: Tensor, bias: Tensor | None, activation: str) -> None:
    from safetensors.torch import save_file

    kind = type(ACTIVATIONS[activation]())
    assert THEIRS[kind.__name__] == activation
    write_json(
        folder / "config.json",
        {
            "in_features": weight.shape[1],
            "out_features": weight.shape[0],
            "bias": bias is not None,
            "activation_function": f"{kind.__module__}.{kind.__name__}",
        },
    )
    tensors = {"linear.weight": weight.contiguous()}
    if bias is not None:
        tensors["linear.bias"] = bias.contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _write_router(folder: Path, opened: Opened) -> None:
    """Write what leads each side to its folder; sides that share a transformer and its tokens share theirs."""
    query, document = (opened.sides[name] for name in ("query", "document"))
    shared = query.encoder.backbone is document.encoder.backbone and query.reads_like(document)
    types: dict[str, str] = {}
    structure: dict[str, list[str]] = {}
    for name in opened.sides:
        for entry in json.loads((folder / name / "modules.json").read_text(encoding="utf-8")):
            path = f"{name}/{entry['path']}" if entry["path"] else "query" if shared else name
            types[path] = entry["type"]
            structure.setdefault(name, []).append(path)
    # without a default, texts whose side nobody says are refused rather than taken for queries
    parameters: Mapping[str, Any] = {"default_route": None, "allow_empty_key": False}
    write_json(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})
    write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": f"{MODULES}.Router"}])
    write_json(folder / "config_sentence_transformers.json", _general(opened))


def compare_side(folder: Path, opened: Opened, name: str) -> float:
    """Return how far the vectors of a folder, read here, lie from the run's; ExportError where that is too far."""
    from quincunx.recipes.retrieval.data.tokenizing import TextTokenizer

    layout = read_layout(folder)
    assert layout is not None
    backbone, tokenizer = load_backbone(folder)
    head = Projection.saved(layout.dense) if layout.dense else None
    pooling: Any = layout.pooling
    encoder = TextEncoder(backbone, pooling, projection=head, normalize=layout.normalize).eval()
    prompt = layout.query_prompt if name == "query" else layout.document_prompt
    most = layout.max_length or opened.sides[name].max_length
    side = tokenizer.truncation_side
    tokens = TextTokenizer(tokenizer, most, prompt=prompt, truncate=side)(opened.samples.texts[name])  # pyright: ignore[reportArgumentType]
    # what the folder says of scaling holds, whatever the run says
    return check_near(
        vectors_of(encoder, tokens, cosine=False), opened.samples.vectors[name], f"{name} texts read back"
    )


def compare_theirs(folder: Path, opened: Opened) -> tuple[float, str] | None:
    """Return how far the vectors that sentence-transformers gives lie from the run's, and its version.

    None where it is not installed; ExportError where they lie too far.
    """
    try:
        import sentence_transformers
    except ImportError:
        return None
    with quiet():
        model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    worst = 0.0
    for name, encode in (("query", model.encode_query), ("document", model.encode_document)):
        with quiet():
            found = encode(opened.samples.texts[name], convert_to_tensor=True, show_progress_bar=False)
        what = f"{name} texts in sentence-transformers"
        worst = max(worst, check_near(found.float().cpu(), opened.samples.vectors[name], what))
    return worst, sentence_transformers.__version__
