import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError, UsageError
from quincunx.recipes.compression.config_generated import Tasks
from quincunx.recipes.compression.data.tasks import FILE_NAMES, IGNORED, TASKS, TaskExample, generate, load, read

SMALL = Tasks(name="stack_manipulation", max_length=9, train=40, dev=8, test_max_length=13, test_per_length=2, seed=4)


def texts(source) -> list[tuple[str, str]]:
    return [(source[i].input, source[i].output) for i in range(len(source))]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Examples


def test_the_answer_is_predicted_in_its_places():
    example = TaskExample(TASKS["bucket_sort"], "4213", "1234")
    assert example.tokens.tolist() == [7, 5, 4, 6, 2, 2, 2, 2]
    assert example.targets.tolist() == [IGNORED] * 4 + [4, 5, 6, 7]


def test_nothing_is_predicted_after_the_end_of_an_answer():
    example = TaskExample(TASKS["stack_manipulation"], "110---", "#")
    assert example.slots == 7
    assert example.tokens.tolist() == [4, 4, 3, 5, 5, 5] + [2] * 7
    assert example.targets.tolist() == [IGNORED] * 6 + [1] + [IGNORED] * 6


@pytest.mark.parametrize("name", list(TASKS))
def test_lengths_are_known_without_drawing(name: str):
    sources = load(Tasks(name=name, max_length=11, train=50, dev=9, test_max_length=14, test_per_length=3)).sources
    for source in sources.values():
        assert source.lengths.tolist() == [len(source[i].tokens) for i in range(len(source))]
        assert source.input_lengths.tolist() == [len(source[i].input) for i in range(len(source))]


def test_training_lengths_are_drawn_alike_and_test_lengths_are_longer():
    chosen = Tasks(name="bucket_sort", max_length=10, train=5_000, dev=500, test_max_length=13, test_per_length=7)
    sources = load(chosen).sources
    for split, count in (("train", 5_000), ("dev", 500)):
        counts = np.bincount(sources[split].input_lengths)
        assert counts[0] == 0
        assert len(counts) == 11
        np.testing.assert_allclose(counts[1:] / count, 0.1, atol=0.05)
    assert sources["test"].input_lengths.tolist() == [11] * 7 + [12] * 7 + [13] * 7
    inside = load(chosen.model_copy(update={"test_min_length": 2})).sources["test"]
    assert sorted(set(inside.input_lengths.tolist())) == list(range(2, 14))


def test_examples_depend_on_seed_split_and_number_alone():
    sources = load(SMALL).sources
    assert texts(load(SMALL).sources["train"]) == texts(sources["train"])
    more = load(SMALL.model_copy(update={"train": 400})).sources["train"]
    assert texts(more)[:40] == texts(sources["train"])
    assert texts(sources["dev"]) != texts(sources["train"])[:8]
    other = load(SMALL.model_copy(update={"seed": 5})).sources
    assert texts(other["train"]) != texts(sources["train"])
    assert texts(other["test"]) != texts(sources["test"])
    assert texts(pickle.loads(pickle.dumps(sources["train"]))) == texts(sources["train"])  # to a worker
    with pytest.raises(IndexError):
        sources["dev"][8]


def test_every_setting_changes_the_examples():
    usual = load(SMALL)
    seen = {split: texts(source) for split, source in usual.sources.items()}
    changes = {
        "name": "bucket_sort",
        "max_length": 8,
        "train": 41,
        "dev": 9,
        "test_min_length": 9,
        "test_max_length": 12,
        "test_per_length": 3,
        "seed": 5,
    }
    assert changes.keys() == Tasks.model_fields.keys()
    for name, value in changes.items():
        changed = load(SMALL.model_copy(update={name: value}))
        assert {split: texts(source) for split, source in changed.sources.items()} != seen, name
        assert changed.fingerprint != usual.fingerprint, name
    assert load(SMALL).fingerprint == usual.fingerprint


