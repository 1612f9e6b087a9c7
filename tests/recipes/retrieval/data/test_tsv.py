from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data import NoSuchSplit, load_collection
from quincunx.recipes.retrieval.data.readers import BadRows, read_texts, read_tsv

AWKWARD = {
    "7": 'a "stray quote',
    "007": "null",
    "²": "NA",
    "x 1": "tabs\tinside\tthe text\t",
    "NA": '"quoted, all of it"',
    "nan": "a carriage\rreturn, a \x0c form feed, a \u2028 separator",
    "١": "'",
    "last": "",
}


def tsv(path: Path, rows: dict[str, str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{name}\t{text}{end}" for name, text in rows.items()).encode())
    return path


def files(folder: Path, documents: dict[str, str] = AWKWARD, qrels: str = "q0\t0\t007\t1\n") -> list[Path]:
    corpus = tsv(folder / "collection.tsv", documents)
    queries = tsv(folder / "queries.tsv", {"q0": "who?", "12_0": "what?"})
    (folder / "qrels.tsv").write_text(qrels, encoding="utf-8")
    return [corpus, queries, folder / "qrels.tsv"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_nothing_in_a_text_means_anything(tmp_path, end):
    """Guide 001's package lost NA and null, and put lines together at a stray quote: six lines became five rows."""
    texts = read_texts(tsv(tmp_path / "collection.tsv", AWKWARD, end), BadRows())
    assert dict(zip(texts.ids, texts.contents, strict=True)) == AWKWARD


def test_queries_keep_their_whole_ids(tmp_path):
    """Guide 001's training took the last two characters off and made the rest a number."""
    collection = read_tsv(*files(tmp_path, qrels="12_0\t0\t007\t1\nq0\t0\t7\t1\n"))
    assert list(collection.queries.ids) == ["q0", "12_0"]
    assert collection.positives.pairs.tolist() == [[0, 0], [1, 1]]


def test_a_grade_of_zero_is_no_positive(tmp_path):
    collection = read_tsv(*files(tmp_path, qrels="q0\t0\t007\t0\nq0\t0\t7\t3\nq0\t0\tNA\t-1\n"))
    assert [collection.documents.ids[n] for n in collection.positives.of(0)] == ["7"]
    assert collection.relevant.grades.tolist() == [0, 3, -1]


def test_a_pair_that_names_nothing_is_a_bad_row_with_its_place(tmp_path):
    with pytest.raises(DataError, match=r"qrels.tsv:2: relevant pair with the unknown document '70'"):
        read_tsv(*files(tmp_path, qrels="q0\t0\t7\t1\nq0\t0\t70\t1\n"))


def test_columns_may_be_parted_by_spaces_as_trec_does(tmp_path):
    collection = read_tsv(*files(tmp_path, qrels="q0 Q0 7 1\n\n12_0   Q0 007 2.0 \n"))
    assert collection.relevant.grades.tolist() == [1, 2]


@pytest.mark.parametrize("grade", ["0.5", "x", "1e3", "٣", "99999999999", "nan", ""])
def test_a_grade_is_a_whole_number(tmp_path, grade):
    with pytest.raises(DataError, match=r"qrels.tsv:2: the grade is"):
        read_tsv(*files(tmp_path, qrels=f"q0\t0\t7\t1\nq0\t0\t007\t{grade}\n"))


def test_lines_without_a_tab_and_ids_twice_are_bad_rows(tmp_path):
    corpus, queries, qrels = files(tmp_path)
    corpus.write_bytes(b"1\tone\nno tab\n\n1\tagain\n\tno id\n\xe9\ttext\n")
    qrels.write_text("q0\t0\t1\t1\n")
    with pytest.raises(DataError) as caught:
        read_tsv(corpus, queries, qrels)
    lines = [line.strip().removeprefix(f"{corpus}:") for line in str(caught.value).splitlines()[1:-1]]
    assert lines == [
        "2: no tab; expected id, tab, text",
        "4: the id '1' is that of line 1 already; ids must differ",
        "5: an empty id",
        "6: bytes that are no UTF-8",
    ]


def test_a_mark_of_byte_order_and_packed_files_are_read(tmp_path):
    corpus, queries, qrels = files(tmp_path)
    packed = tmp_path / "collection.tsv.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + corpus.read_bytes()))
    assert list(read_tsv(packed, queries, qrels).documents.ids) == list(AWKWARD)


def test_each_file_may_be_json_lines(tmp_path):
    _, queries, qrels = files(tmp_path)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "007", "title": "T", "text": "x"}\n')
    assert read_tsv(corpus, queries, qrels, title_separator="-").documents.text(0) == "T-x"


def test_documents_without_text_stay_and_are_counted(tmp_path):
    collection = read_tsv(*files(tmp_path))
    assert collection.documents.text(collection.documents.index_of("last")) == ""
    assert any("1 of 8 documents have no text" in note for note in collection.notes)


def test_files_are_given_without_a_path_all_three(tmp_path):
    corpus, queries, qrels = files(tmp_path)
    collection = load_collection(None, corpus=corpus, queries=str(queries), qrels=qrels)
    assert (collection.name, len(collection.documents)) == (tmp_path.name, 8)
    with pytest.raises(UsageError, match="queries, qrels missing"):
        load_collection(None, corpus=corpus)
    with pytest.raises(UsageError, match="takes no qrels"):
        load_collection(tmp_path, qrels=qrels)


def test_a_missing_file_is_named(tmp_path):
    corpus, queries, qrels = files(tmp_path)
    with pytest.raises(DataError, match=r"nowhere\.tsv does not exist"):
        load_collection(None, corpus=tmp_path / "nowhere.tsv", queries=queries, qrels=qrels)
    corpus.write_bytes(b"\n\n")
    with pytest.raises(DataError, match=r"collection.tsv: no row at all; expected lines of id, tab, text"):
        read_tsv(corpus, queries, qrels)


def test_a_folder_with_the_usual_names_is_read_by_split(tmp_path):
    qrels = files(tmp_path)[2]
    assert list(load_collection(tmp_path).queries.ids) == ["q0"]
    # qrels that name no split are training's: they must not pass for those of the test
    assert list(load_collection(tmp_path, split="train").queries.ids) == ["q0"]
    with pytest.raises(NoSuchSplit, match="no split test; there are: train"):
        load_collection(tmp_path, split="test")
    (tmp_path / "qrels.dev.tsv").write_text("d1\t0\t7\t1\n")
    tsv(tmp_path / "queries.dev.tsv", {"d1": "of the dev split"})
    assert list(load_collection(tmp_path, split="validation").queries.contents) == ["of the dev split"]
    assert list(load_collection(tmp_path, split="train").queries.contents) == ["who?"]
    qrels.unlink()
    (tmp_path / "qrels.dev.tsv").unlink()
    with pytest.raises(DataError, match=r"has no qrels.tsv \(it holds collection.tsv, queries.dev.tsv, queries.tsv"):
        load_collection(tmp_path)
