"""TREC's files: what is read, what is written, and that every bad line is named."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.metrics.ranking import score
from quincunx.metrics.ranking.trec import read_qrels, read_run, write_qrels, write_run

QRELS = b"301 0 FR94-1 2\n301 0 007 0\n302 0 7 -1\n"
RUN = b"301 Q0 007 1 1.5 tag\n301 Q0 7 2 -.5e-1 tag\n302 Q0 7 1 3 tag\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b" ", b"\t"),
        lambda data: data.replace(b" ", b" \t "),
        lambda data: data.replace(b" ", b"\r\v\f"),
        lambda data: data.removesuffix(b"\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"\n  \n" + data.replace(b"\n", b"\n\n") + b" ",
        lambda data: b"# judged by hand\n" + data + b"#\n  # the end\n",
        gzip.compress,
    ],
    ids=[
        "plain",
        "crlf",
        "tabs",
        "spaces",
        "other spaces",
        "no last line end",
        "bom",
        "blank lines",
        "comments",
        "gzip",
    ],
)
def test_files_of_every_form_are_read(tmp_path: Path, change):
    (tmp_path / "qrels").write_bytes(change(QRELS))
    (tmp_path / "run").write_bytes(change(RUN))
    assert read_qrels(tmp_path / "qrels") == {"301": {"FR94-1": 2, "007": 0}, "302": {"7": -1}}
    assert read_run(str(tmp_path / "run")) == {"301": {"007": 1.5, "7": -0.05}, "302": {"7": 3.0}}


def test_ids_hold_whatever_the_six_bytes_do_not(tmp_path: Path):
    ids = ["\u00a0", "a\u2028b", "\x1c", '"', "'x", "#1", "NA", "²", "\u0085"]
    text = "".join(f"{one} 0 {one} 1\n" for one in ids)
    (tmp_path / "qrels").write_text(text, encoding="utf-8", newline="\n")
    assert read_qrels(tmp_path / "qrels") == {one: {one: 1} for one in ids}
    (tmp_path / "run").write_text("#1 Q0 #2 1 2 tag and more\n", encoding="utf-8")
    assert read_run(tmp_path / "run") == {"#1": {"#2": 2.0}}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"301 0 a\n", "qrels:1: 3 columns, expected 4: query iteration document grade"),
        (b"301 0 a 1\n\n301 0 b 1 x\n", "qrels:3: 5 columns, expected 4"),
        (b"301\n", "qrels:1: 1 column, expected 4"),
        (b"301 0 a 1\n301 0 b 0.5\n", "qrels:2: the grade is '0.5', expected a whole number"),
        (b"301 0 a 1_0\n", "the grade is '1_0'"),
        ("301 0 a \u0663\n".encode(), "the grade is '\u0663'"),
        (b"301 0 a 1\n301 0 b 1\n302 0 a 1\n301 1 a 0\n",
         "qrels:4: document a of query 301 stands in line 1 already"),
        (b"301 0 a 1\n301 0 \xff 1\n", "qrels:2: not UTF-8"),
        (b"", "qrels: no line with the columns query iteration document grade"),
        (b"# nothing\n\n", "qrels: no line with the columns"),
        ("301 0 a 1\n".encode("utf-16"), "qrels: holds zero bytes"),
        (gzip.compress(QRELS, mtime=0)[:-9], "qrels: damaged gzip file"),
        (b"\x1f\x8bnot gzip", "qrels: damaged gzip file"),
    ],
)  # fmt: skip
def test_bad_judgements_are_named(tmp_path: Path, data: bytes, said: str):
    (tmp_path / "qrels").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_qrels(tmp_path / "qrels")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q Q0 d 1 1.0", "run:2: 5 columns, expected 6: query Q0 document rank score tag"),
        ("q Q0 d 1 nan tag", "run:2: the score is 'nan', expected a finite number"),
        ("q Q0 d 1 -inf tag", "run:2: the score is '-inf'"),
        ("q Q0 d 1 1e999 tag", "run:2: the score '1e999' is larger than a number can be"),
        ("q Q0 d 1 1_0 tag", "run:2: the score is '1_0'"),
        ("q Q0 d 1 high tag", "run:2: the score is 'high'"),
        ("q Q0 d 1 . tag", "run:2: the score is '.'"),
        ("q Q0 a 1 1 tag", "run:2: document a of query q stands in line 1 already"),
        ("q 1 2 3\t4 # x", None),
    ],
)
def test_bad_results_are_named(tmp_path: Path, line: str, said: str | None):
    (tmp_path / "run").write_text(f"q Q0 a 1 1 tag\n{line}\n", encoding="utf-8")
    if said is None:
        assert read_run(tmp_path / "run") == {"q": {"a": 1.0, "2": 4.0}}
        return
    with pytest.raises(DataError) as caught:
        read_run(tmp_path / "run")
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_a_wrong_command(tmp_path: Path):
    with pytest.raises(UsageError, match="missing cannot be read: No such file"):
        read_run(tmp_path / "missing")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_qrels(tmp_path)


IDS = st.text(st.characters(exclude_characters=" \t\n\r\v\f\0", exclude_categories=["Cs"]), min_size=1, max_size=4)
"""What a column can hold, but for a byte order mark at the very start of a file."""


@settings(max_examples=40, deadline=None)
@given(
    qrels=st.dictionaries(IDS.map("q".__add__), st.dictionaries(IDS, st.integers(-9, 9), min_size=1), min_size=1),
    run=st.dictionaries(
        IDS.map("q".__add__),
        st.dictionaries(IDS, st.floats(allow_nan=False, allow_infinity=False), min_size=1),
        min_size=1,
    ),
    ending=st.sampled_from(["", ".gz"]),
)
def test_what_is_written_is_read_again(tmp_path_factory, qrels, run, ending):
    folder = tmp_path_factory.mktemp("files")
    write_qrels(folder / f"qrels{ending}", qrels)
    write_run(folder / f"run{ending}", run)
    assert read_qrels(folder / f"qrels{ending}") == qrels
    assert read_run(folder / f"run{ending}") == run
    assert (folder / f"run{ending}").read_bytes()[:2] == b"\x1f\x8b" or not ending


def test_a_run_is_written_in_the_order_that_is_measured(tmp_path: Path):
    write_run(tmp_path / "run", {"q": {"a": 1.0, "b": 1.0 + 1e-9, "c": 2.0, "é": 1.0}}, tag="mine")
    assert (tmp_path / "run").read_text(encoding="utf-8").splitlines() == [
        "q Q0 c 1 2.0 mine",
        "q Q0 é 2 1.0 mine",
        "q Q0 b 3 1.000000001 mine",
        "q Q0 a 4 1.0 mine",
    ]


@pytest.mark.parametrize("bad", ["", "a b", "a\tb", "a\n", "\0", 7])
def test_ids_that_no_column_can_hold_are_not_written(tmp_path: Path, bad):
    with pytest.raises(DataError, match="cannot stand in a column"):
        write_run(tmp_path / "run", {"q": {bad: 1.0}})
    with pytest.raises(DataError, match="cannot stand in a column"):
        write_qrels(tmp_path / "qrels", {bad: {"d": 1}})
    with pytest.raises(DataError, match="the score is nan"):
        write_run(tmp_path / "run", {"q": {"d": float("nan")}})
    assert not list(tmp_path.iterdir())


def test_trec_evals_own_files_give_trec_evals_own_figures():
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no data folder")
    folder = Path(os.environ["QUINCUNX_DATA"]) / "trec_eval"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    golden = dict(line.split("\tall\t") for line in (folder / "out.test").read_text().splitlines())
    golden = {name.strip(): text for name, text in golden.items()}
    names = ["num_q", "num_ret", "num_rel", "num_rel_ret", "map", "Rprec", "recip_rank"]
    names += [name for name in golden if name.startswith("P_")]
    assert len(names) == 16
    found = score(read_qrels(folder / "qrels.test"), read_run(folder / "results.test"), names)
    for name, value in found.mean.items():
        assert golden[name] == (f"{value:.0f}" if name.startswith("num_") else f"{value:.4f}")
