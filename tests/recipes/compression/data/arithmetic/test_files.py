import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError, UsageError
from quincunx.recipes.compression.config_generated import Arithmetic
from quincunx.recipes.compression.data.arithmetic import (
    ALPHABET,
    EOS_ID,
    FILE_NAMES,
    PAD_ID,
    SEPARATOR_ID,
    Parameters,
    generate,
    judge,
    load,
    read,
)

SMALL = Parameters(99, 3, 0.5, 0.2, seed=5)
COUNTS = {"train": 60, "dev": 10, "test": 10, "ood_magnitude": 6, "ood_entities": 7}
SECTION = Arithmetic(train=30, dev=6, test=7, ood=4, multiply_probability=0.2, seed=2)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows(folder: Path, split: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / FILE_NAMES[split]).read_text().splitlines()]


# Writing


def test_files_and_manifest_say_what_was_asked_for(tmp_path: Path):
    progress: list[tuple[int, int]] = []
    manifest = generate(tmp_path, COUNTS, SMALL, on_progress=lambda *done: progress.append(done))
    assert names_in(tmp_path) == {*FILE_NAMES.values(), "arithmetic.json"}
    assert progress == [(93, 93)]
    said = json.loads((tmp_path / "arithmetic.json").read_text())
    assert said["counts"] == COUNTS
    assert said["parameters"]["max_num"] == 99
    for split, count in COUNTS.items():
        data = (tmp_path / FILE_NAMES[split]).read_bytes()
        assert manifest.files[FILE_NAMES[split]] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        found = rows(tmp_path, split)
        assert len(found) == count
        for row in found:
            verdict = judge(f"{row['problem']}={row['solution']}E")
            assert verdict.sound
            assert [step.kind for step in verdict.steps] == row["kinds"]
            assert len(str(row["problem"])) <= manifest.problem_length


def test_splits_out_of_distribution_may_be_left_out(tmp_path: Path):
    manifest = generate(tmp_path, {"train": 5, "dev": 2, "test": 2, "ood_magnitude": 0}, SMALL)
    assert names_in(tmp_path) == {"train.jsonl", "dev.jsonl", "test.jsonl", "arithmetic.json"}
    assert manifest.problem_length == len("99+99+99")


def test_the_same_set_is_kept_and_another_is_refused(tmp_path: Path):
    first = generate(tmp_path, COUNTS, SMALL)
    before = (tmp_path / "train.jsonl").stat().st_mtime_ns
    assert generate(tmp_path, COUNTS, SMALL) == first
    assert (tmp_path / "train.jsonl").stat().st_mtime_ns == before
    for counts, parameters, length in [
        ({**COUNTS, "train": 61}, SMALL, None),
        (COUNTS, replace(SMALL, seed=6), None),
        (COUNTS, SMALL, 40),
    ]:
        with pytest.raises(UsageError, match="other settings"):
            generate(tmp_path, counts, parameters, problem_length=length)
    assert (tmp_path / "train.jsonl").stat().st_mtime_ns == before


def test_a_damaged_set_is_made_again_alike_and_others_data_is_left_alone(tmp_path: Path):
    generate(tmp_path / "a", COUNTS, SMALL)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    (tmp_path / "a/test.jsonl").unlink()
    (tmp_path / "a/train.jsonl").write_bytes(whole["train.jsonl"][:-30])
    generate(tmp_path / "a", COUNTS, SMALL)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == whole
    (tmp_path / "b").mkdir()
    (tmp_path / "b/dev.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"already holds dev\.jsonl"):
        generate(tmp_path / "b", COUNTS, SMALL)
    assert names_in(tmp_path / "b") == {"dev.jsonl"}


def test_an_interrupt_leaves_nothing_half_written(tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, COUNTS, SMALL, on_progress=interrupt)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("counts", [{"train": 5, "dev": 5}, {**COUNTS, "test": 0}, {**COUNTS, "more": 1}])
def test_counts_without_meaning_are_refused(tmp_path: Path, counts: dict[str, int]):
    with pytest.raises(UsageError, match="at least 1 example each for train, dev, test"):
        generate(tmp_path / "d", counts, SMALL)
    assert not (tmp_path / "d").exists()


def test_a_problem_length_that_is_too_short_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="problem_length is 13; a problem may have 14 characters"):
        generate(tmp_path, COUNTS, SMALL, problem_length=13)


