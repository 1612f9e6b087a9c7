import threading
from pathlib import Path

import pytest

from quincunx.data.cache import cache_folder
from quincunx.data.partial import partial_file
from quincunx.errors import DataError
from quincunx.recipes.long_range.config import Data
from quincunx.recipes.long_range.data import Splits
from quincunx.recipes.long_range.data import load_splits as load_any
from quincunx.recipes.long_range.data.listops import FILE_NAMES, Parameters, generate

SMALL = Parameters(5, 40, 4, 5, seed=7)
COUNTS = {"train": 60, "dev": 10, "test": 10}


def load_splits(data: Data, **options: object) -> Splits:
    return load_any("listops", data, **options)  # type: ignore[arg-type]


def settings(cache: Path, **changes: object) -> Data:
    return Data(**{**COUNTS, "min_length": 5, "max_length": 40, "max_depth": 4, "max_arguments": 5, "seed": 7,
                   "cache": str(cache), **changes})  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    generate(tmp_path / "data", COUNTS, SMALL)
    return tmp_path / "data"


def cached(cache: Path) -> Path:
    (path,) = cache.glob("listops-*.npz")
    return path


# Generated


def test_generated_splits_are_kept_in_the_cache_and_said(tmp_path):
    cache = tmp_path / "deep" / "cache"
    progress = []
    first = load_splits(settings(cache), on_progress=lambda done, total: progress.append((done, total)))
    assert (len(first.train), len(first.dev), len(first.test)) == (60, 10, 10)
    assert first.notes == [
        "data.path is unset: ListOps by the official rules, seed 7, 60/10/10 examples (train/dev/test) of 6 "
        f"to 39 tokens, generated and kept in the cache ({cached(cache)})."
    ]
    assert progress[-1] == (80, 80)
    progress.clear()
    again = load_splits(settings(cache), on_progress=lambda done, total: progress.append((done, total)))
    assert "from the cache" in again.notes[0]
    assert not progress
    assert again.fingerprints == first.fingerprints
    assert [path.name for path in cache.iterdir()] == [cached(cache).name]


def test_generated_and_exported_sets_are_the_same(tmp_path, folder):
    generated = load_splits(settings(tmp_path / "cache"))
    read = load_splits(settings(tmp_path / "cache", path=str(folder)))
    assert read.fingerprints == generated.fingerprints
    assert set(read.fingerprints) == set(FILE_NAMES)
    assert read.notes == []


