"""Token ids in files: whole or absent, the same whoever writes them."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.compression.data.store import MANIFEST, Encoded, Made, Store, kept_store

DOCUMENTS: list[Encoded] = [
    (0, -1, [np.array([1, 2, 3], np.int32)]),
    (2, 7, [np.array([9], np.int32)]),
    (0, 4, [np.array([], np.int32)]),
    (0, -1, [np.array([65_535, 0], np.int32)]),
]


def kept(folder: Path, request: object = 1, made: list[int] | None = None, notes: list[str] | None = None) -> Store:
    def make() -> Made:
        if made is not None:
            made.append(1)
        return Made(DOCUMENTS, {"found": 3})

    return kept_store({"what": request}, folder, make, [] if notes is None else notes, vocabulary=65_536)


def content(store: Store) -> dict[str, list[list[int]]]:
    return {split: [tokens.part(n).tolist() for n in range(len(tokens))] for split, tokens in store.splits.items()}


EXPECTED = {"train": [[1, 2, 3], [], [65_535, 0]], "dev": [], "test": [[9]]}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    made: list[int] = []
    first, again = kept(tmp_path, made=made), kept(tmp_path, made=made)
    assert (first.made, again.made, made) == (True, False, [1])
    assert content(first) == content(again) == EXPECTED
    assert again.splits["train"].labels.tolist() == [-1, 4, -1]
    assert again.splits["train"].offsets.tolist() == [0, 3, 3, 5]
    assert again.about == {"found": 3}
    assert first.key == again.key
    assert again.splits["train"].flat.dtype == np.uint16
    assert again.splits["train"].between(1, 4).dtype == np.int64
    copy = pickle.loads(pickle.dumps(again.splits["train"]))
    assert copy.between(0, 5).tolist() == [1, 2, 3, 65_535, 0]


def test_other_requests_have_stores_of_their_own(tmp_path: Path) -> None:
    made: list[int] = []
    assert kept(tmp_path, 1, made).path != kept(tmp_path, 2, made).path
    assert len(made) == 2


def test_large_vocabularies_get_wider_ids_and_examples_may_have_parts(tmp_path: Path) -> None:
    parts = [np.array([70_000], np.int32), np.array([1, 2], np.int32), np.array([3], np.int32)]
    store = kept_store(
        {}, tmp_path, lambda: Made([(1, 2, parts), (1, 0, parts[::-1])], {}), [], vocabulary=65_537, parts=3
    )
    dev = store.splits["dev"]
    assert len(dev) == 2
    assert [dev.part(1, part).tolist() for part in range(3)] == [[3], [1, 2], [70_000]]
    assert dev.flat.dtype == np.int32


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["train.tokens", "train.ends", "test.labels", MANIFEST])
@pytest.mark.parametrize("how", ["missing", "cut", "changed"])
def test_a_damaged_store_is_made_anew(tmp_path: Path, name: str, how: str) -> None:
    before = kept(tmp_path)
    whole = {path.name: path.read_bytes() for path in before.path.iterdir()}
    reader = before.splits["train"]
    damage(before.path / name, how)
    notes: list[str] = []
    made: list[int] = []
    after = kept(tmp_path, made=made, notes=notes)
    assert made == [1]
    assert content(after) == EXPECTED
    assert {path.name: path.read_bytes() for path in after.path.iterdir()} == whole
    assert len(reader.between(0, 5)) == 5  # whoever has it open keeps it
    if not (name == MANIFEST and how == "missing"):
        assert notes == [f"{before.path} is damaged; the texts are encoded anew."]


def test_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    def broken() -> Iterator[Encoded]:
        yield from DOCUMENTS
        raise DataError("a bad file")

    with pytest.raises(DataError, match="a bad file"):
        kept_store({"what": 1}, tmp_path, lambda: Made(broken(), {}), [], vocabulary=65_536)
    (place,) = tmp_path.iterdir()
    assert list(place.iterdir()) == []
    assert content(kept(tmp_path)) == EXPECTED


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot keep tokens in .*file.*: .*; name another folder by data.cache"):
        kept(tmp_path / "file")


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from quincunx.recipes.compression.data.store import Made, kept_store
def documents():
    (Path(sys.argv[1]) / f"started-{sys.argv[2]}").touch()
    for number in range(20):
        time.sleep(float(sys.argv[3]))
        yield 0, -1, [np.full(5000, number, np.int32)]
store = kept_store({"what": 1}, Path(sys.argv[1]) / "cache", lambda: Made(documents(), {}), [], vocabulary=300)
print(store.made, store.splits["train"].between(0, 100_000).sum())
"""


def slow(folder: Path, name: str, pause: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", SLOW, str(folder), name, str(pause)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    both = [slow(tmp_path, name, 0.03) for name in "ab"]
    said = sorted(each.communicate(timeout=60)[0].strip() for each in both)
    total = 5000 * sum(range(20))
    assert said == [f"False {total}", f"True {total}"]


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    first = slow(tmp_path, "a", 0.2)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started-a").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (place,) = (tmp_path / "cache").iterdir()
    assert not (place / MANIFEST).exists()
    second = slow(tmp_path, "b", 0)
    assert second.communicate(timeout=60)[0].strip() == f"True {5000 * sum(range(20))}"
    assert not [path.name for path in place.iterdir() if path.name.startswith(".")]
    assert json.loads((place / MANIFEST).read_text())["files"]["train.tokens"]["bytes"] == 200_000
