"""The page on the guides: every class and every fault is there, beside a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
PAGE = (TESTS.parent / "docs/retrieval_guides.md").read_text(encoding="utf-8")
TEMPLATE = """DataArguments ModelArguments TrainingArguments Optimizer SGD LrScheduler LinearScheduler train.py
EmbeddingModel EmbeddingMemoryQueue seed_everything Validator Validator.validate default_processing_fn
bert_processing_fn processing_before_indexing_fn display_search_results"""
DATASETS = """BaseIrDataset string_to_int CollectionIrDatasetBase TokenizedQrelPairDataset TokenizedMultiNegativeDataset
TokenizedMultiNegativeDatasetTevatron CollectionDataset QueryDataset TokenizedQrelPairCollator
TokenizedMultiNegativeCollator load_tokenizer"""
ENCODING = "EncoderArguments EncodeCollator Encoder.encode_memory Encoder.encode Indexer Indexer.trec_metrics"


def tables(title: str) -> list[list[str]]:
    """Return the cells of all rows below a heading, up to the next of the same or a higher level."""
    level = title.partition(" ")[0]
    below = PAGE.partition(f"\n{title}\n")[2]
    assert below, title
    section = re.split(rf"\n#{{1,{len(level)}}} ", below)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in lines
        if not line.startswith(("| class", "| there"))
    ]


CLASSES = {
    "## Guide 001: classes of the template": TEMPLATE,
    "## Guide 001: ir_dataset_package": DATASETS,
    "## Guide 001: encoding_indexing_package": ENCODING,
}
FAULTS = "## What the guides' programs did, and what happens here"


@pytest.mark.parametrize("title", CLASSES)
def test_every_class_has_a_row(title: str):
    named = {word for row in tables(title) for cell in row[:2] for word in re.findall(r"`([\w.]+)`", cell)}
    assert set(CLASSES[title].split()) <= named


@pytest.mark.parametrize("title", [*CLASSES, FAULTS])
def test_every_row_names_tests_that_are_there_once(title: str):
    """By name alone where only one test has it, else with its file."""
    rows = tables(title)
    assert len(rows) > (60 if title == FAULTS else 10)
    known: dict[str, int] = {}
    for path in TESTS.rglob("test_*.py"):
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            for full in (name, f"{path.relative_to(TESTS).as_posix()}::{name}"):
                known[full] = known.get(full, 0) + 1
    for row in rows:
        assert len(row) == (3 if title == FAULTS else 4), row
        assert re.fullmatch(r"`[\w/.]*(::)?test_\w+`(, `[\w/.]*(::)?test_\w+`)*", row[-1]), row
        assert row[-2], row
        assert [known.get(name, 0) for name in re.findall(r"`([^`]+)`", row[-1])] == [1] * row[-1].count(", ") + [1], (
            row
        )
