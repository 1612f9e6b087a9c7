from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.retrieval.data import Collection, NoSuchSplit, load_collection
from quincunx.recipes.retrieval.data.readers import BadRows, read_pairs, read_triplets


def jsonl(path: Path, *rows: object) -> Path:
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return path


def positives(collection: Collection) -> dict[str, list[str]]:
    return _texts(collection, collection.positives)


def negatives(collection: Collection) -> dict[str, list[str]]:
    return _texts(collection, collection.negatives)


def _texts(collection: Collection, relations) -> dict[str, list[str]]:
    found = {
        collection.queries.text(query): [collection.documents.text(n) for n in relations.of(query)]
        for query in range(len(collection.queries))
    }
    return {query: texts for query, texts in found.items() if texts}


def test_rows_of_one_query_are_its_positives(tmp_path):
    rows = [
        {"query": "NA", "positive": "one"},
        {"query": "q", "positive": ["two", "one"], "lang": "en"},
        {"query": "NA", "positive": "two"},
        {"query": "NA", "positive": "one"},
    ]
    collection = read_pairs(jsonl(tmp_path / "rows.jsonl", *rows))
    assert positives(collection) == {"NA": ["one", "two"], "q": ["two", "one"]}
    assert list(collection.documents.contents) == ["one", "two"]
    assert collection.positive_scores is None
    said = " ".join(collection.notes)
    assert "1 pairs are there more than once" in said and "not used: lang" in said


def test_a_text_has_one_id_in_every_file(tmp_path):
    one = read_pairs(jsonl(tmp_path / "a.jsonl", {"query": "q", "document": "same"}))
    other = read_pairs(jsonl(tmp_path / "b.jsonl", {"anchor": "p", "pos": ["first", "same"]}))
    assert one.documents.ids[0] == other.documents.ids[1] == f"{int(one.documents.hashes[0]):016x}"


@pytest.mark.parametrize("query", ["query", "anchor", "question", "Query"])
@pytest.mark.parametrize("document", ["positive", "pos", "document", "passage", "answer", "positive_1"])
def test_columns_are_known_by_their_usual_names(tmp_path, query, document):
    assert positives(read_pairs(jsonl(tmp_path / "rows.jsonl", {query: "q", document: "d"}))) == {"q": ["d"]}


def test_the_form_of_flagembedding(tmp_path):
    row = {"query": "q", "pos": ["a", "b"], "neg": ["c", "d", "e"], "pos_scores": [3, 2.5], "neg_scores": [1, 0, -1]}
    collection = load_collection(jsonl(tmp_path / "rows.jsonl", row, {"query": "r", "pos": ["d"], "neg": []}))
    assert positives(collection) == {"q": ["a", "b"], "r": ["d"]}
    assert negatives(collection) == {"q": ["c", "d", "e"]}
    scores = collection.positive_scores
    assert scores is not None and scores[:2].tolist() == [3, 2.5] and math.isnan(scores[2])
    assert collection.negatives.scores is not None and collection.negatives.scores.tolist() == [1, 0, -1]
    assert scores.dtype == np.float32


def test_the_columns_of_sentence_transformers(tmp_path):
    rows = [
        {"anchor": "q", "positive": "a", "negative_1": "b", "negative_2": "c", "label": [9, 2, 1]},
        {"anchor": "r", "positive": "b", "negative_1": "c", "negative_2": None, "label": [5, 4]},
    ]
    collection = load_collection(jsonl(tmp_path / "rows.jsonl", *rows))
    assert negatives(collection) == {"q": ["b", "c"], "r": ["c"]}
    assert collection.positive_scores is not None and collection.positive_scores.tolist() == [9, 5]
    assert collection.negatives.scores is not None and collection.negatives.scores.tolist() == [2, 1, 4]


def test_one_number_beside_a_negative_is_their_margin(tmp_path):
    row = {"query": "q", "positive": "a", "negative": "b", "score": 7.5}
    collection = load_collection(jsonl(tmp_path / "rows.jsonl", row))
    assert collection.positive_scores is not None and collection.negatives.scores is not None
    assert (collection.positive_scores - collection.negatives.scores).tolist() == [7.5]


def test_labels_are_grades_and_scores_are_a_teachers(tmp_path):
    rows = [{"query": "q", "document": "a", "label": 1}, {"query": "q", "document": "b", "label": 0}]
    collection = read_pairs(jsonl(tmp_path / "rows.jsonl", *rows, {"query": "q", "document": "c", "label": True}))
    assert positives(collection) == {"q": ["a", "c"]}
    assert negatives(collection) == {"q": ["b"]}
    assert collection.relevant.grades.tolist() == [1, 0, 1]
    scored = read_pairs(jsonl(tmp_path / "s.jsonl", {"query": "q", "document": "a", "score": 0.25}))
    assert (scored.relevant.grades.tolist(), scored.relevant.scores.tolist()) == ([1], [0.25])


