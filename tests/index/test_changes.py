"""Additions and deletions against an index of what is left, and what interrupted or refused ones leave behind."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes import clustered, sorted_by_hand, source
from quincunx.errors import DataError, QuincunxError, UsageError
from quincunx.index import building
from quincunx.index.building import add, build, compact, delete
from quincunx.index.exact import NOTHING
from quincunx.index.indexed import Index
from quincunx.index.options import KINDS

WIDTH = 32
VECTORS = clustered(1200, WIDTH)
QUERIES = clustered(30, WIDTH, seed=1)


def state(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_deleted_never_show_and_the_next_best_take_their_places(kind, tmp_path: Path):
    build(source(VECTORS), tmp_path / "index", kind)
    # the hardest case: all that a search would look at first is gone, for every query
    gone = {number for row in sorted_by_hand(QUERIES, VECTORS, 25)[0] for number in row}
    index = delete(tmp_path / "index", [f"d{number}" for number in gone])
    assert len(index) == 1200 - len(gone)
    left = np.array([number for number in range(1200) if number not in gone])
    assert index.documents.tolist() == left.tolist()
    found = index.search(QUERIES, 10).documents
    assert (found != NOTHING).all() and not gone & set(found.ravel().tolist())
    wanted = left[np.array(sorted_by_hand(QUERIES, VECTORS[left], 10)[0])]
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)])
    assert shared == 1 if KINDS[kind].exact else shared >= 0.95


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 3, 60])
def test_k_are_found_while_k_are_left(kind, left, tmp_path: Path):
    build(source(VECTORS), tmp_path / "index", kind, shard_size=700)
    keep = np.random.default_rng(5).permutation(1200)[:left]
    index = delete(tmp_path / "index", [f"d{number}" for number in range(1200) if number not in set(keep.tolist())])
    found = index.search(QUERIES, 10).documents
    assert ((found != NOTHING).sum(1) == min(10, left)).all()
    assert set(found[found != NOTHING].tolist()) <= set(keep.tolist())
    if left == 3:
        assert all(set(row[:3]) == set(keep.tolist()) for row in found.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_added_documents_are_found_beside_the_others(kind, tmp_path: Path):
    build(source(VECTORS[:900]), tmp_path / "index", kind)
    index = add(tmp_path / "index", source(VECTORS[900:], [f"d{number}" for number in range(900, 1200)]))
    assert index.ids == [f"d{number}" for number in range(1200)]
    found = index.search(QUERIES, 10).documents.tolist()
    wanted, _ = sorted_by_hand(QUERIES, VECTORS, 10)
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)])
    assert shared == 1 if KINDS[kind].exact else shared >= 0.95
    own = index.search(VECTORS[900:], 1).documents[:, 0]
    assert (own == np.arange(900, 1200)).mean() >= 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_compacting_changes_the_numbers_and_nothing_that_is_found(kind, tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:800]), folder, kind)
    add(folder, source(VECTORS[800:], [f"d{number}" for number in range(800, 1200)]))
    before = delete(folder, [f"d{number}" for number in range(0, 1200, 3)])
    names = [[before.ids[d] for d in row] for row in before.search(QUERIES, 5, compare_all=True).documents.tolist()]
    after = compact(folder)
    assert len(after.parts) == 1 and len(after.ids) == len(after) == 800
    assert [
        [after.ids[d] for d in row] for row in after.search(QUERIES, 5, compare_all=True).documents.tolist()
    ] == names
    assert after.recall(QUERIES).recall >= 0.95
    assert after.generation > before.generation
    assert sorted(state(folder)) == sorted(["index.json", *after.manifest["files"]])  # nothing old is left


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_changes_leave_what_a_dictionary_would_hold(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("index") / "index"
    kind = data.draw(st.sampled_from(["flat", "exact", "hnsw", "int8"]))
    known: dict[str, np.ndarray] = {f"d{row}": VECTORS[row] for row in range(6)}
    build(source(VECTORS[:6]), folder, kind)
    for step in range(data.draw(st.integers(1, 4))):
        names = data.draw(
            st.lists(st.sampled_from([f"d{row}" for row in range(12)]), min_size=1, max_size=6, unique=True)
        )
        change = data.draw(st.sampled_from(["add", "replace", "delete", "compact"]))
        if change == "compact":
            if known:
                compact(folder)
        elif change == "delete":
            delete(folder, names, ignore_missing=True)
            known = {name: vector for name, vector in known.items() if name not in names}
        else:
            vectors = clustered(len(names), WIDTH, seed=100 + step)
            if change == "add" and set(names) & set(known):
                with pytest.raises(UsageError, match="already"):
                    add(folder, source(vectors, names))
                continue
            add(folder, source(vectors, names), replace=change == "replace")
            known |= dict(zip(names, vectors, strict=True))
    index = Index.open(folder, verify=True)
    assert set(index.numbers) == set(known) and len(index) == len(known)
    found = index.search(QUERIES[:2], 12)
    for row, query in enumerate(QUERIES[:2]):
        scores = {name: float(vector.astype(np.float64) @ query) for name, vector in known.items()}
        wanted = sorted(scores, key=lambda name: -scores[name])
        assert [index.ids[d] for d in found.documents[row].tolist() if d != NOTHING] == wanted


def test_replacing_puts_the_new_in_the_place_of_the_old(tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:100]), folder)
    with pytest.raises(
        UsageError, match=r"ids 'd1', 'd2' of the source are in .* already: nothing was added. Give --replace"
    ):
        add(folder, source(VECTORS[200:203], ["d1", "d2", "new"]))
    index = add(folder, source(VECTORS[200:203], ["d1", "d2", "new"]), replace=True)
    assert len(index) == 101
    assert index.ids[index.search(VECTORS[200:201], 1).documents[0, 0]] == "d1"
    assert index.search(VECTORS[1:2], 1).scores[0, 0] < 1 - 1e-3  # the old d1 is gone


def test_unknown_ids_are_named_and_nothing_is_deleted(tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:10]), folder)
    before = state(folder)
    with pytest.raises(UsageError, match=r"ids '1', 'x', 'y' and 1 more are not in .*: nothing was deleted"):
        delete(folder, ["d1", "1", "x", "y", "z"])
    assert state(folder) == before
    assert len(delete(folder, ["d1", "d1", "x"], ignore_missing=True)) == 9
    with pytest.raises(UsageError, match="id 'd1' is not in"):
        delete(folder, ["d1"])


def test_vectors_of_other_weights_are_refused_naming_both(tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:10]), folder)
    before = state(folder)
    with pytest.raises(UsageError, match="index does not fit the source: weights a and b"):
        add(folder, source(VECTORS[:10], weights="b"))
    with pytest.raises(UsageError, match="tokenizer t and u; similarity cosine and dot"):
        Index.open(folder, made={**source(VECTORS).made, "tokenizer": "u", "similarity": "dot"})
    own = {**source(VECTORS).made, "prompt": "q: "}
    assert len(Index.open(folder, made=own)) == 10
    assert len(Index.open(folder, made={**own, "side": "query", "tokenizer": "of queries"})) == 10
    assert state(folder) == before


@pytest.mark.parametrize("failing", ["describe", "write_manifest", "make"])
def test_a_change_that_is_cut_off_leaves_the_index_as_it_was(failing, tmp_path: Path, monkeypatch):
    folder = tmp_path / "index"
    build(source(VECTORS[:100]), folder, "int8")
    before = state(folder)

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(building, failing, cut_off)
        with pytest.raises(KeyboardInterrupt):
            add(folder, source(VECTORS[100:200], [f"n{row}" for row in range(100)]))
        with pytest.raises(KeyboardInterrupt):
            build(source(VECTORS[:100]), tmp_path / "other", "int8")
    after = state(folder)
    assert {name: after[name] for name in before} == before  # what was written beside is not named
    assert len(Index.open(folder, verify=True)) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]
    assert len(add(folder, source(VECTORS[100:200], [f"n{row}" for row in range(100)]))) == 200
    assert sorted(state(folder)) == sorted(["index.json", *Index.open(folder, verify=True).manifest["files"]])


def test_what_a_killed_process_left_of_a_new_index_is_taken_over(tmp_path: Path):
    left = tmp_path / ".index.writing"
    left.mkdir()
    (left / "vectors-00000.npy").write_bytes(b"half")
    assert len(build(source(VECTORS[:5]), tmp_path / "index")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_two_processes_do_not_change_an_index_at_once(tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:5]), folder)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is changing"):
            delete(folder, ["d1"])
        assert len(Index.open(folder)) == 5  # reading it needs no turn
    finally:
        os.close(held)


def test_files_of_others_in_the_folder_stay(tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:5]), folder)
    (folder / "words").mkdir()
    (folder / "notes.txt").write_text("mine")
    delete(folder, ["d1"])
    compact(folder)
    assert (folder / "words").is_dir() and (folder / "notes.txt").read_text() == "mine"


def test_searchers_that_are_open_go_on_with_what_they_opened(tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:50]), folder)
    opened = Index.open(folder)
    delete(folder, ["d1"])
    compact(folder)
    assert opened.search(VECTORS[1:2], 1).documents[0, 0] == 1


@pytest.mark.parametrize("what", ["file", "folder", "index"])
def test_what_is_there_already_is_left_as_it_is(what, tmp_path: Path):
    folder = tmp_path / "index"
    if what == "file":
        folder.write_text("mine")
    elif what == "folder":
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    else:
        build(source(VECTORS[:5]), folder)
    with pytest.raises(UsageError, match="left as it is: give another --out"):
        build(source(VECTORS[:7]), folder)
    if what == "index":
        assert len(Index.open(folder)) == 5
    (tmp_path / "empty").mkdir()
    assert len(build(source(VECTORS[:7]), tmp_path / "empty")) == 7


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut", "vectors-00000.npy has .* bytes, and had"),
        ("missing", "int8-00000.safetensors is missing"),
        ("outside", "names '../secret', which is outside the index's folder"),
        ("absolute", "names '/etc/hostname', which is outside"),
        ("later", "is of format 2, this version of quincunx reads format 1"),
        ("no json", "index.json cannot be read"),
        ("no list", "holds|damaged"),
        ("lacks", "damaged: it lacks kind"),
        ("elsewhere", "damaged"),
        ("ids", "expected a list of 40 ids"),
    ],
)
def test_a_damaged_index_is_not_opened(damage, said, tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS[:40]), folder, "int8")
    (tmp_path / "secret").write_text("x")
    path = folder / "index.json"
    manifest = json.loads(path.read_text())
    if damage == "cut":
        os.truncate(folder / "vectors-00000.npy", 1000)
    elif damage == "missing":
        (folder / "int8-00000.safetensors").unlink()
    elif damage in ("outside", "absolute"):
        name = "../secret" if damage == "outside" else "/etc/hostname"
        manifest["files"][name] = {"bytes": 1, "blake2b": "00"}
        manifest["parts"][0]["vectors"] = name
    elif damage == "elsewhere":
        manifest["parts"][0]["vectors"] = "../secret"  # not among the files, which are checked
    elif damage == "later":
        manifest["format"] = 2
    elif damage == "no list":
        manifest["parts"] = 7
    elif damage == "lacks":
        del manifest["kind"]
    elif damage == "ids":
        (folder / "ids-00000.json").write_bytes(b"{" + b" " * (manifest["files"]["ids-00000.json"]["bytes"] - 2) + b"}")
    path.write_text("{" if damage == "no json" else json.dumps(manifest))
    with pytest.raises(QuincunxError, match=said):
        Index.open(folder)


def test_contents_that_were_changed_show_when_they_are_read(tmp_path: Path):
    folder = tmp_path / "index"
    build(source(VECTORS), folder, "hnsw")
    for name in ("hnsw-00000.faiss", "vectors-00000.npy"):
        path = folder / name
        before = path.read_bytes()
        path.write_bytes(before[:-4] + bytes(4))
        with pytest.raises(QuincunxError, match=f"{name} is not what was written"):
            Index.open(folder, verify=True)
        if name.startswith("hnsw"):
            with pytest.raises(QuincunxError, match="is not what was written"):
                Index.open(folder).search(QUERIES, 3)
        path.write_bytes(before)
    assert len(Index.open(folder, verify=True)) == 1200


def test_no_folder_and_no_index_say_how_to_make_one(tmp_path: Path):
    for change in (
        lambda: Index.open(tmp_path / "nowhere"),
        lambda: delete(tmp_path, ["a"]),
        lambda: compact(tmp_path),
    ):
        with pytest.raises(UsageError, match=r"holds no index .* quincunx index STORE"):
            change()
    build(source(VECTORS[:2]), tmp_path / "index")
    delete(tmp_path / "index", ["d0", "d1"])
    with pytest.raises(UsageError, match="no documents left"):
        compact(tmp_path / "index")
    with pytest.raises(DataError, match="nothing to add"):
        add(tmp_path / "index", source(VECTORS[:0]))
    assert len(add(tmp_path / "index", source(VECTORS[:2]))) == 2  # ids of those deleted are free again


def test_no_file_of_an_index_is_a_pickle(tmp_path: Path):
    for kind in KINDS:
        folder = build(source(VECTORS[:100]), tmp_path / kind, kind).folder
        delete(folder, ["d1"])
        for path in folder.glob("*.npy"):
            np.load(path, allow_pickle=False)
        suffixes = {path.suffix for path in folder.iterdir()}
        assert suffixes <= {".json", ".npy", ".safetensors", ".faiss"}
