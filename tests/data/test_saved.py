"""Folders of the datasets package: the list of splits, the rows, and what is no such folder."""

from __future__ import annotations

import json
import sys

import pytest

from quincunx.data.saved import SEVERAL, opened, split_names
from quincunx.errors import DataError, MissingExtra


def test_the_splits_of_a_folder(tmp_path):
    (tmp_path / SEVERAL).write_text(json.dumps({"splits": ["train", "test"]}))
    assert split_names(tmp_path) == ["train", "test"]


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"splits": ["../other"]}', '{"splits": [".."]}', '{"splits": [""]}', "5"]
)
def test_a_damaged_list_of_splits_is_named(tmp_path, content):
    (tmp_path / SEVERAL).write_text(content)
    with pytest.raises(DataError, match=r"dataset_dict\.json: expected the splits of a saved Hugging Face dataset"):
        split_names(tmp_path)


def test_a_dataset_is_opened_and_what_is_none_is_named(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the datasets package is not installed")
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(tmp_path / "set"))
    with opened(tmp_path / "set", "text") as saved:
        assert saved["text"][:] == ["a", "b"]
    with (
        pytest.raises(DataError, match=r"cannot read the saved Hugging Face dataset .*set: 'no such column'"),
        opened(tmp_path / "set", "text"),
    ):
        raise KeyError("no such column")
    with pytest.raises(DataError, match="cannot read the saved Hugging Face dataset"), opened(tmp_path, "text"):
        pass


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'quincunx\[retrieval\]'"), opened(tmp_path, "retrieval"):
        pass