def test_a_negative_that_is_relevant_elsewhere_is_left_out(tmp_path):
    rows = [{"query": "q", "pos": ["a"], "neg": ["b", "c"]}, {"query": "q", "pos": ["b"], "neg": ["a"]}]
    collection = load_collection(jsonl(tmp_path / "rows.jsonl", *rows))
    assert negatives(collection) == {"q": ["c"]}
    assert any("2 negatives are relevant to their query by other rows" in note for note in collection.notes)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": "", "pos": ["a"]}, "the query is empty"),
        ({"query": None, "pos": ["a"]}, "no query"),
        ({"query": 3, "pos": ["a"]}, "the query is 3; expected a string"),
        ({"query": "q", "pos": []}, "no document: pos is empty"),
        ({"query": "q", "pos": ["a", " "]}, "the pos is empty"),
        ({"query": "q", "pos": ["a", None]}, "no pos"),
        ({"query": "q", "pos": {"a": 1}}, "the pos is {'a': 1}; expected a string"),
        ({"query": "q", "text": "a"}, "the keys ['query', 'text'] name no query and document"),
        ({"query": "q", "pos": ["a"], "pos_scores": [1, 2]}, "pos_scores holds 2 numbers for 1 texts"),
        ({"query": "q", "pos": ["a"], "score": "high"}, "score holds 'high'; expected finite numbers"),
        ({"query": "q", "pos": ["a"], "score": math.nan}, "score holds nan; expected finite numbers"),
        ({"query": "q", "pos": ["a"], "label": 0.5}, "for a teacher's scores name the column score"),
        ({"query": "q", "pos": ["a", "b"], "neg": ["c"], "scores": [1, 2]}, "2 numbers for 2 positive and 1 negative"),
        (b'{"query": "\\ud800", "pos": ["a"]}', "half of a surrogate pair"),
    ],
)
def test_a_bad_row_has_its_place_and_reason(tmp_path, row, reason):
    path = jsonl(tmp_path / "rows.jsonl", {"query": "good", "pos": ["a"]}, row)
    with pytest.raises(DataError, match="1 bad row:") as caught:
        read_pairs(path)
    assert f"{path}:2: " in str(caught.value) and reason in str(caught.value)
    skipped = load_collection(path, skip_bad_rows=True)
    assert list(skipped.queries.contents) == ["good"]
    assert [(row["file"], row["line"]) for row in skipped.skipped] == [(str(path), 2)]


def table(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_csv_has_a_header_and_quotes(tmp_path):
    rows = (
        ("score", "document", "query"),
        ("2", 'a, "b"\nc\td', "NA"),
        ("", "null", "q\r\nr"),
        ("-1", "x" * 200_000, "q"),
    )
    before = csv.field_size_limit()
    collection = read_pairs(table(tmp_path / "rows.csv", *rows))
    assert positives(collection) == {"NA": ['a, "b"\nc\td'], "q\r\nr": ["null"], "q": ["x" * 200_000]}
    scores = collection.positive_scores
    assert scores is not None and scores[[0, 2]].tolist() == [2, -1] and math.isnan(scores[1])
    assert csv.field_size_limit() == before


def test_csv_negatives_may_be_missing_in_some_rows(tmp_path):
    rows = (("query", "positive", "negative_1", "negative_2"), ("q", "a", "b", ""), ("r", "a", "", "c"))
    assert negatives(load_collection(table(tmp_path / "rows.csv", *rows))) == {"q": ["b"], "r": ["c"]}


def test_bad_rows_of_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'query,document\nq,a\nq,b,c\n"q"x,a\nq,"\xff"\n,a\nq,\n')
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    lines = [line.strip().removeprefix(f"{path}:") for line in str(caught.value).splitlines()[1:-1]]
    assert [line.partition(" ")[0] for line in lines] == ["3:", "4:", "5:", "6:", "7:"]
    for line, reason in zip(
        lines, ("3 columns", "no sound CSV", "no UTF-8", "query is empty", "no document"), strict=True
    ):
        assert reason in line


def test_a_csv_header_without_known_names_is_an_error(tmp_path):
    with pytest.raises(
        DataError, match=r"rows.csv:1: expected a header with a column for the query.*found \['a', 'b'\]"
    ):
        read_pairs(table(tmp_path / "rows.csv", ("a", "b"), ("q", "d")))
    with pytest.raises(DataError, match="found nothing"):
        read_pairs(table(tmp_path / "empty.csv"))


