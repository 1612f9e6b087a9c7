import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quincunx.data.partial import BeingWritten, finish, partial_file
from quincunx.errors import DataError, UsageError
from quincunx.recipes.long_range.data.listops import FILE_NAMES, Parameters, generate, read_tsv
from quincunx.recipes.long_range.data.listops import tsv as tsv_module
from quincunx.recipes.long_range.data.listops.language import tokenize

SMALL = Parameters(5, 40, 4, 5, seed=7)
COUNTS = {"train": 60, "dev": 10, "test": 10}

PINNED = {
    "basic_train.tsv": "18741bbb1bc7dedea95fffbf02958dd0b3aa0353514ad72c8719d597f47732ae",
    "basic_val.tsv": "b4fdd564c650e57de077d2f0f73a126cc27fc393279aa2ae1f27b75c4c71c3e8",
    "basic_test.tsv": "d689c37111e786928f43bf81ca28e89d02d51142f48b287b51e29412f589f6dc",
}


def written(path: Path, *rows: str, header: str = "Source\tTarget", end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in (header, *rows)).encode())
    return path


def good_rows(count: int) -> list[str]:
    return [f"[MAX 1 {number % 9 + 1} ]\t{number % 9 + 1}" for number in range(count)]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Writing


def test_the_generator_never_drifts(tmp_path):
    manifest = generate(tmp_path, COUNTS, SMALL)
    assert {name: facts["sha256"] for name, facts in manifest.files.items()} == PINNED


def test_what_is_written_reads_back_disjoint_and_as_many(tmp_path):
    progress = []
    generate(tmp_path, COUNTS, SMALL, lambda done, total: progress.append((done, total)))
    assert names_in(tmp_path) == {*FILE_NAMES.values(), "listops.json"}
    expressions: set[bytes] = set()
    for split, name in FILE_NAMES.items():
        assert (tmp_path / name).read_text().startswith("Source\tTarget\n(")
        bad = []
        examples = read_tsv(tmp_path / name, on_bad=bad.append)
        assert (len(examples), bad) == (COUNTS[split], [])
        assert examples.lengths.min() > 5
        assert examples.lengths.max() < 40
        expressions |= {bytes(examples.tokens(i)) for i in range(len(examples))}
    assert len(expressions) == sum(COUNTS.values())
    assert progress[-1] == (80, 80)


def test_splits_are_alike_even_where_common_expressions_run_out(tmp_path):
    # All 400 shortest expressions are drawn early, the longer ones later: every split must get its share of both.
    counts = {"train": 1000, "dev": 1000, "test": 1000}
    generate(tmp_path, counts, Parameters(3, 6, 3, 4))
    short = [(read_tsv(tmp_path / name).lengths == 4).sum() for name in FILE_NAMES.values()]
    assert sum(short) > 390
    assert min(short) > 100


def test_the_manifest_names_settings_sizes_and_hashes(tmp_path):
    generate(tmp_path, COUNTS, SMALL)
    manifest = json.loads((tmp_path / "listops.json").read_text())
    assert manifest["parameters"]["max_length"] == 40
    assert manifest["counts"] == COUNTS
    for name, facts in manifest["files"].items():
        data = (tmp_path / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_the_same_set_is_kept_and_another_is_refused(tmp_path):
    first = generate(tmp_path, COUNTS, SMALL)
    before = (tmp_path / "basic_train.tsv").stat().st_mtime_ns
    assert generate(tmp_path, COUNTS, SMALL) == first
    assert (tmp_path / "basic_train.tsv").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="other settings"):
        generate(tmp_path, {**COUNTS, "train": 61}, SMALL)


def test_data_of_others_is_never_overwritten(tmp_path):
    written(tmp_path / "basic_val.tsv", "5\t5")
    with pytest.raises(UsageError, match=r"already holds basic_val\.tsv"):
        generate(tmp_path, COUNTS, SMALL)
    assert names_in(tmp_path) == {"basic_val.tsv"}


@pytest.mark.parametrize("counts", [{"train": 5, "dev": 5}, {"train": 5, "dev": 5, "test": 0}])
def test_every_split_needs_an_example(tmp_path, counts):
    with pytest.raises(UsageError, match="at least 1 example"):
        generate(tmp_path, counts, SMALL)


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, COUNTS, SMALL, interrupt)
    assert names_in(tmp_path) == set()