def test_a_limit_keeps_all_test_lengths():
    few = load(SMALL, limit=4)
    assert {split: len(source) for split, source in few.sources.items()} == {"train": 4, "dev": 4, "test": 4}
    assert few.sources["test"].input_lengths.tolist() == [10, 11, 12, 13]
    assert few.sources["test"].lengths.tolist() == [len(few.sources["test"][i].tokens) for i in range(4)]
    assert few.fingerprint != load(SMALL).fingerprint


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"name": "solve_equation", "max_length": 2}, "max_length is 2; solve_equation has inputs of 3"),
        ({"name": "solve_equation", "test_min_length": 1}, "test_min_length is 1"),
        ({"test_max_length": 9}, "test_max_length is 9; test inputs begin at 10"),
        ({"train": 0}, "train is 0"),
    ],
)
def test_settings_without_meaning_are_refused(changes: dict[str, object], answer: str):
    with pytest.raises(UsageError, match=answer):
        load(SMALL.model_copy(update=changes))


# Files


def test_what_is_written_reads_back_as_what_is_drawn(tmp_path: Path):
    progress: list[tuple[int, int]] = []
    generate(tmp_path, SMALL, lambda *done: progress.append(done))
    assert names_in(tmp_path) == {*FILE_NAMES.values(), "task.json"}
    assert progress == [(56, 56)]
    drawn, given = load(SMALL), load(SMALL, path=str(tmp_path))
    for split, source in drawn.sources.items():
        assert texts(given.sources[split]) == texts(source)
        assert given.sources[split].lengths.tolist() == source.lengths.tolist()
    assert len(load(SMALL, path=str(tmp_path), limit=3).sources["train"]) == 3
    with pytest.raises(UsageError, match="holds the task stack_manipulation, not bucket_sort"):
        read(tmp_path, "bucket_sort")


def test_the_same_set_is_kept_another_refused_and_a_damaged_one_made_again(tmp_path: Path):
    first = generate(tmp_path, SMALL)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    before = (tmp_path / "train.jsonl").stat().st_mtime_ns
    assert generate(tmp_path, SMALL) == first
    assert (tmp_path / "train.jsonl").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="other settings"):
        generate(tmp_path, SMALL.model_copy(update={"seed": 5}))
    (tmp_path / "dev.jsonl").unlink()
    generate(tmp_path, SMALL)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    changed = whole["train.jsonl"].replace(b"0", b"1", 1)
    (tmp_path / "train.jsonl").write_bytes(changed)
    with pytest.raises(DataError, match="another content"):
        read(tmp_path, "stack_manipulation")
    (tmp_path / "task.json").unlink()
    with pytest.raises(UsageError, match="not made by this generator"):
        generate(tmp_path, SMALL)
    assert (tmp_path / "train.jsonl").read_bytes() == changed


def test_an_interrupt_leaves_nothing(tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, SMALL, interrupt)
    assert names_in(tmp_path) == set()


BAD = {
    '{"input": "01"}': "expected {",
    "{": "Expecting",
    '{"input": "02", "output": "0#"}': "the input of stack_manipulation is made of the symbols 01-ab, found '02'",
    '{"input": "01", "output": "02#"}': "the output of stack_manipulation is made of",
    '{"input": "", "output": "#"}': "the input of",
    '{"input": "01", "output": "10"}': "up to 3 symbols that close with #",
    '{"input": "01", "output": "1#0"}': "up to 3 symbols that close with #",
    '{"input": "01", "output": "100#"}': "up to 3 symbols that close with #",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_rows_are_named_with_file_line_and_reason(tmp_path: Path, line: str):
    for name in FILE_NAMES.values():
        (tmp_path / name).write_text(json.dumps({"input": "01", "output": "10#"}) + "\n")
    assert texts(read(tmp_path, "stack_manipulation").sources["dev"]) == [("01", "10#")]
    (tmp_path / "dev.jsonl").write_text(json.dumps({"input": "01", "output": "10#"}) + "\n" + line + "\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path, "stack_manipulation")
    assert str(caught.value).startswith(f"{tmp_path / 'dev.jsonl'}:2: ")
    assert BAD[line] in str(caught.value)


def test_missing_and_empty_files_are_said(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no train\.jsonl and no dev\.jsonl and no test\.jsonl"):
        read(tmp_path, "bucket_sort")
    for name in FILE_NAMES.values():
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=r"train\.jsonl holds no rows"):
        read(tmp_path, "bucket_sort")
    (tmp_path / "train.jsonl").write_text('{"input": "421", "output": "12"}\n')
    with pytest.raises(DataError, match="expected an output of 3 symbols, found '12'"):
        read(tmp_path, "bucket_sort")
