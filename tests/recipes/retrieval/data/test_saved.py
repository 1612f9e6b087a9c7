"""Data sets on disk: of texts, and guide 000's of token ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError, MissingExtra
from quincunx.recipes.retrieval.data import NoSuchSplit, TokenTexts, load_collection

datasets = pytest.importorskip("datasets")

TRAIN = {"input_ids": [[1, 2, 3], [4], [5, 6]], "pos_input_ids": [[[7], [8, 9]], [], [[7]]]}
TEST = {"input_ids": [[10], [11, 12]], "pos_input_ids": [[[13], [14], [15]], [[16, 17, 18]]]}


def saved(folder: Path, columns: dict[str, list]) -> Path:
    datasets.Dataset.from_dict(columns).save_to_disk(str(folder))
    return folder


def guide(folder: Path, **splits: dict[str, list]) -> Path:
    rows = {split: datasets.Dataset.from_dict(columns) for split, columns in splits.items()}
    datasets.DatasetDict(rows).save_to_disk(str(folder))
    return folder


def texts(collection, relations) -> dict[str, list[str]]:
    return {
        collection.queries.text(query): [collection.documents.text(n) for n in relations.of(query)]
        for query in range(len(collection.queries))
    }


def test_text_columns_are_read_as_rows(tmp_path):
    columns = {
        "question": ["NA", "r"],
        "positive": [["a", "null"], ["b"]],
        "negative": [["c"], []],
        "pos_scores": [[2.0, 1.0], None],
        "source": ["x", "y"],
    }
    collection = load_collection(saved(tmp_path / "mine", columns))
    assert texts(collection, collection.positives) == {"NA": ["a", "null"], "r": ["b"]}
    assert texts(collection, collection.negatives) == {"NA": ["c"], "r": []}
    assert collection.positive_scores is not None and collection.positive_scores[:2].tolist() == [2, 1]
    assert collection.name == "mine" and "not used: source" in collection.notes[0]


def test_bad_rows_of_a_data_set_have_their_number(tmp_path):
    folder = saved(tmp_path / "mine", {"query": ["q", "", "r"], "positive": ["a", "b", None]})
    with pytest.raises(DataError) as caught:
        load_collection(folder)
    assert f"{folder}:2: the query is empty" in str(caught.value) and f"{folder}:3: no document" in str(caught.value)
    assert list(load_collection(folder, skip_bad_rows=True).queries.contents) == ["q"]


def test_splits_of_a_data_set(tmp_path):
    folder = guide(
        tmp_path / "mine", train={"query": ["q"], "positive": ["a"]}, validation={"query": ["v"], "pos": ["b"]}
    )
    assert list(load_collection(folder, split="dev").queries.contents) == ["v"]
    with pytest.raises(NoSuchSplit, match="no split test; there are: train, validation"):
        load_collection(folder, split="test")
    one = saved(tmp_path / "one", {"query": ["q"], "positive": ["a"]})
    assert len(load_collection(one, split="train").queries) == 1
    with pytest.raises(NoSuchSplit, match="no split test; there are: train"):
        load_collection(one, split="test")


def test_other_columns_and_damaged_folders_are_errors(tmp_path):
    folder = saved(tmp_path / "other", {"text": ["a"], "label": [1]})
    with pytest.raises(DataError, match=r"expected a column for the query.*found the columns text, label"):
        load_collection(folder)
    with pytest.raises(DataError, match=r"expected a column input_ids.*found the columns text, label"):
        load_collection(folder, format="tokenized")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset_info.json: expected the description"):
        load_collection(folder)
    with pytest.raises(DataError, match=r"cannot read the saved Hugging Face dataset"):
        load_collection(folder, format="saved")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["../other"]}')
    with pytest.raises(DataError, match="names that are no folder's"):
        load_collection(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither dataset_dict.json nor dataset_info.json"):
        load_collection(tmp_path / "empty", format="tokenized")


def test_the_form_of_guide_000(tmp_path):
    folder = guide(tmp_path / "guide", train=TRAIN, test=TEST)
    collection = load_collection(folder, split="train")
    documents, queries = collection.documents, collection.queries
    assert isinstance(documents, TokenTexts) and isinstance(queries, TokenTexts)
    assert [documents.tokens(n).tolist() for n in range(3)] == TRAIN["input_ids"]
    assert [queries.tokens(n).tolist() for n in range(3)] == [[7], [8, 9], [7]]
    assert collection.positives.pairs.tolist() == [[0, 0], [1, 0], [2, 2]]
    # as the guide trains: documents are anchors, each with as many queries as it has
    turned = collection.positives.by_document(len(documents))
    assert [turned.of(n).tolist() for n in range(3)] == [[0, 1], [], [2]]
    assert queries.hashes[0] == queries.hashes[2] != queries.hashes[1]
    assert any("1 of 3 rows have no query" in note for note in collection.notes)
    assert len(set(documents.ids) | set(queries.ids)) == 6
    other = load_collection(folder, split="test")
    assert other.fingerprint != collection.fingerprint
    assert np.diff(other.positives.by_document(2).offsets).tolist() == [3, 1]


def test_token_rows_that_are_selected_or_many_are_read_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("quincunx.recipes.retrieval.data.readers.tokenized._AT_ONCE", 2)
    rows = {"input_ids": [[n] for n in range(7)], "pos_input_ids": [[[10 + n, 20 + n]] for n in range(7)]}
    datasets.Dataset.from_dict(rows).select([6, 0, 3, 4, 1]).save_to_disk(str(tmp_path / "some"))
    collection = load_collection(tmp_path / "some")
    assert [collection.documents.tokens(n).tolist() for n in range(5)] == [[6], [0], [3], [4], [1]]
    assert [collection.queries.tokens(n).tolist()[0] for n in range(5)] == [16, 10, 13, 14, 11]


def test_bad_token_rows(tmp_path):
    columns = {
        "input_ids": [[1], [], [2], [3], None, [2**31], [5], [6]],
        "pos_input_ids": [[[9]], [[9]], [[]], [[9], [-1]], [[9]], [[9]], [[None]], [[8]]],
    }
    folder = saved(tmp_path / "bad", columns)
    with pytest.raises(DataError) as caught:
        load_collection(folder)
    lines = [line.strip().removeprefix(f"{folder}:") for line in str(caught.value).splitlines()[1:-1]]
    assert lines == [
        "2: input_ids without a token",
        "3: pos_input_ids: a query without a token",
        "4: pos_input_ids: a query holds a token below 0 or above 2147483647",
        "5: input_ids without a token",
        "6: input_ids holds a token below 0 or above 2147483647",
        "7: pos_input_ids: a query holds a token that is null",
    ]
    rest = load_collection(folder, skip_bad_rows=True)
    assert [rest.documents.tokens(n).tolist() for n in range(2)] == [[1], [6]]
    assert [rest.queries.tokens(n).tolist() for n in range(2)] == [[9], [8]]
    assert (rest.positives.pairs.tolist(), len(rest.skipped)) == ([[0, 0], [1, 1]], 6)


def test_columns_that_hold_no_tokens_are_an_error(tmp_path):
    flat = saved(tmp_path / "flat", {"input_ids": [[1]], "pos_input_ids": [[2]]})
    with pytest.raises(DataError, match=r"found input_ids of list<.*int32>, pos_input_ids of list<.*int64>"):
        load_collection(flat)
    words = saved(tmp_path / "words", {"input_ids": [["a"]], "pos_input_ids": [[["b"]]]})
    with pytest.raises(DataError, match="input_ids holds string; expected whole numbers"):
        load_collection(words)
    none = saved(tmp_path / "none", {"input_ids": [[1]], "pos_input_ids": [[]]})
    with pytest.raises(DataError):
        load_collection(none)


def test_without_the_package_the_install_command_is_named(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": {"query": {}}}))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'quincunx\[retrieval\]'"):
        load_collection(tmp_path)
