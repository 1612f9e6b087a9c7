"""Models as graphs for other runtimes, ONNX or OpenVINO: a file a side, its tokenizer beside it, and what to do with
them in `export.json`.

N texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.backends import ENDINGS, run_form, write_form
from quincunx.recipes.retrieval.backends.calibrate import Drop, Sample, padded
from quincunx.recipes.retrieval.backends.trace import TYPES, TracedCodes, TracedEncoder, TracedScorer, names_of
from quincunx.recipes.retrieval.export.opened import SIDES, Opened, Side, batched
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.written import ExportError, check_near, write_json

FACTS = "export.json"
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Format -> what runs it."""
TOLERANCE = 1e-4
"""How far a graph in float32 may lie from torch: other kernels add in another order."""
LEAST_COSINE = 0.9
"""Mean cosine of vectors in 8 bits with the run's, below which they are not kept."""
SIZES = (1, 4)
"""Texts computed together when graphs are compared, none of which is the number that the model was followed with."""


def write_graphs(
    folder: Path, opened: Opened, runtime: str, calibration: Callable[[Side], Sequence[NDArray[np.int32]]] | None = None
) -> list[str]:
    """Write graphs and compare what they give with what the run gives, at several numbers and lengths of texts.

    Args:
        folder: Exists and is empty.
        opened: A model of any mode.
        runtime: `onnxruntime` or `openvino`.
        calibration: Returns the tokens of texts of the corpus for a side: graphs are then in 8 bits.

    Returns:
        Sentences on what was written and compared.

    Raises:
        UsageError: A model that has no form as a graph.
        ExportError: A graph gives something else than the run.
    """
    if opened.pairs is not None:
        if calibration is not None:
            raise UsageError("8 bits are for models that encode texts apart, not for a cross-encoder: leave int8 out")
        return _write_scorer(folder, opened, runtime)
    notes: list[str] = []
    facts: dict[str, Any] = {}
    written: dict[str, Any] = {}
    for name, side in opened.sides.items():  # the query's comes first; where both are alike, its graph is both sides'
        place = folder if opened.alike else folder / name
        shown = "query and document" if opened.alike else name
        if name == "query" or not opened.alike:
            place.mkdir(exist_ok=True)
            written, said = _write_side(place, opened, side, runtime, calibration)
            side.tokenizer.save_pretrained(place)
            notes += [f"{shown}: {line}" for line in said]
        facts[name] = {
            "file": (place / f"model.{ENDINGS[runtime]}").relative_to(folder).as_posix(),
            "tokenizer": place.relative_to(folder).as_posix(),
            "prompt": side.prompt,
            "max_length": side.max_length,
            "truncate": side.truncate,
            **written,
        }
    write_json(folder / FACTS, {**_general(opened, runtime), "sides": facts})
    return notes


def _general(opened: Opened, runtime: str) -> dict[str, Any]:
    return {
        "format": 1,
        "runtime": runtime,
        "mode": opened.config.mode,
        "similarity": opened.similarity,
        "dimension": getattr(opened.model, "width", None),
    }


def _write_side(
    folder: Path,
    opened: Opened,
    side: Side,
    runtime: str,
    calibration: Callable[[Side], Sequence[NDArray[np.int32]]] | None,
) -> tuple[dict[str, Any], list[str]]:
    """Write the graph of one side; return what is known of it, and sentences."""
    codes = isinstance(opened.model, PolyEncoder) and side.name == "query"
    if codes and opened.model.codes.reduction != "codes":
        raise UsageError(
            f"poly.kind {opened.model.codes.reduction}: how many vectors a query has depends on its length; a graph is "
            "written of learned codes (poly.kind codes)"
        )
    sample = None if calibration is None or codes else Sample.of(calibration(side))
    traced = TracedCodes(opened.model) if codes else TracedEncoder(side.encoder, scale=opened.scaled)
    written = write_form(runtime, traced, folder, sample)
    compiled = run_form(runtime, folder, int8=sample is not None)
    tokens, wanted = side.tokens(opened.samples.texts[side.name]), opened.samples.vectors[side.name]
    facts = {"inputs": names_of(traced), "outputs": list(traced.outputs), "scaled": opened.scaled, **written}
    if sample is not None:
        found = Drop(**written["drop"])
        if not found.mean_cosine >= LEAST_COSINE:
            raise ExportError(f"{found}: too far from the run; nothing was kept. Export in float32 (leave int8 out)")
        return facts, [str(found)]
    worst = max(check_near(_run(compiled, tokens, size), wanted, f"{side.name} texts", TOLERANCE) for size in SIZES)
    facts["difference"] = worst
    note = f"by {runtime} vectors lie within {worst:.1e} of the run's"
    if codes and calibration is not None:
        note += "; left in float32, for a query's codes are many vectors of one text"
    return facts, [note]


def _write_scorer(folder: Path, opened: Opened, runtime: str) -> list[str]:
    pairs = opened.pairs
    assert pairs is not None
    traced = TracedScorer(opened.model)
    written = write_form(runtime, traced, folder, None)
    opened.tokenizer.save_pretrained(folder)
    compiled = run_form(runtime, folder, int8=False)
    texts, wanted = opened.samples.texts, opened.samples.vectors["score"]
    tokens, types = pairs(texts["query"], texts["document"])
    kinds = types if traced.typed else None
    worst = max(check_near(_run(compiled, tokens, size, kinds), wanted, "pairs", TOLERANCE) for size in SIZES)
    chosen: Mapping[str, Any] = {name: getattr(opened.config, name) for name in SIDES}
    facts = {
        **_general(opened, runtime),
        "file": f"model.{ENDINGS[runtime]}",
        "tokenizer": ".",
        "max_length": pairs.max_length,
        "inputs": names_of(traced),
        "outputs": list(traced.outputs),
        "sides": {
            name: {"prompt": side.prompt, "max_length": side.max_length, "truncate": side.truncate}
            for name, side in chosen.items()
        },
        **written,
        "difference": worst,
    }
    write_json(folder / FACTS, facts)
    return [f"by {runtime} scores lie within {worst:.1e} of the run's"]


def _run(
    compiled: Any,
    tokens: Sequence[NDArray[np.int32]],
    size: int,
    types: Sequence[NDArray[np.int32]] | None = None,
) -> Tensor:
    """Return what a graph gives for texts, `size` at a time."""
    kinds = None if types is None else [batch.numpy() for batch, _ in batched(types, size)]
    found: list[Tensor] = []
    for number, (batch, lengths) in enumerate(batched(tokens, size)):
        inputs = padded(batch.numpy(), lengths.numpy())
        if kinds is not None:
            inputs[TYPES] = kinds[number]
        found.append(torch.from_numpy(np.asarray(compiled.run(inputs))))
    return torch.cat(found)
