"""The files that states of frozen layers are kept in: whole records only, whoever writes them, whatever is killed."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from quincunx.errors import RunError
from quincunx.tuners.ladder.cache import STORED, ActivationCache, Record, as_bits

STAMP = np.arange(3, dtype=np.float32)


def states(key: int, length: int = 4, layers: int = 2, width: int = 5) -> Tensor:
    return torch.randn(layers, length, width, generator=torch.Generator().manual_seed(key))


def numbers(record: Record | None, dtype: str = "float32") -> Tensor:
    assert record is not None
    return torch.from_numpy(np.array(record.bits)).view(STORED[dtype])


def find(cache: ActivationCache, key: object) -> Record | None:
    """Return the latest of what is kept by a key."""
    return next(cache.records(str(key)), None)


def put(cache: ActivationCache, key: int, length: int = 4) -> None:
    cache.put(str(key), states(key, length), ["float32"] * 2, 3, STAMP + key)


@pytest.mark.parametrize("dtype", list(STORED))
def test_what_is_kept_is_read_back_to_the_bit(tmp_path: Path, dtype: str) -> None:
    cache = ActivationCache(tmp_path / "new" / "folder", "f" * 32, dtype=dtype)
    for key in range(5):
        put(cache, key, length=key)
    for again in (cache, ActivationCache(tmp_path / "new" / "folder", "f" * 32, dtype=dtype)):
        for key in range(5):
            record = find(again, key)
            assert record is not None
            assert torch.equal(numbers(record, dtype), states(key, key).to(STORED[dtype]))
            assert (record.length, record.kinds, record.outputs) == (key, ("float32", "float32"), 3)
            assert record.stamp.tolist() == (STAMP + key).tolist()
        assert find(again, "5") is None


def test_an_example_without_tokens_is_kept_too(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path, "f" * 32)
    cache.put("0", states(0, 0), ["float32"] * 2, 0, np.empty(0, np.float32))
    for again in (cache, ActivationCache(tmp_path, "f" * 32)):
        assert numbers(find(again, 0)).shape == (2, 0, 5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(1, 4)), max_size=12))
def test_two_writers_see_what_either_wrote(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    caches = [ActivationCache(folder, "f" * 32) for _ in range(2)]
    latest: dict[int, set[int]] = {}
    for who, key, length in writes:
        put(caches[who], key, length)
        latest.setdefault(key, set()).add(length)
        assert numbers(find(caches[who], key)).shape[1] == length
    for cache in (*caches, ActivationCache(folder, "f" * 32)):
        for key in range(6):
            record = find(cache, key)
            if key not in latest:
                assert record is None
            else:  # of two that wrote the same example either one holds
                assert record is not None and record.length in latest[key]
                assert torch.equal(numbers(record), states(key, record.length))


def fill(folder: Path, start: int) -> None:
    """Keep large examples until somebody kills the process."""
    cache = ActivationCache(folder, "f" * 32, limit=1 << 28)
    for key in itertools.count(start, 2):
        tensor = torch.from_numpy(np.full((2, 300, 400), key, np.float32))
        cache.put(str(key), tensor, ["float32"] * 2, 0, np.zeros(3, np.float32))


def test_processes_that_are_killed_leave_whole_records(tmp_path: Path) -> None:
    # forked, so that neither has to import everything anew
    children = [multiprocessing.get_context("fork").Process(target=fill, args=(tmp_path, start)) for start in (0, 1)]
    for process in children:
        process.start()
    until = time.monotonic() + 60
    while time.monotonic() < until and len([*tmp_path.glob("*.jsonl")]) < 2:
        time.sleep(0.02)
    time.sleep(0.1)
    for process in children:
        process.kill()
        process.join()
    cache = ActivationCache(tmp_path, "f" * 32)
    lines = [row for path in tmp_path.glob("*.jsonl") for row in path.read_bytes().split(b"\n")[:-1]]
    assert lines
    for row in lines:
        key = json.loads(row)["key"]
        assert bool((numbers(find(cache, key)) == float(key)).all())
    put(cache, 1, 2)  # and the folder can be filled on
    assert numbers(find(ActivationCache(tmp_path, "f" * 32), 1)).shape[1] in (2, 300)


def damage(folder: Path, change: str) -> None:
    (data,), (lines,) = folder.glob("*.bin"), folder.glob("*.jsonl")
    content = bytearray(data.read_bytes())
    if change == "cut":
        data.write_bytes(content[:-4])
    elif change == "bytes":
        content[-1] ^= 1
        data.write_bytes(content)
    elif change == "gone":
        data.unlink()
    elif change == "half a line":
        lines.write_bytes(lines.read_bytes()[:-5])
    else:
        lines.write_bytes(lines.read_bytes().splitlines(keepends=True)[0] + b'{"key": 4}\n')


@pytest.mark.parametrize("change", ["cut", "bytes", "gone", "half a line", "no line"])
def test_a_damaged_record_is_none(tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = ActivationCache(tmp_path, "f" * 32)
    put(cache, 0)
    put(cache, 1)
    cache.close()
    damage(tmp_path, change)
    again = ActivationCache(tmp_path, "f" * 32)
    with caplog.at_level(logging.WARNING):
        assert find(again, "1") is None
    if "line" not in change:
        assert "what is missing is computed again" in caplog.text
    if change != "gone":
        assert torch.equal(numbers(find(again, "0")), states(0))
    put(again, 1)
    assert torch.equal(numbers(find(ActivationCache(tmp_path, "f" * 32), 1)), states(1))


@pytest.mark.parametrize("other", [{"fingerprint": "e" * 32}, {"dtype": "float16"}])
def test_states_of_another_model_are_refused(tmp_path: Path, other: dict[str, str]) -> None:
    put(ActivationCache(tmp_path, "f" * 32, made_of="BertModel (encoder)"), 0)
    options = {"fingerprint": "f" * 32, "made_of": "BartModel (encoder)", **other}
    with pytest.raises(RunError, match=r"states of BertModel \(encoder\) as float32 .* these are of BartModel"):
        ActivationCache(tmp_path, **options)


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot keep states of frozen layers"):
        ActivationCache(tmp_path / "file", "f" * 32)
    (tmp_path / "cache.json").write_text("[]")
    with pytest.raises(RunError, match="keeps states of an unknown form"):
        ActivationCache(tmp_path, "f" * 32)


def test_a_full_cache_says_so_once_and_keeps_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = 4 * (2 * 4 * 5 + 3)
    cache = ActivationCache(tmp_path, "f" * 32, limit=3 * size)
    with caplog.at_level(logging.WARNING):
        for key in range(6):
            put(cache, key)
    assert cache.full and [find(cache, key) is not None for key in range(6)] == [True] * 2 + [False] * 4
    assert len(caplog.records) == 1
    assert "it has reached its limit" in caplog.text and "2 examples are kept" in caplog.text
    other = ActivationCache(tmp_path, "f" * 32, limit=3 * size)  # what another process wrote counts
    put(other, 9)
    assert other.full


def test_a_disk_that_refuses_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ActivationCache(tmp_path / "folder", "f" * 32)
    put(cache, 0)
    with Path("/dev/full").open("wb", buffering=0) as full, caplog.at_level(logging.WARNING):
        assert cache._writer is not None
        cache._writer._file.close()
        cache._writer._file = full  # pyright: ignore[reportAttributeAccessIssue]
        put(cache, 1)
        put(cache, 2)
    assert cache.full and len(caplog.records) == 1 and "keeps no more states" in caplog.text
    assert find(cache, "1") is None and torch.equal(numbers(find(cache, "0")), states(0))


def test_bits_are_the_same_memory() -> None:
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    as_bits(tensor)[1] = 0x3F80
    assert tensor.tolist() == [0.0, 1.0, 0.0]