def test_tsv_has_no_quotes_and_may_have_a_header(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_bytes(b'"q\tNA\nnull\t"d"\n')
    assert positives(load_collection(path)) == {'"q': ["NA"], "null": ['"d"']}
    path.write_bytes(b"document\tquery\nd\tq\n")
    assert positives(load_collection(path)) == {"q": ["d"]}
    path.write_bytes(b"q\td\t0.5\nq\te\t2\n")
    scored = load_collection(path)
    assert scored.positive_scores is not None and scored.positive_scores.tolist() == [0.5, 2]
    path.write_bytes(b"q\td\te\n")
    assert negatives(load_collection(path)) == {"q": ["e"]}
    path.write_bytes(b"q\td\t1\n")
    assert negatives(load_collection(path, format="triplets")) == {"q": ["1"]}
    path.write_bytes(b"q\td\t1\nq\te\tf\n")
    with pytest.raises(DataError, match=r"rows.tsv:2: score holds 'f'"):
        load_collection(path)
    path.write_bytes(b"q\td\nq\td\tmore\n")
    with pytest.raises(DataError, match=r"rows.tsv:2: 3 columns; expected 2: query, positive"):
        load_collection(path)
    path.write_bytes(b"one\n")
    with pytest.raises(DataError, match=r"rows.tsv:1: 1 columns; expected two"):
        load_collection(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"rows.tsv is empty"):
        load_collection(path)


def test_triplets_of_texts_need_a_negative_in_every_row(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", {"query": "q", "pos": "a", "neg": "b"}, {"query": "q", "pos": "a"})
    assert len(read_pairs(path).negatives) == 1
    with pytest.raises(DataError, match=r"rows.jsonl:2: no negative"):
        read_triplets(path)


def test_a_packed_file_is_read(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"query": "q", "pos": ["a"]}\n'))
    assert positives(load_collection(path)) == {"q": ["a"]}
    assert load_collection(path).name == "rows"


def test_a_single_file_does_not_pass_for_another_split(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", {"query": "q", "pos": "a"})
    assert len(load_collection(path, split="train").queries) == len(load_collection(path).queries) == 1
    with pytest.raises(NoSuchSplit, match=r"rows.jsonl has no split test; there are: train"):
        load_collection(path, split="test")


def test_a_folder_has_one_file_a_split(tmp_path):
    jsonl(tmp_path / "train.jsonl", {"query": "q", "pos": "a"})
    jsonl(tmp_path / "my-validation.jsonl", {"query": "v", "pos": "a", "neg": "b"})
    assert positives(load_collection(tmp_path, split="train")) == {"q": ["a"]}
    assert negatives(load_collection(tmp_path, split="dev")) == {"v": ["b"]}
    with pytest.raises(NoSuchSplit, match="no split test; there are: dev, train"):
        load_collection(tmp_path, split="test")
    with pytest.raises(DataError, match="holds the splits dev, train; say which is meant"):
        load_collection(tmp_path)
    jsonl(tmp_path / "other_train.jsonl", {"query": "q", "pos": "a"})
    with pytest.raises(DataError, match=r"other_train.jsonl and train.jsonl, both .* split train"):
        load_collection(tmp_path, split="train")


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"rows.jsonl: no row at all; expected a column for the query"):
        read_pairs(jsonl(tmp_path / "rows.jsonl"))
    with pytest.raises(DataError, match="no usable row; 1 bad:"):
        read_pairs(jsonl(tmp_path / "rows.jsonl", b"?"), bad=BadRows(skip=True))


def test_the_fingerprint_follows_content_and_use(tmp_path):
    row = {"query": "q", "pos": "a", "neg": "b"}
    path = jsonl(tmp_path / "rows.jsonl", row)
    one = read_pairs(path).fingerprint
    assert read_pairs(jsonl(tmp_path / "elsewhere.jsonl", row)).fingerprint == one
    assert read_pairs(jsonl(tmp_path / "more.jsonl", row, row)).fingerprint != one


# triplets of ids


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "collection.tsv").write_text("007\tone\n7\ttwo\n8\tthree\n")
    (tmp_path / "queries.tsv").write_text("1_0\tq\n1\tr\n2\tunused\n")
    return {"corpus": tmp_path / "collection.tsv", "queries": tmp_path / "queries.tsv"}


def test_triplets_of_ids_are_grouped_by_query_however_many_each_has(tmp_path, parts):
    """Guide 001's package fell over queries with fewer positives or negatives than it was to draw."""
    path = tmp_path / "triples.tsv"
    path.write_text("1_0\t007\t7\n1_0\t007\t8\n1\t7\t8\n")
    collection = load_collection(path, **parts)
    assert positives(collection) == {"q": ["one"], "r": ["two"]}
    assert negatives(collection) == {"q": ["two", "three"], "r": ["three"]}
    assert (list(collection.queries.ids), len(collection.documents)) == (["1_0", "1"], 3)
    path.write_text("1_0\t007\t7\n1_0\t7\t007\n1_0\t007\t8\n")
    collection = load_collection(path, **parts)
    assert (positives(collection), negatives(collection)) == ({"q": ["one", "two"]}, {"q": ["three"]})


def test_triplets_that_name_nothing_are_bad_rows(tmp_path, parts):
    path = tmp_path / "triples.tsv"
    path.write_text("1\t7\t8\n1\t7\t9\n3\t7\t8\n1\t07\t8\n1\t7\n")
    with pytest.raises(DataError) as caught:
        load_collection(path, **parts)
    lines = [line.strip().removeprefix(f"{path}:") for line in str(caught.value).splitlines()[1:-1]]
    assert lines == [
        "2: unknown negative document '9'",
        "3: unknown query '3'",
        "4: unknown positive document '07'",
        "5: 2 columns; expected 3: query id, positive id, negative id",
    ]
    assert len(load_collection(path, skip_bad_rows=True, **parts).positives) == 1
