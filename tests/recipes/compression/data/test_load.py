"""From the config's sections to examples: what is cached, what it follows, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from quincunx.errors import DataError, UsageError
from quincunx.recipes.compression.config_data import GLUE, Data, Tokenizer, is_labelled
from quincunx.recipes.compression.data import load as module
from quincunx.recipes.compression.data.documents import SPLITS
from quincunx.recipes.compression.data.load import Texts, load
from quincunx.recipes.compression.data.tokenizer import Encoder, end_token, fingerprint, state, train_tokenizer
from quincunx.recipes.compression.data.windows import LabelledPairs, Windows

BYTES = Tokenizer(kind="byte")
PAGES = [f"Page {n}. " + f"The {n}th word of many. " * (n % 5 + 1) for n in range(60)]


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Sixty text files."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for number, text in enumerate(PAGES):
        (folder / f"{number:02}.txt").write_text(text)
    return folder


def loaded(folder: Path, tokenizer: Tokenizer = BYTES, context: int = 8, forward: int = 8, **settings: object) -> Texts:
    data = Data(source="text", path=str(folder), cache=str(folder.parent / "cache"), **settings)  # type: ignore[arg-type]
    return load(data, tokenizer, context=context, forward=forward)


def decoded(texts: Texts, split: str) -> list[str]:
    """The documents of a split, put together again from its examples."""
    windows = texts.splits[split]
    found: dict[int, list[int]] = {}
    for index in range(len(windows)):
        example = windows[index]
        assert example.offset == len(found.setdefault(example.document, []))
        found[example.document] += [*example.context.tolist(), *example.forward[example.overlap :].tolist()]
    assert all(ids[-1] == texts.tokenizer.eos_token_id for ids in found.values())
    return [texts.tokenizer.decode(ids[:-1]) for ids in found.values()]


@pytest.mark.parametrize("settings", [{}, {"overlap": 3}, {"processes": 2}])
@pytest.mark.parametrize("tokenizer", [BYTES, Tokenizer(vocabulary=300)], ids=["byte", "bpe"])
def test_every_document_comes_back_whole_in_exactly_one_split(
    pages: Path, settings: dict[str, object], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTH", 10)  # so that a second process pays
    texts = loaded(pages, tokenizer, **settings)
    assert sorted(text for split in SPLITS for text in decoded(texts, split)) == sorted(PAGES)
    assert all(len(texts.splits[split]) for split in SPLITS)
    assert all(isinstance(split, Windows) and not split.left_out for split in texts.splits.values())


def cached(folder: Path) -> set[str]:
    return {path.name for path in (folder.parent / "cache" / "compression").iterdir()}


def test_the_second_time_nothing_is_read_but_for_its_hash(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(vocabulary=300)
    first = loaded(pages, tokenizer)
    before = cached(pages)
    monkeypatch.setattr(module, "survey", None)
    monkeypatch.setattr(module, "encode", None)
    again = loaded(pages, tokenizer)
    assert again.fingerprint == first.fingerprint
    assert decoded(again, "train") == decoded(first, "train")
    assert cached(pages) == before
    assert again.notes[0] == first.notes[0]
    assert any("made and kept" in note for note in first.notes)
    assert any("taken from the cache" in note for note in again.notes)


def test_each_input_changes_the_fingerprint_and_lengths_encode_nothing_anew(pages: Path) -> None:
    seen = {loaded(pages).fingerprint}
    kept = cached(pages)
    shapes = [
        {"context": 4},
        {"forward": 4},
        {"overlap": 1},
        {"min_context": 2},
        {"min_forward": 3},
        {"packing": "stream"},
    ]
    for settings in shapes:
        seen.add(loaded(pages, **settings).fingerprint)  # type: ignore[arg-type]
    assert len(seen) == 7
    assert cached(pages) == kept
    contents = [{"seed": 1}, {"dev_share": 0.2}, {"test_share": 0.2}, {"documents": 50}, {"document": "line"}]
    for settings in contents:
        seen.add(loaded(pages, **settings).fingerprint)  # type: ignore[arg-type]
    seen.add(loaded(pages, Tokenizer(vocabulary=300)).fingerprint)
    seen.add(loaded(pages, Tokenizer(vocabulary=301)).fingerprint)
    seen.add(loaded(pages, Tokenizer(vocabulary=300, sample=50)).fingerprint)
    (pages / "00.txt").write_text("changed")
    seen.add(loaded(pages).fingerprint)
    assert len(seen) == 16
    assert loaded(pages, processes=1).fingerprint == loaded(pages).fingerprint


def test_a_tokenizer_is_trained_on_training_documents_alone(pages: Path) -> None:
    texts = loaded(pages, Tokenizer(vocabulary=300))
    own = train_tokenizer(decoded(texts, "train"), "bpe", 300)
    assert fingerprint(texts.tokenizer) == fingerprint(own)
    few = loaded(pages, Tokenizer(vocabulary=300, sample=40))
    assert fingerprint(few.tokenizer) == fingerprint(
        train_tokenizer(["".join(decoded(texts, "train"))[:40]], "bpe", 300)
    )


def test_a_tokenizer_from_a_folder_or_the_model_takes_its_place(pages: Path, tmp_path: Path) -> None:
    own = train_tokenizer(PAGES, "bpe", 270)
    own.save_pretrained(tmp_path / "own")
    named = loaded(pages, Tokenizer(path=str(tmp_path / "own")))
    data = Data(source="text", path=str(pages), cache=str(tmp_path / "cache"))
    given = load(data, Tokenizer(path="nowhere"), context=8, forward=8, tokenizer=own)
    assert named.fingerprint == given.fingerprint
    assert len(named.tokenizer) == 270
    with pytest.raises(UsageError, match="nowhere"):
        load(data, Tokenizer(path="nowhere"), context=8, forward=8)


def test_a_plain_language_model_has_no_context_and_overlap_none_either(pages: Path) -> None:
    texts = loaded(pages, context=0, forward=16, overlap=3)
    example = texts.splits["train"][0]
    assert (len(example.context), len(example.forward), example.overlap) == (0, 16, 0)
    assert sorted(text for split in SPLITS for text in decoded(texts, split)) == sorted(PAGES)


def test_too_short_documents_are_refused_with_the_way_out(pages: Path) -> None:
    with pytest.raises(
        DataError, match=r"too short for any example: the longest has \d+ tokens, the shortest example 2000"
    ):
        loaded(pages, context=8000, forward=8000)
    with pytest.raises(DataError, match=r"or set data\.packing to stream"):
        loaded(pages, context=800, forward=800)
    assert len(loaded(pages, context=400, forward=400, packing="stream").splits["train"]) > 1


def test_a_path_is_needed_where_files_are_read() -> None:
    for source in ("text", "jsonl"):
        with pytest.raises(UsageError, match=f"data.source {source} reads what data.path names, which is unset"):
            load(Data(source=source), BYTES, context=8, forward=8)


def test_a_limit_takes_the_first_examples_of_each_split(pages: Path) -> None:
    data = Data(source="text", path=str(pages), cache=str(pages.parent / "cache"))
    texts = load(data, BYTES, context=8, forward=8, limit=2)
    assert [len(texts.splits[split]) for split in SPLITS] == [2, 2, 2]


def test_json_lines_are_loaded_by_their_field(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"body": text}) for text in PAGES))
    data = Data(source="jsonl", field="body", path=str(path), cache=str(tmp_path / "cache"))
    texts = load(data, BYTES, context=8, forward=8)
    assert sorted(text for split in SPLITS for text in decoded(texts, split)) == sorted(PAGES)


def test_only_files_of_a_pattern_are_loaded(pages: Path) -> None:
    texts = loaded(pages, files="0*.txt")
    assert sorted(text for split in SPLITS for text in decoded(texts, split)) == sorted(PAGES[:10])


def labelled(folder: Path) -> Path:
    """Sixty rows of RTE for training, four to test with."""
    folder.mkdir()
    for name, rows in (("train.tsv", 60), ("dev.tsv", 4)):
        lines = [f"{n}\tIt is {name} {n}.\tNumber {n}.\t{'not_' * (n % 2)}entailment" for n in range(rows)]
        (folder / name).write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *lines]))
    return folder


def test_labelled_examples_bring_their_answers(tmp_path: Path) -> None:
    data = Data(source="glue:rte", path=str(labelled(tmp_path / "RTE")), cache=str(tmp_path / "cache"), dev_share=0.2)
    texts = load(data, BYTES, context=40, forward=40)
    train, dev, test = (texts.splits[split] for split in SPLITS)
    assert len(test) == 4
    assert len(train) + len(dev) == 60
    assert len(dev) > 3
    assert isinstance(test, LabelledPairs)
    for index, answer in enumerate(["yes", "no", "yes", "no"]):
        example = test[index]
        assert texts.tokenizer.decode(example.context) == f"It is dev.tsv {index}."
        assert texts.tokenizer.decode(example.forward) == f"Number {index}.\nentailed: {answer}<eos>"
        assert example.forward[-example.answer :].tolist() == texts.answers[example.label].tolist()
    end = end_token(texts.tokenizer)
    words = Encoder(state(texts.tokenizer))([" yes", " no"])
    assert [ids.tolist() for ids in texts.answers] == [[*word.tolist(), end] for word in words]
    assert np.array_equal(train.lengths, [len(train[i].context) + len(train[i].forward) for i in range(len(train))])


def test_labelled_examples_that_all_are_too_long_are_refused(tmp_path: Path) -> None:
    data = Data(source="glue:rte", path=str(labelled(tmp_path / "RTE")), cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"no example of train, dev fits into data.context_length 5 and"):
        load(data, BYTES, context=5, forward=40)


def test_names_of_sources_are_read_in_any_case_and_others_refused() -> None:
    assert Data(source="GLUE/MRPC").source == "glue:mrpc"
    assert [is_labelled(Data(source=name)) for name in ("glue", f"glue:{GLUE[0]}", "text")] == [True, True, False]
    for word in ("glue:ax", "wikitext", ""):
        with pytest.raises(ValidationError, match="there is no source"):
            Data(source=word)


def test_the_documentation_of_this_python_is_the_default(data_cache: Path) -> None:
    data = Data(cache=str(data_cache))
    texts = load(data, BYTES, context=64, forward=64)
    assert data.source == "stdlib-text"
    assert len(texts.splits["train"]) > 5000
    assert min(len(texts.splits[split]) for split in ("dev", "test")) > 100
    windows = texts.splits["train"]
    assert isinstance(windows, Windows)
    assert windows.left_out < 0.01 * len(windows.tokens.flat)
