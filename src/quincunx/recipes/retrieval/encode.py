"""A trained run as what turns texts into vectors.

```python
from quincunx import Encoder

encoder = Encoder.load("runs/scifact-1")
vectors = encoder.encode(["a text", "another"])
queries = encoder.encode(["what is asked"], side="query")
```

N texts, D width, m codes of a poly-encoder's query, B texts of a batch, S tokens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.load import load
from quincunx.config.sections.run import Compute
from quincunx.data.cache import cache_folder
from quincunx.engine.checkpoint import Checkpoints, load_weights
from quincunx.engine.runtime import Runtime, choose_dtype, find_device, native
from quincunx.errors import UsageError
from quincunx.recipes import schemas
from quincunx.recipes.retrieval.assemble import make_model
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data.tokenizing import TextTokenizer
from quincunx.recipes.retrieval.doctor import similarity
from quincunx.recipes.retrieval.encoders import longest, make_encoders
from quincunx.recipes.retrieval.evaluate.remembered import weights_hash
from quincunx.recipes.retrieval.evaluate.vectors import Limits, encode_texts
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.runs import reopen

if TYPE_CHECKING:
    from quincunx.recipes.retrieval.backends import Backend

SIDES = ("query", "document")
PRECISIONS = ("auto", "float32", "bf16")

_AT_ONCE = 512
"""Texts tokenized in one call."""
_THREAD_TOKENS = 2048
"""Tokens that a thread of a CPU computes at once, at most: more of them leave its caches, and take a tenth longer."""

Vectors = NDArray[np.float32]


class Runs(Protocol):
    """What has a run folder; `quincunx.Run` does."""

    path: Path


class Codes(np.ndarray[Any, np.dtype[np.float32]]):
    """The codes `[N, m, D]` of a poly-encoder's queries."""

    mask: NDArray[np.bool_] | None = None
    """`[N, m]`, False where there is no code; of a part of the array None."""

    @classmethod
    def of(cls, codes: Vectors, mask: NDArray[np.bool_]) -> Codes:
        """Return codes with their mask."""
        found = codes.view(cls)
        found.mask = mask
        return found


