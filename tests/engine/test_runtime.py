"""On what is computed: devices, precisions, determinism, and how wishes that cannot be met are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from quincunx.config.sections.run import Compute
from quincunx.engine import runtime as module
from quincunx.engine.runtime import Runtime, choose_dtype, find_device, native, start_runtime
from quincunx.errors import RunError

CPU = torch.device("cpu")


def flags(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(module, "_cpu_flags", lambda: frozenset(names))


@pytest.mark.parametrize(
    ("precision", "has", "wanted"),
    [
        ("float32", (), torch.float32),
        ("auto", (), torch.float32),
        ("auto", ("avx512f", "avx2"), torch.float32),
        ("auto", ("avx512_bf16",), torch.bfloat16),
        ("auto", ("amx_bf16",), torch.bfloat16),
        ("auto", ("bf16",), torch.bfloat16),  # as arm calls it
        ("auto", ("avx512_fp16",), torch.float32),
        ("bf16", ("avx512_bf16",), torch.bfloat16),
        ("fp16", ("avx512_fp16",), torch.float16),
        ("fp16", ("amx_fp16",), torch.float16),
    ],
)
def test_precisions_that_the_processor_has(monkeypatch, precision, has, wanted):
    flags(monkeypatch, *has)
    assert choose_dtype(Compute(precision=precision), CPU) == wanted


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_an_emulated_half_is_refused_unless_forced(monkeypatch, precision, dtype):
    flags(monkeypatch, "avx2")
    with pytest.raises(RunError, match=rf"compute\.precision is {precision}.*only emulates.*force_precision=true"):
        choose_dtype(Compute(precision=precision), CPU)
    with pytest.raises(RunError):
        start_runtime(Compute(precision=precision, device="cpu"))
    assert choose_dtype(Compute(precision=precision, force_precision=True), CPU) == dtype


def test_what_is_native_on_an_accelerator(monkeypatch):
    gpu = torch.device("cuda", 0)
    for capability, bf16, fp16 in (((6, 1), False, False), ((7, 5), False, True), ((8, 0), True, True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert (native(torch.bfloat16, gpu), native(torch.float16, gpu)) == (bf16, fp16)


def test_processor_flags_are_read_where_they_are_kept(tmp_path, monkeypatch):
    found = module._cpu_flags()
    assert isinstance(found, frozenset)
    real = open

    def absent(path: Any, *rest: Any, **named: Any) -> Any:
        if path == "/proc/cpuinfo":
            raise FileNotFoundError(path)
        return real(path, *rest, **named)

    monkeypatch.setattr("builtins.open", absent)
    assert module._cpu_flags() == frozenset(), "on another system nothing is taken for native"


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device("auto") == find_device("cpu") == CPU
    with pytest.raises(RunError, match=r"compute\.device is cuda, but torch finds no CUDA device.*device=auto"):
        find_device("cuda")
    with pytest.raises(RunError, match="no Apple GPU"):
        find_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto").type == "mps"
    assert find_device("auto", local_rank=1) == CPU, "several processes do not share an Apple GPU"


def test_cuda_devices_are_counted(monkeypatch):
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda", 0)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    assert find_device("cuda", local_rank=1) == torch.device("cuda", 1)
    assert chosen == [0, 0, 1, 1]
    for wanted, rank in (("cuda:2", None), ("cuda", 2)):
        with pytest.raises(RunError, match=r"CUDA device 2, torch finds 2 \(numbered from 0\)"):
            find_device(wanted, rank)


def test_deterministic_runs_allow_only_kernels_that_repeat_themselves(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    runtime = start_runtime(Compute(device="cpu", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    runtime.close()
    assert not torch.are_deterministic_algorithms_enabled()


def test_determinism_asked_for_too_late_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with pytest.raises(RunError, match=r"before the first use of CUDA.*CUBLAS_WORKSPACE_CONFIG"):
        start_runtime(Compute(device="cpu", deterministic=True))


def test_threads_are_set_where_asked_for():
    torch.set_num_threads(2)
    runtime = start_runtime(Compute(device="cpu", threads=1))
    assert torch.get_num_threads() == 1
    runtime.close()
    assert torch.get_num_threads() == 2, "what a run changes in the process is put back"


def test_autocast_and_scaler_by_precision():
    linear = nn.Linear(4, 4)
    for dtype, scaled in ((torch.float32, False), (torch.bfloat16, False), (torch.float16, True)):
        runtime = Runtime(CPU, dtype)
        with runtime.autocast():
            assert linear(torch.ones(1, 4)).dtype == dtype
        assert (runtime.scaler() is not None) == scaled


def test_one_process_is_its_own_group():
    runtime = Runtime(CPU, torch.float32)
    assert runtime.main
    assert runtime.add_up({"a": 1.5}) == {"a": 1.5}
    assert runtime.share([1]) == [1]
    assert runtime.any(True)
    assert not runtime.any(False)
    rows = torch.arange(6.0).view(3, 2)
    assert torch.equal(runtime.gather_rows(rows, 3), rows)
    runtime.barrier()
    runtime.close()