# Reading


def test_examples_are_padded_problem_separator_solution_and_end(tmp_path: Path):
    splits = load(SECTION, cache=str(tmp_path))
    assert {split: len(source) for split, source in splits.sources.items()} == {
        "train": 30,
        "dev": 6,
        "test": 7,
        "ood_magnitude": 4,
        "ood_entities": 4,
    }
    (folder,) = tmp_path.iterdir()
    for split, source in splits.sources.items():
        for index, row in enumerate(rows(folder, split)):
            example = source[index]
            width = example.problem_length
            assert width == splits.problem_length == 14
            assert example.text == f"{str(row['problem']).ljust(width, 'P')}={row['solution']}E"
            assert (example.problem, example.solution) == (row["problem"], row["solution"])
            assert list(example.kinds) == row["kinds"]
            assert example.tokens[width] == SEPARATOR_ID
            assert (example.tokens[:width] != SEPARATOR_ID).all()
            assert example.tokens[-1] == EOS_ID
            assert (example.tokens[len(str(row["problem"])) : width] == PAD_ID).all()
            # a unit for every step: as many separators as kinds
            assert (example.tokens == SEPARATOR_ID).sum() == len(example.kinds)
            assert source.lengths[index] == len(example.tokens)
            assert judge(example.text).sound
    with pytest.raises(IndexError):
        splits.sources["dev"][6]


def test_a_set_is_generated_once_and_its_fingerprint_follows_the_seed(tmp_path: Path):
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))

    first = load(SECTION, cache=str(tmp_path), on_progress=progress)
    again = load(SECTION, cache=str(tmp_path), on_progress=progress)
    assert calls == [(51, 51)]
    marks = {split: source.fingerprint() for split, source in first.sources.items()}
    assert {split: source.fingerprint() for split, source in again.sources.items()} == marks
    other = load(SECTION.model_copy(update={"seed": 3}), cache=str(tmp_path))
    assert other.sources["train"].fingerprint() != marks["train"]
    few = load(SECTION, cache=str(tmp_path), limit=5)
    assert [len(source) for source in few.sources.values()] == [5, 5, 5, 4, 4]
    assert "seed 2: train 30, dev 6" in first.notes[0]


def test_two_runs_at_once_make_the_set_once(tmp_path: Path):
    calls: list[tuple[int, int]] = []

    def make(_: int) -> str:
        splits = load(SECTION, cache=str(tmp_path), on_progress=lambda done, total: calls.append((done, total)))
        return splits.sources["train"].fingerprint()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(make, range(4)))) == 1
    assert calls == [(51, 51)]


def test_every_setting_changes_the_examples(tmp_path: Path):
    def mark(**changes: object) -> tuple[str, ...]:
        splits = load(SECTION.model_copy(update=changes), cache=str(tmp_path))
        return tuple(source.fingerprint() for source in splits.sources.values())

    usual = mark()
    changes = {
        "train": 31,
        "dev": 7,
        "test": 8,
        "ood": 5,
        "max_num": 98,
        "max_entities": 4,
        "entity_probability": 0.9,
        "multiply_probability": 0.6,
        "max_factor": 4,
        "zipf_order": 1.0,
        "ood_max_num": 500,
        "ood_max_entities": 4,
        "problem_length": 20,
        "seed": 3,
    }
    assert changes.keys() | {"space_multiplications"} == Arithmetic.model_fields.keys()
    for name, value in changes.items():
        assert mark(**{name: value}) != usual, name
    free = {"max_factor": 3, "space_multiplications": False, "multiply_probability": 0.6}
    assert mark(**free) != mark(**{**free, "space_multiplications": True})


def test_without_splits_out_of_distribution_their_limits_have_no_effect(tmp_path: Path):
    plain = SECTION.model_copy(update={"ood": 0})
    limits = plain.model_copy(update={"ood_max_num": 5, "ood_max_entities": 3})
    first, second = load(plain, cache=str(tmp_path)), load(limits, cache=str(tmp_path))
    assert list(first.sources) == ["train", "dev", "test"]
    assert first.problem_length == len("99+99+99")
    assert first.sources["train"].fingerprint() == second.sources["train"].fingerprint()


