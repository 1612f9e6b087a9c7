"""GLUE (Wang et al. 2018, arXiv 1804.07461) as texts: one sentence is compressed, the rest and its answer predicted.

    context   the first sentence (QNLI: the sentence that is to hold the answer; CoLA and SST-2: the only one)
    forward   the second one, a new line, a word that asks, and the answer: "He left.\\nparaphrase: yes"

Training examples are the official ones, a share of them held out as dev; test examples are the official development
ones, on which published figures stand: the official test examples have no answers. AX, which has neither training
examples nor answers, is not among the tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quincunx.data.saved import SEVERAL, opened
from quincunx.errors import DataError
from quincunx.recipes.compression.config_data import GLUE
from quincunx.recipes.compression.data.documents import Document, Documents, files_hash
from quincunx.recipes.compression.data.hub import fetched, is_saved

HUB = "nyu-mll/glue"
FORMAT = 1
"""Raised whenever the same files would give other texts."""
EXPECTED = "its tab-separated files (train.tsv and dev.tsv) or a saved Hugging Face data set in a folder of its name"
TOLERATED = 0.01
"""Share of rows that may be bad; QQP is published with some."""

_AT_ONCE = 1000


@dataclass(frozen=True)
class Task:
    """How one task is read and said. Columns are given by their names in either form of the files."""

    folders: tuple[str, ...]
    """Names that its folder has."""
    context: tuple[str, ...]
    question: tuple[str, ...]
    """Column of the second sentence; empty where there is none."""
    label: tuple[str, ...]
    asks: str
    """Stands before the answer."""
    answers: tuple[str, ...]
    """In words, by the label numbers of the saved form."""
    words: tuple[str, ...] = ()
    """The labels as the tab-separated files write them; empty: as numbers."""
    held_out: tuple[str, ...] = ("dev.tsv",)
    """Files of the official development examples."""
    saved: tuple[str, ...] = ("validation",)
    """Their names in the saved form."""
    columns: tuple[str, ...] = ()
    """Of files without a header."""
    graded: bool = False
    """The label is a number from 0 to 5, and said to the nearest whole one."""

    def number(self, label: object) -> int:
        """Return the number of the answer that a label is; ValueError where it is none."""
        text = str(label).strip()
        if self.graded:
            value = float(text)
            if not 0 <= value < len(self.answers):
                raise ValueError(f"the label {text} does not lie in 0 to 5")
            return round(value)
        if self.words and text in self.words:
            return self.words.index(text)
        if text in map(str, range(len(self.answers))):
            return int(text)
        raise ValueError(f"the label {text!r} is none of {', '.join(self.words or map(str, range(len(self.answers))))}")


_FIRST, _SECOND = ("sentence1", "#1 String"), ("sentence2", "#2 String")
_ENTAILED = ("entailment", "not_entailment")
TASKS = {
    "cola": Task(
        ("CoLA", "cola"), ("sentence",), (), ("label",), "acceptable", ("no", "yes"),
        columns=("source", "label", "mark", "sentence"),
    ),
    "sst2": Task(("SST-2", "sst2", "sst-2"), ("sentence",), (), ("label",), "sentiment", ("negative", "positive")),
    "mrpc": Task(("MRPC", "mrpc"), _FIRST, _SECOND, ("label", "Quality"), "paraphrase", ("no", "yes")),
    "qqp": Task(
        ("QQP", "qqp"), ("question1",), ("question2",), ("label", "is_duplicate"), "duplicate", ("no", "yes")
    ),
    "stsb": Task(
        ("STS-B", "stsb", "sts-b"), _FIRST, _SECOND, ("label", "score"), "similarity", tuple("012345"), graded=True
    ),
    "mnli": Task(
        ("MNLI", "mnli"), ("premise", "sentence1"), ("hypothesis", "sentence2"), ("label", "gold_label"), "relation",
        ("entailment", "neutral", "contradiction"), words=("entailment", "neutral", "contradiction"),
        held_out=("dev_matched.tsv", "dev_mismatched.tsv"), saved=("validation_matched", "validation_mismatched"),
    ),
    "qnli": Task(("QNLI", "qnli"), ("sentence",), ("question",), ("label",), "answered", ("yes", "no"), _ENTAILED),
    "rte": Task(("RTE", "rte"), _FIRST, _SECOND, ("label",), "entailed", ("yes", "no"), _ENTAILED),
    "wnli": Task(("WNLI", "wnli"), _FIRST, _SECOND, ("label",), "entailed", ("no", "yes")),
}  # fmt: skip


def glue(task: str | None, path: str | Path | None, cache: Path, processes: int = 1) -> Documents:
    """Return the labelled examples of a task of GLUE, or of all together.

    Args:
        task: One of `TASKS`; None: all.
        path: A folder with a folder for each task, or the folder of the one task; None: `glue` in the cache, fetched
            from the hub where it is missing.
        cache: The cache.
        processes: Processes that prepare what is fetched.

    Raises:
        DataError: A task is nowhere, and the hub cannot be reached; while reading: columns that are not a task's, or
            more than 1 % of bad rows.
        MissingExtra: The `datasets` package is not installed, where it is needed.
    """
    names = list(GLUE) if task is None else [task]
    places = {name: _find(name, path, cache, alone=task is not None, processes=processes) for name in names}
    answers = tuple(dict.fromkeys(answer for name in names for answer in TASKS[name].answers))
    used = [(f"{name}/{file.relative_to(place)}", file) for name, place in places.items() for file in _files(place)]
    request = {"source": "glue", "format": FORMAT, "tasks": names, "files": files_hash(used)}
    what = "GLUE" if task is None else f"GLUE {task}"
    notes = [f"{what}: the test split is the official development set, and dev is drawn from the training examples."]
    return Documents(
        what, request, partial(_examples, places, answers), parts=3, drawn=("dev",), answers=answers, notes=notes
    )


def _find(name: str, path: str | Path | None, cache: Path, *, alone: bool, processes: int) -> Path:
    """Return the folder of a task; DataError where it is nowhere."""
    root = Path(path).expanduser() if path is not None else cache / "glue"
    looked = [root / folder for folder in TASKS[name].folders] + [root] * alone
    for place in looked:
        if (place / "train.tsv").is_file() or (place / SEVERAL).is_file():
            return place
    if path is not None:
        there = ", ".join(sorted(each.name for each in root.iterdir())[:6]) if root.is_dir() else "no folder"
        raise DataError(
            f"data.path: {root} holds no examples of GLUE {name} ({there or 'nothing'}); expected {EXPECTED}"
        )
    return fetched(HUB, name, None, root / TASKS[name].folders[-1], looked, EXPECTED, processes)


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.arrow")) if is_saved(place) else sorted(place.glob("*.tsv"))


def _examples(places: dict[str, Path], answers: Sequence[str]) -> Iterator[Document]:
    for name, place in places.items():
        task = TASKS[name]
        saved = is_saved(place)
        held_out = task.saved if saved else task.held_out
        parts = [("train" if saved else "train.tsv", None), *((part, "test") for part in held_out)]
        for part, split in parts:
            rows = _saved_rows(place / part, task) if saved else _table_rows(place / part, task)
            yield from _documents(place / part, rows, task, split, answers)


def _documents(
    place: Path,
    rows: Iterator[tuple[int, Sequence[object]]],
    task: Task,
    split: str | None,
    answers: Sequence[str],
) -> Iterator[Document]:
    """Yield the rows as documents, bad ones empty; DataError, once all are read, where too many are bad."""
    bad: list[str] = []
    count = 0
    for line, values in rows:
        count += 1
        try:
            *texts, label = values
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                raise ValueError("a text is missing")
            answer = task.answers[task.number(label)]
        except ValueError as error:
            bad.append(f"{place}:{line}: {error}")
            yield Document(f"{place}:{line}", ("", "", ""), split)  # counted as left out
            continue
        context, question = str(texts[0]).strip(), "".join(f"{str(text).strip()}\n" for text in texts[1:])
        number = answers.index(answer)
        yield Document(f"{place}:{line}", (context, f"{question}{task.asks}:", f" {answer}"), split, number)
    if not count or len(bad) > max(TOLERATED * count, 1):
        shown = "".join(f"\n  {each}" for each in bad[:5])
        raise DataError(f"{place}: {len(bad):,} of {count:,} rows cannot be used; expected {EXPECTED}{shown}")


def _table_rows(path: Path, task: Task) -> Iterator[tuple[int, Sequence[object]]]:
    """Yield (line, context, question, label) of a tab-separated file, in which quotes are letters like others."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            lines = enumerate((line.rstrip("\r\n").split("\t") for line in file), start=1)
            names = list(task.columns) or next(lines, (0, list[str]()))[1]
            places = _columns(path, names, task)
            for number, cells in lines:
                if len(cells) > max(places):
                    yield number, [cells[place] for place in places]
                else:
                    yield number, []
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start:,} of what was read last is not UTF-8") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def _saved_rows(folder: Path, task: Task) -> Iterator[tuple[int, Sequence[object]]]:
    with opened(folder, "compression") as saved:
        names: list[str] = saved.column_names
        wanted = [names[place] for place in _columns(folder, names, task)]
        row = 0
        for batch in saved.select_columns(list(dict.fromkeys(wanted))).iter(_AT_ONCE):
            for values in zip(*(batch[name] for name in wanted), strict=True):
                row += 1
                yield row, values


def _columns(path: Path, names: Sequence[str], task: Task) -> list[int]:
    """Return the places of the context's, the question's and the label's column; DataError where one is missing."""
    found: list[int] = []
    for wanted in (task.context, task.question, task.label):
        if wanted:
            place = next((names.index(name) for name in wanted if name in names), None)
            if place is None:
                raise DataError(
                    f"{path}: expected a column {' or '.join(wanted)}; found {', '.join(names) or 'nothing'}"
                )
            found.append(place)
    return found
