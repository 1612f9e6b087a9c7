"""On what the run computes: device, precision, and one process or several started by torchrun.

Several processes add their gradients by one explicit all-reduce after the backward passes, so that chunk counts may
differ between ranks and no hook decides when anything is sent. R ranks.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from quincunx.config.sections.run import Compute
from quincunx.errors import RunError, UsageError

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def seed_everything(seed: int) -> int:
    """Seed python, numpy and torch on all devices (and, through `PYTHONHASHSEED`, child processes); return the seed.

    Runs do not depend on it: they address their randomness by (seed, purpose, update, row). It is for code around them.
    Raises UsageError when the seed is negative or above 2**63 - 1.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"a seed lies between 0 and 2**63 - 1, found {seed}")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed % 2**32)
    return seed


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the default generators that kernels of foreign modules draw from; about a microsecond on the CPU."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@dataclass
class Runtime:
    """Device, precision and process group of one rank."""

    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world: int = 1
    undo: ExitStack = field(default_factory=ExitStack)
    """Puts back what the start changed in this process: threads, determinism, the process group."""

    @property
    def main(self) -> bool:
        """Whether this process writes the run folder and prints."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes; nothing at all in float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler | None:  # pyright: ignore[reportPrivateImportUsage]
        """Return the loss scaler that fp16 needs, None for every other precision."""
        if self.dtype != torch.float16:
            return None
        return torch.amp.GradScaler(self.device.type)  # pyright: ignore[reportPrivateImportUsage]

    def add_up(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the sum over ranks of each value."""
        if self.world == 1:
            return dict(values)
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self._wire)
        dist.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over ranks, in one all-reduce per dtype.

        A parameter without a gradient on every rank keeps none, so that optimizers treat it as one process would.
        """
        if self.world == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        touched = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
        touched = touched.to(self._wire)
        dist.all_reduce(touched, op=dist.ReduceOp.MAX)
        used = [parameter for parameter, any_rank in zip(trained, touched.tolist(), strict=True) if any_rank]
        for dtype in dict.fromkeys(parameter.dtype for parameter in used):
            group = [parameter for parameter in used if parameter.dtype == dtype]
            pieces = [(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in group]
            flat = torch.cat(pieces)
            dist.all_reduce(flat)
            for parameter, piece in zip(group, flat.split([p.numel() for p in group]), strict=True):
                parameter.grad = piece.view_as(parameter).clone()

    def gather_rows(self, mine: Tensor, count: int) -> Tensor:
        """Return all ranks' rows `[count, ...]` in order; `mine` holds the rows rank, rank + R, ... of them."""
        if self.world == 1:
            return mine
        longest = -(-count // self.world)
        padded = torch.zeros((longest, *mine.shape[1:]), dtype=mine.dtype, device=mine.device)
        padded[: len(mine)] = mine
        pieces = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(pieces, padded)
        # row i is the (i // R)-th of rank i % R
        return torch.stack(pieces, dim=1).flatten(0, 1)[:count]

    def share(self, value: Any) -> Any:
        """Return rank 0's value on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self._wire)
        return box[0]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        if self.world == 1:
            return flag
        return self.add_up({"flag": float(flag)})["flag"] > 0

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Put back what the start of this runtime changed in the process, the process group included."""
        self.undo.close()

    @property
    def _wire(self) -> torch.device:
        return self.device if dist.get_backend() == "nccl" else torch.device("cpu")


def start_runtime(compute: Compute) -> Runtime:
    """Return the runtime that a config and the launcher's environment ask for.

    Started by torchrun (WORLD_SIZE above 1) it joins the process group: nccl on CUDA devices, gloo elsewhere. Raises
    RunError for a device that is not there and for a half precision that the hardware only emulates.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    with ExitStack() as undo:
        if compute.deterministic:
            _make_deterministic(undo)  # before the device is touched: CUDA reads its setting once
        device = find_device(compute.device, int(os.environ.get("LOCAL_RANK", "0")) if world > 1 else None)
        dtype = choose_dtype(compute, device)
        if compute.threads is not None:
            undo.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(compute.threads)
        if world > 1 and not dist.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            _import_before_the_group()
            # evaluation and hashing happen on one rank while the others wait
            dist.init_process_group(backend, timeout=timedelta(hours=6))
            undo.callback(dist.destroy_process_group)
        return Runtime(device, dtype, rank, world, undo.pop_all())


def _import_before_the_group() -> None:
    # This module takes the default group as the default of its arguments when it is imported, which the first optimizer
    # step does. Imported afterwards it would keep the group, and gloo's threads, alive past destroy_process_group: a
    # thread that then asks a finalizing interpreter for its lock ends the process with SIGABRT.
    import torch.distributed.nn.functional  # noqa: F401  # pyright: ignore[reportUnusedImport]


def choose_dtype(compute: Compute, device: torch.device) -> torch.dtype:
    """Return the dtype of forward passes; `auto` is bf16 where it is native, else float32."""
    if compute.precision == "auto":
        return torch.bfloat16 if native(torch.bfloat16, device) else torch.float32
    dtype = DTYPES[compute.precision]
    if dtype != torch.float32 and not native(dtype, device) and not compute.force_precision:
        raise RunError(
            f"compute.precision is {compute.precision}, which {_name(device)} only emulates: slower than float32. "
            "Use compute.precision=auto, or compute.force_precision=true to have it all the same."
        )
    return dtype


def native(dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether a device multiplies this half precision in hardware."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return (major, minor) >= ((8, 0) if dtype == torch.bfloat16 else (7, 0))
    if device.type == "mps":
        return dtype == torch.float16
    if dtype == torch.float16:
        return "amx_fp16" in _cpu_flags() or "avx512_fp16" in _cpu_flags()
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags() or "bf16" in _cpu_flags()


def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def find_device(wanted: str, local_rank: int | None = None) -> torch.device:
    """Return the device of a name; RunError when it is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if local_rank is not None and wanted == "mps":
            wanted = "cpu"
    if wanted.startswith("cuda"):
        if not torch.cuda.is_available():
            raise RunError(f"compute.device is {wanted}, but torch finds no CUDA device; use compute.device=auto")
        index = int(wanted.split(":")[1]) if ":" in wanted else (local_rank or 0)
        if index >= torch.cuda.device_count():
            raise RunError(
                f"compute.device asks for CUDA device {index}, torch finds {torch.cuda.device_count()} "
                "(numbered from 0); choose one of them, or start fewer processes"
            )
        torch.cuda.init()  # its generators are there only after this
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise RunError("compute.device is mps, but torch finds no Apple GPU; use compute.device=auto")
    return torch.device(wanted)


def _make_deterministic(undo: ExitStack) -> None:
    if torch.cuda.is_initialized() and "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
        raise RunError(
            "compute.deterministic must be set before the first use of CUDA in this process: start a new "
            "process, or set CUBLAS_WORKSPACE_CONFIG=:4096:8 before it"
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    undo.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
    torch.use_deterministic_algorithms(True)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"this {'processor' if device.type == 'cpu' else 'Apple GPU'}"