def test_the_written_folder_reads_as_what_the_cache_gives(tmp_path: Path):
    kept = load(SECTION, cache=str(tmp_path))
    (folder,) = tmp_path.iterdir()
    given = load(SECTION, path=str(folder))
    assert given.problem_length == kept.problem_length
    for split, source in kept.sources.items():
        assert given.sources[split].fingerprint() == source.fingerprint()
    assert len(load(SECTION, path=str(folder), limit=3).sources["train"]) == 3


def write(folder: Path, *lines: str, split: str = "train") -> Path:
    for name in ("train", "dev", "test"):
        if not (folder / FILE_NAMES[name]).exists():
            (folder / FILE_NAMES[name]).write_text('{"problem": "1+1", "solution": "2"}\n')
    (folder / FILE_NAMES[split]).write_text("".join(line + "\n" for line in lines))
    return folder


def test_ones_own_files_are_read_without_a_manifest(tmp_path: Path):
    row = '{"problem": "12+7", "solution": "19"}'
    splits = read(write(tmp_path, row, '{"problem": "1+1", "solution": "2", "kinds": ["sum"]}'))
    assert [splits.sources["train"][i].text for i in (0, 1)] == ["12+7=19E", "1+1P=2E"]
    assert [splits.sources["train"][i].kinds for i in (0, 1)] == [(), ("sum",)]
    assert splits.sources["dev"][0].text == "1+1P=2E"


BAD = {
    '{"problem": "1+1"}': "expected {",
    "[]": "expected {",
    "{": "Expecting",
    "": "Expecting",
    '{"problem": "1+1", "solution": "3"}': "ends in 3, its value is 2",
    '{"problem": "1+1", "solution": "1+1"}': "ends in None, its value is 2",
    '{"problem": "1 + 1", "solution": "2"}': "expected numbers joined",
    '{"problem": "1+1P", "solution": "2"}': "other symbols",
    '{"problem": "1+1", "solution": "2E3"}': "other symbols",
    '{"problem": "1+1", "solution": "2", "kinds": ["sum", "sum"]}': "for each of 1 steps",
    '{"problem": "1+1", "solution": "2", "kinds": ["add"]}': "expected one of rearrange",
    '{"problem": "1+1", "solution": "1-1=2"}': "none of the symbols",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_rows_are_named_with_file_line_and_reason(tmp_path: Path, line: str):
    write(tmp_path, '{"problem": "1+1", "solution": "2"}', line)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'train.jsonl'}:2: ")
    assert BAD[line] in str(caught.value)


def test_what_is_missing_or_changed_is_said(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no train\.jsonl and no dev\.jsonl and no test\.jsonl"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"test\.jsonl holds no rows"):
        read(write(tmp_path, split="test"))
    generate(tmp_path / "a", COUNTS, SMALL)
    path = tmp_path / "a/dev.jsonl"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(DataError, match=r"dev\.jsonl has another content"):
        read(tmp_path / "a")


# The alphabet


def test_text_and_ids_go_both_ways_and_strangers_are_named():
    text = "0123456789+*=PE"
    assert ALPHABET.decode(ALPHABET.encode(text)) == text
    assert sorted(ALPHABET.encode(text).tolist()) == list(range(15)) == list(range(len(ALPHABET)))
    assert tuple(ALPHABET.id(symbol) for symbol in "PE=") == (PAD_ID, EOS_ID, SEPARATOR_ID)
    for wrong in ("1-1", "1€1"):
        with pytest.raises(DataError, match=f"'{wrong[1]}' at place 1 of '{wrong}' is none of the symbols"):
            ALPHABET.encode(wrong)
    with pytest.raises(DataError, match="0 to 14, found 3 to 15"):
        ALPHABET.decode(np.array([3, 15]))


def test_the_tokenizer_has_the_same_ids(tmp_path: Path):
    ALPHABET.tokenizer().save_pretrained(str(tmp_path))
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    text = "12+7PP=7*12E"
    assert tokenizer(text).input_ids == ALPHABET.encode(text).tolist()
    assert tokenizer.decode(ALPHABET.encode(text).tolist()) == text
    assert len(tokenizer) == len(ALPHABET)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD_ID, EOS_ID)
    with pytest.raises(Exception, match="UNK"):
        tokenizer("1 x")
