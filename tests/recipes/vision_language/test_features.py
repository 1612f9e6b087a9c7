"""Files of features: what goes in comes out, a killed extraction goes on, anything else is refused with its place."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.features import Features, feature_writer, write_features, writing

Pictures = dict[str, NDArray[Any]]
WIDTH = 5


def pictures(count: int = 20, kind: str = "float32") -> Pictures:
    """Features of pictures of 0 to 4 rows."""
    generator = np.random.default_rng(1)
    return {f"p{n}": generator.standard_normal((n % 5, WIDTH)).astype(kind) for n in range(count)}


def write(path: Path, given: Pictures | None = None, **more: Any) -> Path:
    write_features(path, (pictures() if given is None else given).items(), **{"width": WIDTH, "model": "m", **more})
    return path


def assert_same(path: Path, expected: Pictures, kind: str = "float16") -> None:
    found = Features(path)
    assert set(found.ids) == set(expected) == set(found)
    for name, rows in expected.items():
        assert found[name].dtype == np.dtype(kind)
        np.testing.assert_array_equal(found[name], rows.astype(kind))
        assert found.rows_of(name) == len(rows)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH_BYTES", 100)


def extract(path: Path, wanted: Pictures, killed_after: int | None = None) -> list[str]:
    """Add what is missing, as an extraction does; return what had to be computed."""
    computed: list[str] = []
    with feature_writer(path, width=WIDTH, model="m") as writer:
        for name, rows in wanted.items():
            if name in writer.ids:
                continue
            if len(computed) == killed_after:
                raise KeyboardInterrupt
            writer.add(name, rows)
            computed.append(name)
    return computed


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_rows_are_those_that_were_written(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "new" / "a.arrow", dtype=kind, about={"encoder": "RN50"})
    assert_same(path, pictures(), kind)
    found = Features(path, width=WIDTH, model="m")
    assert found.ids == tuple(pictures()) and len(found) == 20 and found.longest == 4
    assert (found.width, found.model, found.header.about) == (WIDTH, "m", {"encoder": "RN50"})
    assert "p3" in found and "x" not in found and found.missing(["p3", "x"]) == ["x"]
    assert [file.name for file in path.parent.iterdir()] == ["a.arrow"]
    assert not found["p4"].flags.writeable


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(0, 6), max_size=12),
    width=st.integers(1, 9),
    kind=st.sampled_from(["float16", "float32"]),
    batch=st.integers(1, 300),
)
def test_any_numbers_of_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], width: int, kind: str, batch: int
) -> None:
    generator = np.random.default_rng(0)
    given = {f"é{n}": generator.standard_normal((count, width)).astype("f4") for n, count in enumerate(rows)}
    path, before = tmp_path_factory.mktemp("any") / "a.arrow", writing.BATCH_BYTES
    writing.BATCH_BYTES = batch
    try:
        assert write_features(path, given.items(), width=width, model="m", dtype=kind) == len(rows)
    finally:
        writing.BATCH_BYTES = before
    assert_same(path, given, kind)
    assert Features(path).longest == max(rows, default=0)


def test_any_reader_of_arrow_reads_them(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    with pa.OSFile(str(write(tmp_path / "a.arrow"))) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.column_names == ["id", "checksum", "rows"]
    for name, rows in zip(table["id"].to_pylist(), table["rows"].to_pylist(), strict=True):
        np.testing.assert_array_equal(np.array(rows, "f4").reshape(-1, WIDTH), pictures()[name].astype("f2"))


def test_fingerprints_tell_files_apart_and_not_places(tmp_path: Path) -> None:
    changed = pictures() | {"p9": pictures()["p9"] * 2}
    files = [
        write(tmp_path / "a"),
        write(tmp_path / "b"),
        write(tmp_path / "c", changed),
        write(tmp_path / "d", model="n"),
    ]
    prints = [Features(path).fingerprint for path in files]
    assert prints[0] == prints[1] and len({*prints}) == 3


def test_a_file_in_the_way_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow")

    def broken() -> Iterable[tuple[str, Any]]:
        yield "q1", np.ones((1, WIDTH))
        raise OSError("the reader of pictures broke")

    with pytest.raises(OSError, match="reader of pictures"):
        write_features(path, broken(), width=WIDTH, model="m")
    assert_same(path, pictures())
    assert [file.name for file in tmp_path.iterdir()] == ["a.arrow"]
    write(path, {"q1": np.ones((1, WIDTH))})
    assert Features(path).ids == ("q1",)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("killed_after", [0, 1, 7, 13, 19])
def test_an_extraction_that_stops_goes_on(tmp_path: Path, killed_after: int) -> None:
    path = tmp_path / "a.arrow"
    with pytest.raises(KeyboardInterrupt):
        extract(path, pictures(), killed_after)
    assert not path.exists()
    assert len(extract(path, pictures())) == 20 - killed_after  # an exception loses nothing
    assert_same(path, pictures())
    assert [file.name for file in tmp_path.iterdir()] == ["a.arrow"]


@pytest.mark.usefixtures("small_batches")
def test_half_a_batch_is_computed_again_wherever_the_file_was_cut(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "a.arrow", pictures(), 15)
    whole = (tmp_path / ".a.arrow.partial").read_bytes()
    lengths = [*range(0, 40, 7), *range(40, len(whole), 97), len(whole)]
    computed: list[int] = []
    for length in lengths:
        path = tmp_path / f"{length}.arrow"
        (tmp_path / f".{length}.arrow.partial").write_bytes(whole[:length])
        computed.append(len(extract(path, pictures())))
        assert_same(path, pictures())
    assert computed == sorted(computed, reverse=True)
    assert computed[0] == 20 and computed[-1] == 5 and len({*computed}) == 4


@pytest.mark.usefixtures("small_batches")
def test_bytes_that_never_reached_the_disk_are_computed_again(tmp_path: Path) -> None:
    path, partial = tmp_path / "a.arrow", tmp_path / ".a.arrow.partial"
    with pytest.raises(KeyboardInterrupt):
        extract(path, pictures(), 15)
    content = bytearray(partial.read_bytes())
    at = content.find(pictures()["p9"].astype("f2").tobytes())
    content[at : at + 8] = bytes(8)
    partial.write_bytes(content)
    assert "p9" in extract(path, pictures())
    assert_same(path, pictures())


@pytest.mark.usefixtures("small_batches")
def test_a_kill_while_the_rest_is_taken_over_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    with pytest.raises(KeyboardInterrupt):
        extract(path, pictures(), 15)
    content = (tmp_path / ".a.arrow.partial").read_bytes()
    (tmp_path / ".a.arrow.rest").write_bytes(content)
    (tmp_path / ".a.arrow.partial").write_bytes(content[: len(content) // 2])
    assert len(extract(path, pictures())) == 5
    assert_same(path, pictures())
    assert [file.name for file in tmp_path.iterdir()] == ["a.arrow"]


@pytest.mark.usefixtures("small_batches")
def test_a_finished_file_is_added_to(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", pictures(8))
    with pytest.raises(KeyboardInterrupt):
        extract(path, pictures(), 5)
    assert_same(path, pictures(8))
    assert len(extract(path, pictures())) == 7
    assert_same(path, pictures())


def _killed(path: Path) -> None:
    writing.BATCH_BYTES = 100
    with feature_writer(path, width=WIDTH, model="m") as writer:
        for number, (name, rows) in enumerate(pictures().items()):
            if number == 12:
                os._exit(9)
            writer.add(name, rows)


def test_a_process_that_is_killed_leaves_its_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(path,))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    computed = extract(path, pictures())
    assert 8 <= len(computed) <= 12
    assert_same(path, pictures())


def _sum(features: Features, name: str, answers: Any) -> None:
    answers.put((float(features[name].astype("f8").sum()), features._process == os.getpid()))


def test_workers_map_the_file_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow")
    features = Features(path)
    expected = float(features["p4"].astype("f8").sum())
    context = multiprocessing.get_context("fork")
    answers: Any = context.Queue()
    process = context.Process(target=_sum, args=(features, "p4", answers))
    process.start()
    assert answers.get(timeout=30) == (expected, True)
    process.join(30)
    content = pickle.dumps(features)
    assert len(content) < 500
    again = pickle.loads(content)
    assert float(again["p4"].astype("f8").sum()) == expected
    fresh = Features(path)
    write(path, pictures(3))
    with pytest.raises(DataError, match="changed while it was in use"):
        fresh["p4"]
    assert float(features["p4"].astype("f8").sum()) == expected  # the file that was mapped is still there


def test_what_is_missing_or_of_another_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", about={"weights": "one.pt"})
    with pytest.raises(DataError, match=r"no features of the picture 'x'.*20 pictures.*quincunx features"):
        Features(path)["x"]
    with pytest.raises(DataError, match=r"there is no file of features .*b\.arrow.*--out"):
        Features(tmp_path / "b.arrow")
    with pytest.raises(DataError, match=r"width 5, expected 2048"):
        Features(path, width=2048)
    with pytest.raises(DataError, match=r"model m \(width 5, float16, weights one.pt\), expected those of model n"):
        Features(path, model="n")
    for more in ({"model": "n"}, {"width": WIDTH + 1}, {"dtype": "float32"}):
        with (
            pytest.raises(UsageError, match=r"has features of model m .*name another file"),
            feature_writer(path, **{"width": WIDTH, "model": "m", **more}),
        ):
            pass
    assert_same(path, pictures())


def test_what_is_different_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", about={"size": "64x64", "rows": "2x2"})
    for about, why in (
        ({"rows": "3x3", "size": "64x64"}, r"\(different: rows 2x2 and 3x3\)"),
        ({"size": "64x64", "rows": "2x2", "fit": "crop"}, r"\(different: fit untold and crop\)"),
        ({"rows": "2x2", "size": "64x64"}, r"\(different: the numbers in the weights\)"),
    ):
        with (
            pytest.raises(UsageError, match=why),
            feature_writer(path, width=WIDTH, model="n", about=about),
        ):
            pass


@pytest.mark.usefixtures("small_batches")
def test_a_half_written_file_of_another_model_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    with pytest.raises(KeyboardInterrupt):
        extract(path, pictures(), 15)
    with (
        pytest.raises(UsageError, match=r"partial is half written and has features of model m .* remove that one"),
        feature_writer(path, width=WIDTH, model="n"),
    ):
        pass
    assert len(extract(path, pictures())) == 5


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "a.arrow"
    whole = write(path).read_bytes()
    for content, why in (
        (b"", "is empty"),
        (b"no arrow at all, but long enough to be", "cut short"),
        *((whole[:length], "cut short") for length in (9, 200, len(whole) // 2, len(whole) - 1)),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"a\.arrow .*{why}.*quincunx features"):
            Features(path)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("id", pa.string())])):
        pass
    with pytest.raises(DataError, match="does not say that it holds features"):
        Features(path)
    with pytest.raises(UsageError, match="left alone"), feature_writer(path, width=WIDTH, model="m"):
        pass
    with pytest.raises(DataError, match="is a directory"):
        Features(tmp_path)


def test_bytes_that_were_changed_are_found_where_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow")
    content = bytearray(path.read_bytes())
    at = content.find(pictures()["p9"].astype("f2").tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    found = Features(path)
    assert len(found["p8"]) == 3
    with pytest.raises(DataError, match=rf"a\.arrow: the rows of picture 'p9' \(at byte {at:,}\)"):
        found["p9"]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (np.ones((2, WIDTH + 1)), r"'x' are float64 of shape \[2, 6\], expected .*\[rows, 5\]"),
        (np.ones(WIDTH), r"shape \[5\]"),
        (np.ones((2, WIDTH), np.int64), "int64"),
        (np.full((2, WIDTH), 7e4), r"row 0 of picture 'x' has 70000 .* store as float32"),
        (np.full((2, WIDTH), np.nan), r"has nan .* not sound"),
    ],
)
def test_rows_that_cannot_be_stored_are_refused(tmp_path: Path, rows: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        write(tmp_path / "a.arrow", {"x": rows})
    assert not [*tmp_path.iterdir()]


def test_misuse_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    twice = [("x", np.ones((1, WIDTH)))] * 2
    with pytest.raises(DataError, match="'x' were given twice"):
        write_features(path, twice, width=WIDTH, model="m")
    wrong: dict[str, dict[str, Any]] = {
        "float16 or float32": {"dtype": "int8"},
        "at least 1": {"width": 0},
        "key": {"model": ""},
    }
    for why, more in wrong.items():
        with pytest.raises(UsageError, match=why):
            write(path, **more)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write(tmp_path / "file" / "a.arrow")
    with (tmp_path / ".a.arrow.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is writing"):
            write(path)
        with pytest.raises(UsageError, match="another process is writing"), feature_writer(path, width=5, model="m"):
            pass
    write(path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Exception, match=r"pyarrow: pip install 'quincunx\[vision_language\]'"):
        write(tmp_path / "a.arrow")
