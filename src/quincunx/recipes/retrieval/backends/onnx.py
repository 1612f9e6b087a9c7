"""ONNX: a model written as a graph, and graphs run by onnxruntime, in float32 or in 8 bits.

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
from quincunx.recipes.retrieval.backends.trace import Traced, example_of, followed, names_of

OPSET = 17
"""The first with layer normalisation as one operator; every runtime of the last years reads it."""
LARGE = 1 << 30
"""Bytes of weights from which on they are written beside the graph: a graph file holds less than 2 GiB."""


def write_onnx(traced: Traced, file: Path) -> None:
    """Write a model as an ONNX graph for any number of texts of any length.

    Args:
        traced: The model; it is left as it was.
        file: `*.onnx`; weights of a large model go into a file beside it.

    Raises:
        MissingExtra: The package onnx is not installed.
        UsageError: The model does something that has no form in a graph.
    """
    package("onnx", "onnx", "writing ONNX")
    names = names_of(traced)
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    axes |= {name: {0: "batch"} for name in traced.outputs}
    size = sum(parameter.numel() * parameter.element_size() for parameter in traced.parameters())
    with followed(traced), quiet():
        try:
            torch.onnx.export(
                traced,
                example_of(traced),
                str(file),
                input_names=names,
                output_names=list(traced.outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                external_data=size > LARGE,
                # following calls, not code: a tenth of the time, and it takes what any encoder of the library does;
                # what it may bake in, a length or a count, shows when the graph is compared at others
                dynamo=False,
            )
        except Exception as error:  # the exporter raises whatever the model's own code does
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(f"this model cannot be written as an ONNX graph: {first}") from error


class OnnxBackend:
    """A graph run by onnxruntime on the CPU.

    Args:
        file: The graph.
        threads: Of the CPU; None: all that this process may use.
    """

    name = "onnxruntime"

    def __init__(self, file: Path, threads: int | None = None) -> None:
        runtime = package("onnxruntime", "onnx", "the backend onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or torch.get_num_threads()
        self._session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs: list[str] = [each.name for each in self._session.get_inputs()]

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return the graph's first output for inputs by name."""
        return self._session.run(None, {name: inputs[name] for name in self.inputs})[0]

    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors `[B, D]` of tokens `[B, S]`, of which `lengths [B]` are valid in each row."""
        return self.run(padded(tokens, lengths))


def quantize_onnx(source: Path, file: Path, batches: Sequence[Batch]) -> None:
    """Write a graph whose linear maps compute in 8 bits, with activations scaled by what texts show.

    Weights have a scale for each column. What a map gives stays in float32, as do the products of attention: one scale
    for all of it would be that of its largest numbers, and costs more nearness than all the rest (mean cosine of MiniLM
    0.946 instead of 0.993) and saves no time.

    Args:
        source: The graph in float32.
        file: Where to write.
        batches: Of texts from the corpus.
    """
    package("onnxruntime", "onnx", "8 bits by onnxruntime")
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Any:
            return next(self.left, None)

    prepared = file.with_name(f"prepared-{source.name}")
    with quiet():
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared), load_external_data=False).graph
        weights = {each.name for each in graph.initializer}
        linear = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
        quantization.quantize_static(
            str(prepared),
            str(file),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=linear,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={
                "CalibMovingAverage": True,
                "CalibTensorRangeSymmetric": False,
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            },
        )
    prepared.unlink()
