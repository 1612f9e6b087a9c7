"""Their small data set Vaswani, put in its place by hand in the form that its authors publish: nothing is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("ir_datasets")

DOCS = "1\none spy\nof two\n   /\n007\nnull\n   /\n"
QUERIES = "1\nWHO IS A SPY\n/\n2\nNA\n/\n"
QRELS = "1\n     1\n   /\n2\n   1  007\n   /\n"

# in a process of its own: the package looks for its folder once, when it is imported
READ = """
import json, sys
from quincunx.errors import DataError
from quincunx.recipes.retrieval.data import load_collection
from ir_datasets.util.download import RequestsDownload
before = RequestsDownload.stream
for name, split in json.loads(sys.argv[1]):
    try:
        found = load_collection(name, split=split)
    except DataError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        continue
    print(json.dumps({
        "documents": dict(zip(found.documents.ids, found.documents.contents)),
        "queries": dict(zip(found.queries.ids, found.queries.contents)),
        "pairs": found.positives.pairs.tolist(),
        "name": found.name,
    }))
assert RequestsDownload.stream is before
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    home = tmp_path_factory.mktemp("ir_datasets")
    (home / "vaswani").mkdir()
    for name, text in (("docs", DOCS), ("queries", QUERIES), ("qrels", QRELS)):
        (home / f"vaswani/{name}.txt").write_text(text)
    asked = [["ir_datasets:vaswani", None], ["ir_datasets:cranfield", None], ["ir_datasets:nowhere", None]]
    asked += [["ir_datasets:beir/scifact", None], ["ir_datasets:beir/scifact", "dev"], ["ir_datasets:vaswani", "test"]]
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(asked)],
        env={**os.environ, "IR_DATASETS_HOME": str(home), "IR_DATASETS_TMP": str(home / "tmp")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not (home / "cranfield/docs.txt").exists()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_local_data_set_is_read(found):
    assert found[0]["documents"] == {"1": "one spy\nof two\n", "007": "null\n"}
    assert found[0]["queries"] == {"1": "WHO IS A SPY\n", "2": "NA\n"}
    assert (found[0]["pairs"], found[0]["name"]) == ([[0, 0], [1, 0], [1, 1]], "vaswani")


def test_what_is_not_local_is_not_fetched(found):
    assert "cranfield" in found[1]["error"] and "is not on this machine" in found[1]["error"]
    assert "ir_datasets export cranfield docs" in found[1]["error"]


def test_names_that_do_not_fit_are_errors(found):
    assert "knows no nowhere" in found[2]["error"]
    assert "beir/scifact has no qrels" in found[3]["error"] and found[3]["kind"] == "DataError"
    assert found[4]["kind"] == found[5]["kind"] == "NoSuchSplit"


def test_a_missing_package_is_said(monkeypatch):
    from quincunx.errors import MissingExtra
    from quincunx.recipes.retrieval.data import load_collection

    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'quincunx\[retrieval\]'"):
        load_collection("ir_datasets:vaswani")
