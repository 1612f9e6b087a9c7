"""What computes vectors of texts: torch, onnxruntime or OpenVINO, behind one call; the latter two also in 8 bits.

B texts, S tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from quincunx.data.partial import finish, partial_file
from quincunx.errors import RunError, UsageError
from quincunx.recipes.retrieval.backends.calibrate import Drop, Sample, drop
from quincunx.recipes.retrieval.backends.onnx import OnnxBackend, quantize_onnx, write_onnx
from quincunx.recipes.retrieval.backends.openvino import OpenVinoBackend, quantize_openvino, write_openvino
from quincunx.recipes.retrieval.backends.quiet import package
from quincunx.recipes.retrieval.backends.trace import TracedEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from quincunx.recipes.retrieval.written import new_folder

BACKENDS = ("torch", "onnxruntime", "openvino")
PACKAGES = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("openvino", "nncf")}
"""What the form of a model depends on besides torch and transformers."""
FORM = 1
"""Raised when the same model would be written differently."""


class Backend(Protocol):
    """What computes the vectors of one side."""

    name: str

    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors `[B, D]` of tokens `[B, S]`, of which `lengths [B]` are valid in each row."""
        ...


class TorchBackend:
    """The model itself."""

    name = "torch"

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder.eval()

    @torch.no_grad()
    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors `[B, D]` of tokens `[B, S]`, of which `lengths [B]` are valid in each row."""
        return self.encoder(torch.from_numpy(tokens), torch.from_numpy(lengths)).float().numpy()


class CompiledBackend:
    """A model that another library runs, and what is known of it.

    Attributes:
        drop: What its 8 bits change; None in float32.
    """

    def __init__(self, name: str, compiled: Backend, empty: NDArray[np.float32], drop: Drop | None) -> None:
        self.name = name
        self.drop = drop
        self._compiled = compiled
        self._empty = empty

    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors `[B, D]` of tokens `[B, S]`, of which `lengths [B]` are valid in each row."""
        found = self._compiled(tokens, lengths)
        bare = lengths == 0
        return np.where(bare[:, None], self._empty, found) if bare.any() else found


def make_backend(
    name: str,
    model: Any,
    side: str,
    *,
    int8: bool = False,
    bf16: bool = False,
    calibration: Sequence[NDArray[np.int32]] | None = None,
    cache: Path,
) -> Backend:
    """Return what computes the vectors of one side of a model; as the model gives them, not brought to length 1.

    The model is written in the backend's form once, into a folder of the cache that is named by its weights; of several
    processes that want it one writes, and the others wait.

    Args:
        name: One of BACKENDS.
        model: A `BiEncoder` or `PolyEncoder`.
        side: `query` or `document`; of a poly-encoder `document` alone.
        int8: Linear maps compute in 8 bits.
        bf16: Of openvino: all is computed in bf16.
        calibration: With `int8`: token ids `[S]` of texts of the corpus, from which scales are taken.
        cache: Folder for the forms of models.

    Raises:
        UsageError: An unknown backend, 8 bits without texts or of a backend that has none, bf16 likewise.
        MissingExtra: A package that the backend needs is not installed.
        RunError: The cache cannot be written.
    """
    if name not in BACKENDS:
        raise UsageError(f"there is no backend {name!r}: {', '.join(BACKENDS)}")
    if bf16 and (int8 or name != "openvino"):
        raise UsageError("bf16 is computed by the backend openvino, and not with int8")
    encoder: TextEncoder = getattr(model, side)
    if name == "torch":
        if int8:
            raise UsageError("8 bits are computed by the backends onnxruntime and openvino: name one of them")
        return TorchBackend(encoder)
    for needed in PACKAGES[name][: 2 if int8 or name == "onnxruntime" else 1]:
        package(needed, "onnx" if name == "onnxruntime" else "openvino", f"the backend {name}")
    sample = Sample.of(calibration) if int8 else None
    place = cache / f"{name}-{_key(name, encoder, sample)}"
    facts = _formed(place, name, encoder, sample)
    with torch.no_grad():
        empty = encoder.head(torch.zeros(1, encoder.states_width)).numpy()
    found = None if facts["drop"] is None else Drop(**facts["drop"])
    return CompiledBackend(name, run_form(name, place, int8=int8, bf16=bf16), empty, found)


ENDINGS = {"onnxruntime": "onnx", "openvino": "xml"}


def _formed(place: Path, name: str, encoder: TextEncoder, sample: Sample | None) -> dict[str, Any]:
    """Write a model's form where it is not there yet, and return what is known of it.

    That stands in a file beside the folder, which comes last: where it is, the folder is whole.
    """
    known = place.with_name(f"{place.name}.json")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(known, wait=True) as file:
            if not known.is_file() or not place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
                with new_folder(place) as folder:
                    facts = write_form(name, TracedEncoder(encoder), folder, sample)
                file.write(json.dumps(facts).encode())
                finish(file, known)
        return json.loads(known.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{place.parent}, where models are kept in the form of {name}, cannot be written: "
            f"{error.strerror or error}. Name another folder by data.cache or QUINCUNX_CACHE"
        ) from error


def write_form(name: str, traced: Any, folder: Path, sample: Sample | None, stem: str = "model") -> dict[str, Any]:
    """Write a model in a backend's form into a folder, with `sample` in 8 bits, and return what is known of it."""
    write, quantize = (write_onnx, quantize_onnx) if name == "onnxruntime" else (write_openvino, quantize_openvino)
    file = folder / f"{stem}.{ENDINGS[name]}"
    if sample is None:
        write(traced, file)
        return {"int8": False, "drop": None}
    exact = folder / f"exact-{stem}.{ENDINGS[name]}"
    write(traced, exact)
    quantize(exact, file, sample.batches())
    found = drop(_compiled(name, exact, int8=False), _compiled(name, file, int8=True), sample.judged)
    for each in folder.glob(f"exact-{stem}.*"):
        each.unlink()
    return {"int8": True, "drop": found.to_json()}


def run_form(name: str, folder: Path, *, int8: bool, bf16: bool = False, stem: str = "model") -> Any:
    """Return what runs the form of a model that `write_form` wrote."""
    return _compiled(name, folder / f"{stem}.{ENDINGS[name]}", int8=int8, bf16=bf16)


def _compiled(name: str, file: Path, *, int8: bool, bf16: bool = False) -> Any:
    return OnnxBackend(file) if name == "onnxruntime" else OpenVinoBackend(file, int8=int8, bf16=bf16)


def _key(name: str, encoder: TextEncoder, sample: Sample | None) -> str:
    """Return a hash of all that the form of a model depends on."""
    digest = hashlib.blake2b(digest_size=16)
    packages = {each: version(each) for each in ("torch", "transformers", *PACKAGES[name]) if _installed(each)}
    facts = [FORM, packages, encoder.pooling, encoder.normalize, encoder.backbone.config.to_json_string()]
    digest.update(json.dumps(facts).encode())
    for key, tensor in encoder.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for text in [] if sample is None else [*sample.scales, *sample.judged]:
        digest.update(text.tobytes() + b"\0")
    return digest.hexdigest()


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
