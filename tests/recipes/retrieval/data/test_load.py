from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.config_data import Format
from quincunx.recipes.retrieval.data import FORMATS, load_collection


def test_the_formats_are_those_of_the_config():
    assert set(FORMATS) == set(get_args(Format))


def test_data_is_read_without_torch():
    code = (
        "import sys, quincunx.recipes.retrieval.data.code_search as made\n"
        "from quincunx.recipes.retrieval.data import readers\n"
        "print(sorted({'torch', 'datasets', 'ir_datasets', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_what_is_not_there_is_said_with_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist; expected one of: a BEIR folder \(corpus.jsonl"):
        load_collection(tmp_path / "nowhere")
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"image.png ends in none of .jsonl"):
        load_collection(tmp_path / "image.png")
    with pytest.raises(DataError, match=r"holds image.png; expected one of"):
        load_collection(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds nothing; expected one of"):
        load_collection(tmp_path / "empty")
    for format in ("beir", "tsv", "saved", "tokenized"):
        with pytest.raises(DataError, match="nowhere"):
            load_collection(tmp_path / "nowhere", format=format)
    for format in ("pairs", "triplets"):
        with pytest.raises(DataError, match=r"nowhere.jsonl does not exist"):
            load_collection(tmp_path / "nowhere.jsonl", format=format)


def test_two_forms_in_one_folder_are_told_apart_by_the_word(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "x"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "x"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("q\td\t1\n")
    (tmp_path / "collection.tsv").write_text("d\tx\n")
    with pytest.raises(DataError, match="holds the forms beir and tsv; say by format which is meant"):
        load_collection(tmp_path)
    assert len(load_collection(tmp_path, format="beir").documents) == 1


def test_arguments_that_contradict_each_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "q", "pos": "d"}\n')
    with pytest.raises(UsageError, match="no format 'bier' of collections; there are: auto, beir"):
        load_collection(path, format="bier")
    with pytest.raises(UsageError, match="a limit of 0 queries leaves none"):
        load_collection(path, limit=0)
    with pytest.raises(UsageError, match=r"the format pairs of .* takes no qrels and no title_separator"):
        load_collection(path, qrels=path, title_separator="-")
    with pytest.raises(UsageError, match="triplets of ids need corpus and queries, both"):
        load_collection(path, corpus=path)
    with pytest.raises(UsageError, match="needs a path"):
        load_collection(None, format="beir")
    with pytest.raises(UsageError, match="takes no corpus"):
        load_collection("ir_datasets:vaswani", corpus=path)


def test_a_limit_takes_the_first_queries(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"query": "q{n}", "pos": "d{n}"}}\n' for n in range(5)))
    some = load_collection(path, limit=2)
    assert (list(some.queries.contents), len(some.documents)) == (["q0", "q1"], 5)
    assert len(load_collection(path, limit=99).queries) == 5