@pytest.mark.parametrize("change", [{"seed": 8}, {"train": 61}, {"max_depth": 5}, {"max_length": 20}])
def test_other_settings_give_another_set(tmp_path, change):
    one, two = load_splits(settings(tmp_path)), load_splits(settings(tmp_path, **change))
    assert one.fingerprints["train"] != two.fingerprints["train"]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_limit_bounds_what_is_generated(tmp_path):
    splits = load_splits(settings(tmp_path), limit=20)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (20, 10, 10)
    assert "20/10/10" in splits.notes[0]


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "pickle", "another set"])
def test_a_damaged_cache_is_noticed_and_made_anew(tmp_path, harm):
    first = load_splits(settings(tmp_path))
    path = cached(tmp_path)
    data = bytearray(path.read_bytes())
    if harm == "cut":
        data = data[: len(data) // 2]
    elif harm == "flip":
        place = data.index(first.train.flat.tobytes())
        data[place] ^= 1
    elif harm == "empty":
        data = bytearray()
    elif harm == "pickle":
        data = bytearray(b"\x80\x04N.")
    else:
        load_splits(settings(tmp_path / "other", seed=8))
        data = bytearray(cached(tmp_path / "other").read_bytes())
    path.write_bytes(data)
    again = load_splits(settings(tmp_path))
    assert again.notes[0] == f"{path} is damaged; it is made anew."
    assert again.fingerprints == first.fingerprints
    assert "from the cache" in load_splits(settings(tmp_path)).notes[0]


def test_of_two_at_once_one_generates_and_the_other_waits(tmp_path):
    generating, go_on = threading.Event(), threading.Event()
    results: dict[str, Splits] = {}

    def hold(done: int, total: int) -> None:
        generating.set()
        assert go_on.wait(20)

    def first() -> None:
        results["first"] = load_splits(settings(tmp_path), on_progress=hold)

    def second() -> None:
        results["second"] = load_splits(settings(tmp_path))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert generating.wait(20)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert results["first"].fingerprints == results["second"].fingerprints
    assert sorted("generated" in splits.notes[0] for splits in results.values()) == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == [cached(tmp_path).name]


def test_what_a_killed_generation_left_is_taken_over(tmp_path):
    load_splits(settings(tmp_path))
    target = cached(tmp_path)
    target.unlink()
    target.with_name(f".{target.name}.partial").write_bytes(b"half of it")
    load_splits(settings(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    with partial_file(target, wait=False):
        pass


def test_the_cache_is_the_setting_else_the_environment_else_the_home_folder(monkeypatch):
    monkeypatch.setenv("QUINCUNX_CACHE", "/somewhere")
    assert cache_folder("there") == Path("there")
    assert cache_folder(None) == Path("/somewhere")
    monkeypatch.setenv("QUINCUNX_CACHE", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder(None) == Path("/home/someone/.cache/quincunx")


def test_a_cache_that_cannot_be_written_is_said_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot keep prepared data in .*data\.cache .*QUINCUNX_CACHE"):
        load_splits(settings(tmp_path / "file"))


# Read


def test_fewer_than_the_file_holds_are_the_first(tmp_path, folder):
    whole = load_splits(settings(tmp_path, path=str(folder)))
    part = load_splits(settings(tmp_path, path=str(folder), train=25), explicit={"data.train"})
    assert part.train.fingerprint() == whole.train.take(25).fingerprint()
    assert part.notes == [f"{folder}/basic_train.tsv: the first 25 rows are used."]
    limited = load_splits(settings(tmp_path, path=str(folder)), limit=5)
    assert [len(split) for split in (limited.train, limited.dev, limited.test)] == [5, 5, 5]


def test_more_than_the_file_holds_is_an_error_only_where_it_was_asked_for(tmp_path, folder):
    asked = settings(tmp_path, path=str(folder), train=96_000)
    with pytest.raises(DataError, match=r"basic_train\.tsv has 60 rows, data\.train asks for 96,000"):
        load_splits(asked, explicit={"data.train"})
    splits = load_splits(asked)
    assert len(splits.train) == 60
    assert splits.notes == [f"{folder}/basic_train.tsv has 60 rows: all are used (data.train is unset)."]


def test_bad_rows_count_as_rows_of_the_file_and_are_handed_on(tmp_path, folder):
    (folder / "listops.json").unlink()
    path = folder / "basic_train.tsv"
    lines = path.read_text().splitlines()
    lines[4] = "[MAX 1 2 ]\t1"
    path.write_text("\n".join(lines) + "\n")
    splits = load_splits(settings(tmp_path, path=str(folder)), explicit={"data.train", "data.dev", "data.test"})
    assert len(splits.train) == 59
    assert [(row.file, row.line) for row in splits.skipped] == [(str(path), 5)]
    (note,) = splits.notes
    assert note.startswith(f"{path}: 1 bad row left out; the first: {path}:5: the label is 1")


def test_unknown_operators_are_said(tmp_path, folder):
    (folder / "listops.json").unlink()
    (folder / "basic_val.tsv").write_text("Target\tSource\n3\t[FIRST 3 4 ]\n4\t[MAX 3 4 ]\n")
    notes = load_splits(settings(tmp_path, path=str(folder), dev=2)).notes
    assert any("basic_val.tsv: 1 of 2 expressions hold FIRST or LAST" in note for note in notes)


def test_a_file_cut_since_it_was_generated_is_refused(tmp_path, folder):
    path = folder / "basic_test.tsv"
    path.write_bytes(path.read_bytes()[: -len(path.read_text().splitlines()[-1]) - 1])
    with pytest.raises(DataError, match=r"basic_test\.tsv has .* bytes, listops\.json beside it says"):
        load_splits(settings(tmp_path, path=str(folder)))


@pytest.mark.parametrize(
    "text",
    [
        '{"files": {}}',
        "[]",
        "no JSON",
        '{"format": 1, "parameters": {}, "counts": {}, "files": {}}',
        '{"format": 1, "parameters": {}, "counts": {}, "files": {"basic_val.tsv": {}}}',
    ],
)
def test_a_manifest_of_something_else_is_named(tmp_path, folder, text):
    (folder / "listops.json").write_text(text)
    with pytest.raises(DataError, match=r"listops\.json is not a manifest"):
        load_splits(settings(tmp_path, path=str(folder)))


def test_missing_files_and_folders_are_named(tmp_path, folder):
    (folder / "basic_val.tsv").unlink()
    with pytest.raises(DataError, match=r"holds no basic_val\.tsv; expected basic_train\.tsv, basic_val"):
        load_splits(settings(tmp_path, path=str(folder)))
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_splits(settings(tmp_path, path=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=r"basic_train\.tsv is a file; expected a folder"):
        load_splits(settings(tmp_path, path=str(folder / "basic_train.tsv")))
