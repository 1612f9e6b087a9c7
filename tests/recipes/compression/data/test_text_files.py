"""Texts and JSON lines from files and folders."""

import json
from pathlib import Path

import pytest

from quincunx.errors import DataError
from quincunx.recipes.compression.data.documents import Documents
from quincunx.recipes.compression.data.text_files import SECTION, json_lines, pieces, text_files


def texts(source: Documents) -> list[str]:
    return [document.texts[0] for document in source.read()]


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


PROSE = "\n\nOne.\ntwo\n\n\nThree.\n \nFour"


def test_lines_paragraphs_and_whole_files() -> None:
    lines = PROSE.splitlines(keepends=True)
    assert list(pieces(lines, "line")) == [(3, "One.\n"), (4, "two\n"), (7, "Three.\n"), (9, "Four")]
    assert list(pieces(lines, "paragraph")) == [(3, "One.\ntwo\n\n\n"), (7, "Three.\n \n"), (9, "Four")]
    assert list(pieces(lines, "file")) == [(1, PROSE)]
    assert list(pieces(lines, "section")) == [(3, PROSE.lstrip("\n"))]


def test_sections_end_with_a_paragraph_and_lose_nothing() -> None:
    paragraph = "word " * 99 + "end.\n\n"
    lines = (paragraph * 70).splitlines(keepends=True)
    found = [text for _, text in pieces(lines, "section")]
    assert "".join(found) == paragraph * 70
    assert len(found) == 4
    assert all(SECTION <= len(text) < SECTION + len(paragraph) for text in found[:-1])
    assert all(text.endswith("end.\n\n") for text in found)


def test_few_files_are_cut_and_many_are_not(tmp_path: Path) -> None:
    few = text_files(written(tmp_path / "few", {f"{n}.txt": "a\n\n" * SECTION for n in range(2)}))
    assert len(texts(few)) > 2
    assert "cut into sections" in few.notes[0]
    many = text_files(written(tmp_path / "many", {f"{n}.txt": f"{n}\n\n" * SECTION for n in range(20)}))
    assert len(texts(many)) == 20
    assert not many.notes
    assert len(texts(text_files(tmp_path / "few", "file"))) == 2


def test_folders_are_read_whole_in_sorted_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    folder = written(
        tmp_path, {"b.txt": "b", "a/z.md": "z", "a/picture.png": "-", ".hidden/x.txt": "x", "a/.y.txt": "y"}
    )
    source = text_files(folder, "file")
    assert texts(source) == ["z", "b"]
    assert source.notes == [f"{folder}: 1 other file left out."]


def test_a_single_file_may_have_any_name(tmp_path: Path) -> None:
    source = text_files(written(tmp_path, {"corpus": "a\nb\n"}) / "corpus", "line")
    assert texts(source) == ["a\n", "b\n"]
    assert [document.name for document in source.read()] == [f"{tmp_path}/corpus:1", f"{tmp_path}/corpus:2"]


def test_line_ends_and_a_byte_order_mark_are_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert texts(text_files(path, "file")) == ["one\ntwo\n"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train.txt", "valid.txt", "test.txt"), {"train": None, "valid": "dev", "test": "test"}),
        (("wiki.train.tokens", "wiki.valid.tokens"), {"wiki.train": None, "wiki.valid": "dev"}),
        (("Train/a.txt", "val/a.txt", "other.txt"), {"Train/a": None, "val/a": "dev"}),
        (("a.txt", "test.txt"), {"a": None, "test": None}),
        (("contest.txt", "train.txt"), {"contest": None, "train": None}),
    ],
)
def test_names_that_tell_training_from_the_rest_are_splits(
    tmp_path: Path, names: tuple[str, ...], expected: dict[str, str | None]
) -> None:
    source = text_files(written(tmp_path, dict.fromkeys(names, "text")), "file")
    found = {
        Path(d.name.rpartition(":")[0]).relative_to(tmp_path).with_suffix("").as_posix(): d.split for d in source.read()
    }
    assert found == expected
    given = {split for split in expected.values() if split}
    assert set(source.drawn) == {"dev", "test"} - given
    assert ("Left out: 1 file whose" in " ".join(source.notes)) == ("other.txt" in names)


def test_the_request_follows_content_names_and_cut(tmp_path: Path) -> None:
    folder = written(tmp_path, {"a.txt": "a", "b.txt": "b"})
    first = text_files(folder, "file").request
    assert text_files(folder, "file").request == first
    assert text_files(folder, "line").request != first
    (folder / "b.txt").write_text("c")
    assert text_files(folder, "file").request != first
    (folder / "b.txt").write_text("b")
    assert text_files(folder, "file").request == first
    (folder / "b.txt").rename(folder / "c.txt")
    assert text_files(folder, "file").request != first


def test_bytes_that_are_not_utf8_are_refused_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("fine\ngrüße\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt:2: byte 0xfc in column 3 is not UTF-8; save the file as UTF-8"):
        texts(text_files(path))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "does not exist"),
        ({}, "holds no file; data.source text takes a file, or a folder"),
        ({"a.pdf": "x"}, "holds a.pdf"),
        ({"a.txt": "", "b.txt": ""}, "all 2 files in .* are empty"),
    ],
)
def test_folders_without_text_are_refused(tmp_path: Path, files: dict[str, str] | None, said: str) -> None:
    folder = tmp_path / "texts"
    if files is not None:
        folder.mkdir()
        written(folder, files)
    with pytest.raises(DataError, match=said):
        text_files(folder)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="is empty"):
        text_files(tmp_path / "a.txt")


def test_json_lines_give_a_document_a_line(tmp_path: Path) -> None:
    rows = [{"text": "a\nb", "meta": {"body": "x"}}, {"text": "ü", "meta": {"body": "y"}}]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    assert texts(json_lines(path)) == ["a\nb", "ü"]
    assert texts(json_lines(path, "meta.body")) == ["x", "y"]
    assert texts(json_lines(tmp_path)) == ["a\nb", "ü"]
    path.write_text('{"meta.body": "whole"}')
    assert texts(json_lines(path, "meta.body")) == ["whole"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"txt": "a", "id": 1}', r"texts\.jsonl:2: there is no 'text'; found txt, id; name the key by data.field"),
        ('{"text": 3}', r"texts\.jsonl:2: 'text' is int, expected a string"),
        ('["a"]', r"texts\.jsonl:2: there is no 'text'; found a list, no object"),
        ('{"text": "a"', r"texts\.jsonl:2: expected one JSON object a line"),
        (r'{"text": "\ud800"}', r"texts\.jsonl:2: 'text' holds half a surrogate pair"),
    ],
)
def test_bad_lines_are_refused_with_their_place(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(DataError, match=said):
        texts(json_lines(path))


def test_a_pattern_chooses_among_the_files_of_a_folder(tmp_path: Path) -> None:
    folder = written(tmp_path, {"a/one.py": "1", "LICENSE": "2", "b.txt": "3", "c.py": '{"text": "4"}'})
    assert texts(text_files(folder, "file", "*.py")) == ["1", '{"text": "4"}']
    assert texts(text_files(folder, "file", "*")) == ["2", "1", "3", '{"text": "4"}']
    assert texts(json_lines(folder, pattern="c.*")) == ["4"]
    with pytest.raises(DataError, match=r"holds LICENSE, a/one\.py, .*files that are called \*\.tex"):
        text_files(folder, "file", "*.tex")


def test_utf16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "wide.txt"
    path.write_bytes("grün\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"wide\.txt:1: byte 0xff in column 1 .*iconv -f UTF-16"):
        texts(text_files(path))