def test_a_set_of_which_files_are_missing_or_cut_is_made_again(tmp_path):
    generate(tmp_path, COUNTS, SMALL)
    whole = {name: (tmp_path / name).read_bytes() for name in FILE_NAMES.values()}
    (tmp_path / "basic_test.tsv").unlink()
    (tmp_path / "basic_train.tsv").write_bytes(whole["basic_train.tsv"][:-30])
    generate(tmp_path, COUNTS, SMALL)
    assert {name: (tmp_path / name).read_bytes() for name in whole} == whole


def in_another_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_generation_leaves_no_files_and_is_redone(tmp_path):
    code = """
import sys
from quincunx.recipes.long_range.data.listops import Parameters, generate
counts = {"train": 2000, "dev": 10, "test": 10}
generate(sys.argv[1], counts, Parameters(5, 40, 4, 5, 7), lambda done, total: print(done, flush=True) or input())
"""
    process = in_another_process(code, tmp_path)
    process.stdout.readline()  # some are written, and it waits
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert names_in(tmp_path)
    assert all(name.startswith(".") for name in names_in(tmp_path))
    generate(tmp_path, COUNTS, SMALL)
    assert names_in(tmp_path) == {*FILE_NAMES.values(), "listops.json"}
    assert len(read_tsv(tmp_path / "basic_train.tsv")) == 60


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    code = """
import resource, sys
from quincunx.recipes.long_range.data.listops import Parameters, generate
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
generate(sys.argv[1], {"train": 2000, "dev": 10, "test": 10}, Parameters(5, 40, 4, 5, 7))
"""
    process = in_another_process(code, tmp_path)
    _, said = process.communicate()
    assert process.returncode
    assert f"DataError: cannot write ListOps into {tmp_path}: File too large" in said
    assert names_in(tmp_path) == set()


def test_a_folder_that_another_writes_to_is_respected(tmp_path):
    with partial_file(tmp_path / "basic_train.tsv", wait=False), pytest.raises(DataError, match="another process"):
        generate(tmp_path, COUNTS, SMALL)
    generate(tmp_path, COUNTS, SMALL)


def test_a_partial_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "data"
    with partial_file(target, wait=False) as file:
        file.write(b"half")
    assert names_in(tmp_path) == set()
    with partial_file(target, wait=False) as file:
        file.write(b"who")
        with pytest.raises(BeingWritten), partial_file(target, wait=False):
            pass
        assert not target.exists()
        file.write(b"le")
        finish(file, target)
    assert target.read_bytes() == b"whole"
    assert names_in(tmp_path) == {"data"}


# Reading


