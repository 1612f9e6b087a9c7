"""OpenVINO: a model followed and compiled for this CPU, in float32 or in 8 bits.

B texts, S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.backends.calibrate import Batch, padded
from quincunx.recipes.retrieval.backends.quiet import package, quiet
from quincunx.recipes.retrieval.backends.signal_stack import signal_stack_kept
from quincunx.recipes.retrieval.backends.trace import Traced, example_of, followed, names_of

PART = 1024
"""Tokens of a part of a batch: what an encoder of width 384 computes without leaving a core's own caches."""


def write_openvino(traced: Traced, file: Path) -> None:
    """Write a model as OpenVINO's intermediate representation, for any number of texts of any length.

    Args:
        traced: The model; it is left as it was.
        file: `*.xml`; weights go into the `.bin` beside it, in float32.

    Raises:
        MissingExtra: The package openvino is not installed.
        UsageError: The model does something that has no form there.
    """
    library = package("openvino", "openvino", "writing OpenVINO's form")
    names = names_of(traced)
    with followed(traced), quiet():
        try:
            example = dict(zip(names, example_of(traced), strict=True))
            shapes = [(name, [-1, -1], library.Type.i64) for name in names]
            made = library.convert_model(traced, example_input=example, input=shapes)
        except Exception as error:  # the converter raises whatever the model's own code does
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(f"this model cannot be written in OpenVINO's form: {first}") from error
        for port, name in zip(made.outputs, traced.outputs, strict=True):
            port.get_tensor().set_names({name})
        library.save_model(made, str(file), compress_to_fp16=False)


class OpenVinoBackend:
    """A model that OpenVINO has compiled for the CPU.

    A batch is cut into parts of about `PART` tokens, and each thread takes the next part whenever it has done one, so
    that no thread waits for another but at the end.

    Args:
        file: `*.xml`.
        int8: The file is in 8 bits. What stays beside them is then computed in bf16 where the CPU has it, else in
            float32.
        bf16: Of a file in float32: all is computed in bf16.
        threads: Of the CPU; None: all that this process may use.
    """

    name = "openvino"

    def __init__(self, file: Path, *, int8: bool = False, bf16: bool = False, threads: int | None = None) -> None:
        library = package("openvino", "openvino", "the backend openvino")
        streams = threads or torch.get_num_threads()
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": streams,
        }
        if not int8:
            options["INFERENCE_PRECISION_HINT"] = "bf16" if bf16 else "f32"  # unsaid, the CPU would decide
        with signal_stack_kept():
            compiled = library.Core().compile_model(str(file), "CPU", options)
        self.inputs: list[str] = [port.get_any_name() for port in compiled.inputs]
        self._queue = library.AsyncInferQueue(compiled, streams)
        self._queue.set_callback(_keep)

    def run(self, inputs: Batch) -> NDArray[np.float32]:
        """Return the model's output for inputs by name."""
        rows, longest = inputs[self.inputs[0]].shape
        size = max(1, PART // longest)
        found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * -(-rows // size)
        for number, start in enumerate(range(0, rows, size)):
            part = slice(start, start + size)
            self._queue.start_async({name: _trimmed(inputs, name, part) for name in self.inputs}, (found, number))
        self._queue.wait_all()
        return np.concatenate(found)

    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors `[B, D]` of tokens `[B, S]`, of which `lengths [B]` are valid in each row."""
        return self.run(padded(tokens, lengths))


def _keep(request: Any, place: tuple[list[NDArray[np.float32]], int]) -> None:
    """Put a part's output in its place; it is copied, for the request's own is written over."""
    found, number = place
    found[number] = request.get_output_tensor(0).data.copy()


def _trimmed(inputs: Batch, name: str, rows: slice) -> NDArray[np.int64]:
    """Return the rows of an input without the columns that are padding in all of them."""
    longest = int(inputs["attention_mask"][rows].sum(axis=1).max())
    return np.ascontiguousarray(inputs[name][rows, :longest])


def quantize_openvino(source: Path, file: Path, batches: Sequence[Batch]) -> None:
    """Write a model whose linear maps compute in 8 bits, with activations scaled by what texts show.

    Activations of outlying channels are first evened out into the weights (SmoothQuant, Xiao et al. 2022, arXiv
    2211.10438); what attention multiplies stays in floating point.

    Args:
        source: The model in float32, `*.xml`.
        file: Where to write.
        batches: Of texts from the corpus.
    """
    nncf = package("nncf", "openvino", "8 bits by OpenVINO")
    library = package("openvino", "openvino", "8 bits by OpenVINO")
    with quiet(), signal_stack_kept():
        made = nncf.quantize(
            library.Core().read_model(str(source)),
            nncf.Dataset(list(batches)),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
        )
        library.save_model(made, str(file), compress_to_fp16=False)