@dataclass(frozen=True)
class _Tokens:
    """Token ids of texts, all of them made."""

    found: Sequence[NDArray[np.int32]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.fromiter(map(len, self.found), np.int64, len(self.found))

    def tokens(self, index: int) -> NDArray[np.int32]:
        return self.found[index]


class Encoder:
    """A run's model, ready to encode.

    Attributes:
        config: The run's.
        model: A `BiEncoder` or a `PolyEncoder`, in eval mode; in bf16 to be called within `runtime.autocast()`.
        runtime: Where and how precisely it computes.
        calibration: Texts by which 8 bits are set up, looked at when they are first used.
        similarity: How its vectors are to be compared: `cosine`, then they have length 1, or `dot`.
        width: D.
    """

    def __init__(
        self,
        config: RetrievalConfig,
        model: Any,
        tokenizers: dict[str, TextTokenizer],
        runtime: Runtime,
        *,
        backend: str = "torch",
        int8: bool = False,
        bf16: bool = False,
        calibration: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        """Take the parts of an encoder; `Encoder.load` makes them."""
        self.config = config
        self.model = model.eval()
        self.runtime = runtime
        self.backend = backend
        self.int8 = int8
        self._bf16 = bf16
        self.limits = limits or Limits()
        if backend != "openvino" and runtime.device.type == "cpu":  # which cuts batches itself
            most = min(self.limits.tokens, _THREAD_TOKENS * torch.get_num_threads())
            self.limits = self.limits._replace(tokens=most)
        self.poly = isinstance(model, PolyEncoder)
        # a poly-encoder compares codes with documents as they are; bringing these to length 1 would change its scores
        self.similarity = "dot" if self.poly else similarity(config)
        self.width: int = model.width
        self.tokenizers = tokenizers
        self.weights = weights_hash(model).hex()
        self.calibration = calibration
        self._backends: dict[str, Backend] = {}
        if runtime.dtype != torch.float32:
            for part in dict.fromkeys((model.query, model.document)):
                _hold_in(part, runtime.dtype)

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str] | Runs,
        *,
        backend: str = "torch",
        precision: str = "auto",
        device: str = "auto",
        checkpoint: str = "best",
        int8: bool = False,
        calibration: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> Encoder:
        """Return the encoder of a run.

        Args:
            run: A retrieval run, or its folder.
            backend: What computes: `torch`, `onnxruntime` or `openvino`.
            precision: Of torch and openvino: `float32`, `bf16`, or `auto`, which is bf16 where the device multiplies it
                in hardware.
            device: Of torch, such as `cpu` or `cuda:1`; `auto` takes an accelerator where there is one.
            checkpoint: `best`, `last`, or its name.
            int8: With another backend: linear maps compute in 8 bits.
            calibration: With `int8`: some hundred texts like those to be encoded, by which it is set up.
            limits: What is computed at once.

        Raises:
            UsageError: The run is no bi- or poly-encoder, or has no such checkpoint; an unknown word; bf16 where the
                device only emulates it.
            RunError: There is no run, or it has no checkpoint yet, or that is damaged.
            MissingExtra: The backend's package is not installed.
        """
        if backend != "torch":
            from quincunx.recipes.retrieval.backends import BACKENDS

            if backend not in BACKENDS:
                raise UsageError(f"there is no backend {backend!r}: {_either(BACKENDS)}")
        if precision not in PRECISIONS:
            raise UsageError(f"there is no precision {precision!r}: {_either(PRECISIONS)}")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", device):
            raise UsageError(f"there is no device {device!r}: auto, cpu, mps, cuda or cuda:N")
        if backend == "torch" and int8:
            raise UsageError("8 bits are computed by the backends onnxruntime and openvino: name one of them")
        if precision == "bf16" and (int8 or backend == "onnxruntime"):
            raise UsageError("bf16 is of the backends torch and openvino, and not with int8: leave precision out")
        bf16 = False
        if backend != "torch":
            # torch stays in float32, for what is not compiled; the backend is told apart
            bf16 = backend == "openvino" and not int8 and runtime_of(precision, "cpu").dtype == torch.bfloat16
            precision, device = "float32", "cpu"
        path = Path(run if isinstance(run, str | os.PathLike) else run.path)
        folder = reopen(path)
        config = load(folder.config, (), schemas=schemas()).config
        _check(config, path)
        found = Checkpoints(folder.checkpoints).named(checkpoint)
        runtime = runtime_of(precision, device)
        encoders = make_encoders(config, home=path)
        model = make_model(config, encoders)
        load_weights(model, Checkpoints(folder.checkpoints).load(found).weights["model"], str(found))
        tokenizers = {
            side: TextTokenizer(
                getattr(encoders, f"{side}_tokenizer"),
                longest(config, side, encoders),
                prompt=getattr(config, side).prompt,
                truncate=getattr(config, side).truncate,
            )
            for side in SIDES
        }
        model = model.to(runtime.device)
        return cls(
            config, model, tokenizers, runtime,
            backend=backend, int8=int8, bf16=bf16, calibration=calibration, limits=limits,
        )  # fmt: skip

    def encode(self, texts: Sequence[str], side: str = "document") -> Vectors:
        """Return the vectors `[N, D]` of texts, in their order; of length 1 where cosines are compared.

        Args:
            texts: Any number.
            side: `document` or `query`, which may have other weights, prompts and lengths. Queries of a poly-encoder
                become `Codes` `[N, m, D]` with their `mask` `[N, m]`.

        Raises:
            UsageError: Another side.
        """
        if side not in SIDES:
            raise UsageError(f"there is no side {side!r}: {_either(SIDES)}")
        codes = self.poly and side == "query"
        if not len(texts):
            empty = np.zeros((0, self.model.codes.count or 0, self.width) if codes else (0, self.width), np.float32)
            return Codes.of(empty, np.zeros(empty.shape[:2], np.bool_)) if codes else empty
        starts = range(0, len(texts), _AT_ONCE)
        tokenize = self.tokenizers[side]
        tokens = _Tokens([ids for start in starts for ids in tokenize(texts[start : start + _AT_ONCE])])
        if codes:
            return self._codes(tokens)
        (vectors,) = encode_texts(self._encode(side), tokens, self.runtime, tokens=self.limits)
        if self.similarity == "cosine":
            vectors = functional.normalize(vectors, dim=-1)
        return vectors.numpy()

    def made(self, side: str = "document") -> dict[str, Any]:
        """Return how vectors of a side are made, as plain values.

        Vectors of two encoders can be compared where `weights`, `tokenizer`, `similarity` and `dimension` of the same
        side are equal.
        """
        tokenize = self.tokenizers[side]
        chosen = getattr(self.config, side).pooling or self.config.encoder.pooling
        compiled = self.backend != "torch" and not (self.poly and side == "query")  # codes are torch's in every backend
        bf16 = self._bf16 if compiled else self.runtime.dtype == torch.bfloat16
        return {
            "weights": self.weights,
            "tokenizer": tokenize.request["tokenizer"],
            "side": side,
            "prompt": tokenize.prompt,
            "max_length": tokenize.max_length,
            "truncate": tokenize.truncate,
            "pooling": self.config.poly.kind if self.poly and side == "query" else chosen,
            "similarity": self.similarity,
            "dimension": self.width,
            "dtype": "float32",
            "precision": "int8" if compiled and self.int8 else "bf16" if bf16 else "float32",
            "backend": self.backend if compiled else "torch",
            "mode": self.config.mode,
        }

    def drop(self, side: str = "document") -> str | None:
        """Return what 8 bits change of a side's vectors, in words; None where nothing was encoded in 8 bits."""
        found = getattr(self._backends.get(side), "drop", None)
        return None if found is None else str(found)

    def _encode(self, side: str) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
        """Return what computes the vectors of one batch."""
        if self.backend == "torch":
            if self.poly:
                return lambda tokens, lengths: (self.model.encode_document(tokens, lengths),)
            return lambda tokens, lengths: (self.model.encode(tokens, lengths, side),)
        if side not in self._backends:
            from quincunx.recipes.retrieval.backends import make_backend

            tokenize = self.tokenizers[side]
            self._backends[side] = make_backend(
                self.backend,
                self.model,
                side,
                int8=self.int8,
                bf16=self._bf16,
                calibration=tokenize(self.calibration) if self.calibration else None,
                cache=cache_folder(self.config.data.cache) / "backends",
            )
        backend = self._backends[side]
        return lambda tokens, lengths: (torch.from_numpy(backend(tokens.numpy(), lengths.numpy())),)

    def _codes(self, tokens: _Tokens) -> Codes:
        pad_to = int(tokens.lengths.max()) if self.model.codes.reduction == "all" else None

        def encode(batch: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
            return self.model.encode_query(batch, lengths, pad_to)

        codes, mask = encode_texts(encode, tokens, self.runtime, tokens=self.limits)
        return Codes.of(codes.numpy(), mask.numpy())


def _check(config: Any, path: Path) -> None:
    """Refuse a run that has no vectors of texts."""
    if config.recipe != "retrieval":
        raise UsageError(f"{path} is a run of the recipe {config.recipe}: texts are encoded by runs of retrieval")
    if config.mode == "cross-encoder":
        raise UsageError(
            f"{path} is a cross-encoder: it reads a query and a document together, so that a text alone has no vector. "
            "Encode by a bi- or poly-encoder, and let this run put in order what that finds"
        )


def runtime_of(precision: str, device: str) -> Runtime:
    """Return where and how precisely to compute, whatever the run was trained with; nothing of the process changes."""
    found = find_device(device)
    if precision == "bf16" and not native(torch.bfloat16, found):
        raise UsageError(f"bf16 is only emulated on this {found.type}, slower than float32: use auto or float32")
    dtype = choose_dtype(Compute(precision=precision, device=device), found)  # pyright: ignore[reportArgumentType]
    return Runtime(found, dtype)


def _hold_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Turn the weights of linear maps into what autocast would turn them into for every batch anew."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.to(dtype)


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