@pytest.mark.parametrize("header", ["Source\tTarget", "\ufeffSource\tTarget", " source \tTARGET"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_headers_and_line_ends(tmp_path, header, end):
    path = written(tmp_path / "a.tsv", "( ( ( [MAX 1 ) 2 ) ] )\t2", "7\t7", header=header, end=end)
    examples = read_tsv(path)
    assert examples.labels.tolist() == [2, 7]
    assert bytes(examples.tokens(0)) == tokenize(b"[MAX 1 2 ]")


def test_columns_come_in_either_order(tmp_path):
    path = written(tmp_path / "a.tsv", "2\t[MAX 1 2 ]", header="Target\tSource")
    assert read_tsv(path).labels.tolist() == [2]


BAD = {
    "[MAX 1 2 ]": "expected 2 columns, found 1",
    "[MAX 1 2 ]\t2\t2": "expected 2 columns, found 3",
    "": "an empty row",
    "[MAX 1 2 ]\t10": "the label is '10', expected a digit",
    "[MAX 1 2 ]\t": "the label is '', expected a digit",
    "[MAX 1 2 ]\ttwo": "the label is 'two', expected a digit",
    "[MAX 1 12 ]\t2": "unknown token '12'",
    "[MAX 1 \ufffd ]\t1": "unknown token '\ufffd'",
    "[MAX 1 2\t2": "brackets that do not match",
    "\t2": "an empty expression",
    "[MAX 1 2 ] 3\t2": "more than one expression",
    "[MAX ]\t2": "an operator without arguments",
    "[MAX 1 2 ]\t1": "the label is 1, the expression's value 2",
}


def test_bad_rows_are_left_out_and_reported_in_order_with_line_and_reason(tmp_path):
    chosen = list(BAD)[:3:-1]  # what only shows in the whole expression, and what shows at once, mixed
    assert len(chosen) == 9
    rows = [row for bad in chosen for row in (*good_rows(3), bad)]
    path = written(tmp_path / "a.tsv", *rows)
    reported = []
    examples = read_tsv(path, on_bad=reported.append)
    assert len(examples) == 27
    assert [(row.file, row.line, row.reason) for row in reported] == [
        (str(path), 5 + 4 * index, BAD[bad]) for index, bad in enumerate(chosen)
    ]


@pytest.mark.parametrize("bad", BAD)
def test_each_kind_of_bad_row(tmp_path, bad):
    reported = []
    path = written(tmp_path / "a.tsv", "3\t3", bad, "[MIN 4 5 ]\t4")
    assert read_tsv(path, on_bad=reported.append).labels.tolist() == [3, 4]
    assert [(row.line, row.reason) for row in reported] == [(3, BAD[bad])]


def test_a_row_that_is_no_text_is_a_bad_row(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"Source\tTarget\n\xff\xfe [MAX\t1\n5\t5\n")
    reported = []
    assert len(read_tsv(path, on_bad=reported.append)) == 1
    assert "unknown token '\\\\xff\\\\xfe'" in reported[0].reason


def test_unknown_operators_are_kept_and_their_labels_trusted(tmp_path):
    path = written(tmp_path / "a.tsv", "[MAX 1 [FIRST 3 4 ] ]\t3", "[FIRST 3 4 ]\t9")
    assert read_tsv(path).labels.tolist() == [3, 9]


def test_many_bad_rows_are_an_error_that_shows_the_first_five(tmp_path):
    path = written(tmp_path / "a.tsv", *good_rows(500), *["[MAX 1 2 ]\t1"] * 10)
    with pytest.raises(DataError) as caught:
        read_tsv(path)
    text = str(caught.value)
    assert "10 of 510 rows" in text
    assert [f":{line}: the label is 1" in text for line in range(502, 508)] == [True] * 5 + [False]


def test_one_bad_row_in_a_hundred_and_up_to_nine_are_tolerated(tmp_path):
    ten_of_thousand = written(tmp_path / "a.tsv", *good_rows(990), *["x\t1"] * 10)
    assert len(read_tsv(ten_of_thousand)) == 990
    nine_of_ten = written(tmp_path / "b.tsv", "5\t5", *["x\t1"] * 9)
    assert len(read_tsv(nine_of_ten)) == 1


def test_bad_rows_are_found_across_the_blocks_that_are_checked_together(tmp_path, monkeypatch):
    monkeypatch.setattr(tsv_module, "_TOKENS_AT_ONCE", 10)
    rows = good_rows(40)
    rows[7], rows[31] = "[MAX 1 2 ]\t1", "oops"
    reported = []
    examples = read_tsv(written(tmp_path / "a.tsv", *rows), on_bad=reported.append)
    assert [row.line for row in reported] == [9, 33]
    assert examples.labels.tolist() == [n % 9 + 1 for n in range(40) if n not in (7, 31)]


def test_the_limit_counts_sound_rows_and_stops_reading(tmp_path):
    rows = good_rows(10)
    rows[1] = "[MAX 1 2 ]\t1"
    rows[8] = "never read"
    reported = []
    examples = read_tsv(written(tmp_path / "a.tsv", *rows), limit=4, on_bad=reported.append)
    assert examples.labels.tolist() == [1, 3, 4, 5]
    assert [row.line for row in reported] == [3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"text\tlabel\n1\t1\n", r"columns Source and Target, tab between; found 'text\\tlabel'"),
        (b"Source,Target\n1,1\n", "found 'Source,Target'"),
        (b"Source\tTarget\n", "no usable row"),
        (b"Source\tTarget\n[MAX\t1\n", r"no usable row below its header:\n.*a\.tsv:2: brackets"),
        (bytes(range(256)) * 40, "expected a header"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, said):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_tsv(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*nowhere\.tsv: No such file.*expected a ListOps TSV file"):
        read_tsv(tmp_path / "nowhere.tsv")
