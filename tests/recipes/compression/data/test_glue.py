"""GLUE in both forms: the same texts and answers from tab-separated files and from saved data sets."""

from pathlib import Path
from typing import Any

import pytest

from quincunx.errors import DataError
from quincunx.recipes.compression.config_data import GLUE
from quincunx.recipes.compression.data.documents import Documents
from quincunx.recipes.compression.data.glue import TASKS, glue

TABLES = {
    "cola": ("CoLA", ["gj04\t1\t\tHe \"left.", "gj04\t0\t*\tLeft he."], None),
    "sst2": ("SST-2", ["it 's fine \t1", "no fun \t0"], "sentence\tlabel"),
    "mrpc": ("MRPC", ["1\t7\t8\tHe left.\tHe \"went.", "0\t9\t10\tA.\tB."],
             "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"),
    "qqp": ("QQP", ["0\t1\t2\tWhy?\tHow?\t0", "1\t3\t4\tWho?\tWho is it?\t1"],
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"),
    "stsb": ("STS-B", ["0\tg\tf\ty\t1\t_\t_\tA plane.\tA plane flies.\t4.500", "1\tg\tf\ty\t1\t_\t_\tA.\tB.\t0.400"],
             "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"),
    "mnli": ("MNLI", ["0\tx\ty\tHe left.\tHe is gone.\tneutral\tentailment", "1\tx\ty\tA.\tB.\tneutral\tcontradiction"],
             "index\tpromptID\tpairID\tsentence1\tsentence2\tlabel1\tgold_label"),
    "qnli": ("QNLI", ["0\tWho?\tHe did.\tentailment", "1\tWhere?\tIt rained.\tnot_entailment"],
             "index\tquestion\tsentence\tlabel"),
    "rte": ("RTE", ["0\tHe left.\tHe is gone.\tentailment", "1\tA.\tB.\tnot_entailment"],
            "index\tsentence1\tsentence2\tlabel"),
    "wnli": ("WNLI", ["0\tHe left it.\tIt was left.\t1", "1\tA.\tB.\t0"], "index\tsentence1\tsentence2\tlabel"),
}  # fmt: skip

SAID = {
    "cola": [('He "left.', "acceptable:", " yes"), ("Left he.", "acceptable:", " no")],
    "sst2": [("it 's fine", "sentiment:", " positive"), ("no fun", "sentiment:", " negative")],
    "mrpc": [("He left.", 'He "went.\nparaphrase:', " yes"), ("A.", "B.\nparaphrase:", " no")],
    "qqp": [("Why?", "How?\nduplicate:", " no"), ("Who?", "Who is it?\nduplicate:", " yes")],
    "stsb": [("A plane.", "A plane flies.\nsimilarity:", " 4"), ("A.", "B.\nsimilarity:", " 0")],
    "mnli": [("He left.", "He is gone.\nrelation:", " entailment"), ("A.", "B.\nrelation:", " contradiction")],
    "qnli": [("He did.", "Who?\nanswered:", " yes"), ("It rained.", "Where?\nanswered:", " no")],
    "rte": [("He left.", "He is gone.\nentailed:", " yes"), ("A.", "B.\nentailed:", " no")],
    "wnli": [("He left it.", "It was left.\nentailed:", " yes"), ("A.", "B.\nentailed:", " no")],
}

SAVED = {
    "cola": {"sentence": ['He "left.', "Left he."], "label": [1, 0]},
    "sst2": {"sentence": ["it 's fine ", "no fun "], "label": [1, 0]},
    "mrpc": {"sentence1": ["He left.", "A."], "sentence2": ['He "went.', "B."], "label": [1, 0]},
    "qqp": {"question1": ["Why?", "Who?"], "question2": ["How?", "Who is it?"], "label": [0, 1]},
    "stsb": {"sentence1": ["A plane.", "A."], "sentence2": ["A plane flies.", "B."], "label": [4.5, 0.4]},
    "mnli": {"premise": ["He left.", "A."], "hypothesis": ["He is gone.", "B."], "label": [0, 2]},
    "qnli": {"question": ["Who?", "Where?"], "sentence": ["He did.", "It rained."], "label": [0, 1]},
    "rte": {"sentence1": ["He left.", "A."], "sentence2": ["He is gone.", "B."], "label": [0, 1]},
    "wnli": {"sentence1": ["He left it.", "A."], "sentence2": ["It was left.", "B."], "label": [1, 0]},
}


def tables(root: Path, task: str) -> Path:
    name, rows, header = TABLES[task]
    folder = root / name
    folder.mkdir(parents=True)
    start = "" if header is None else f"\ufeff{header}\n"
    (folder / "train.tsv").write_text(start + rows[0] + "\n", encoding="utf-8")
    for held_out in TASKS[task].held_out:
        (folder / held_out).write_text(start + rows[1] + "\r\n", encoding="utf-8", newline="")
    (folder / "test.tsv").write_text("index\tsentence\n0\tunlabelled\n")
    return folder


def saved(root: Path, task: str) -> Path:
    datasets: Any = pytest.importorskip("datasets", reason="the extra `text` is not installed")
    columns = SAVED[task]
    parts = {"train": 0, **dict.fromkeys(TASKS[task].saved, 1)}
    made = {part: datasets.Dataset.from_dict({k: [v[row]] for k, v in columns.items()}) for part, row in parts.items()}
    made["test"] = datasets.Dataset.from_dict({k: [v[0]] if k != "label" else [-1] for k, v in columns.items()})
    datasets.DatasetDict(made).save_to_disk(str(root / task))
    return root / task


def read(source: Documents) -> list[tuple[tuple[str, ...], str | None, str]]:
    return [(d.texts, d.split, "" if d.label < 0 else source.answers[d.label]) for d in source.read()]


@pytest.mark.parametrize("task", GLUE)
@pytest.mark.parametrize("form", [tables, saved], ids=["tables", "saved"])
def test_every_task_is_said_alike_in_both_forms(tmp_path: Path, task: str, form: Any) -> None:
    form(tmp_path, task)
    source = glue(task, tmp_path, tmp_path / "cache")
    first, second = SAID[task]
    copies = len(TASKS[task].held_out)
    assert read(source) == [(first, None, first[2].strip()), *[(second, "test", second[2].strip())] * copies]
    assert (source.parts, source.drawn) == (3, ("dev",))


def test_the_folder_of_one_task_can_be_named_itself_and_the_cache_is_looked_into(tmp_path: Path) -> None:
    folder = tables(tmp_path / "glue", "rte")
    expected = read(glue("rte", folder, tmp_path / "other"))
    assert len(expected) == 2
    assert read(glue("rte", None, tmp_path)) == expected


def test_all_tasks_together_share_their_answers(tmp_path: Path) -> None:
    for task in GLUE:
        tables(tmp_path, task)
    source = glue(None, tmp_path, tmp_path)
    assert len(set(source.answers)) == len(source.answers)
    assert [answer for *_, answer in read(source)][:2] == ["yes", "no"]
    found = {texts for texts, *_ in read(source)}
    assert found == {said for task in GLUE for said in SAID[task]}


def test_a_few_bad_rows_are_left_out_and_many_refused(tmp_path: Path) -> None:
    folder = tables(tmp_path, "rte")
    sound = "".join(f"{n}\tA{n}.\tB.\tentailment\n" for n in range(200))
    head = "index\tsentence1\tsentence2\tlabel\n"
    (folder / "train.tsv").write_text(f"{head}{sound}7\tcut off\n8\tA.\t \tentailment\n")
    found = read(glue("rte", tmp_path, tmp_path))
    assert [texts for texts, *_ in found[:203]].count(("", "", "")) == 2
    (folder / "train.tsv").write_text(f"{head}{sound}" + "9\tA.\tB.\tmaybe\n" * 4)
    with pytest.raises(
        DataError, match=r"4 of 204 rows cannot be used(.|\n)*train.tsv:202: the label 'maybe' is none of"
    ):
        read(glue("rte", tmp_path, tmp_path))


def test_files_of_another_task_are_refused(tmp_path: Path) -> None:
    tables(tmp_path, "rte")
    with pytest.raises(DataError, match=r"expected a column sentence; found index, sentence1, sentence2, label"):
        read(glue("qnli", tmp_path / "RTE", tmp_path))


def test_missing_ones_say_where_was_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables(tmp_path / "mine", "rte")
    with pytest.raises(
        DataError, match=r"mine holds no examples of GLUE mrpc \(RTE\); expected its tab-separated files"
    ):
        glue("mrpc", tmp_path / "mine", tmp_path)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(
        DataError, match=r"looked in .*/glue/MRPC, .*/glue/mrpc, .*/glue\), and HF_DATASETS_OFFLINE is set"
    ):
        glue("mrpc", None, tmp_path)
