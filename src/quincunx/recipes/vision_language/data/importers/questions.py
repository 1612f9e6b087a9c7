"""Questions: VQA v2 (Goyal et al. 2017), GQA (Hudson and Manning 2019), and both as LXMERT keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.answers import soft_answers
from quincunx.recipes.vision_language.data.importers.pictures import Missing
from quincunx.recipes.vision_language.data.importers.reading import Row, json_file, rows_of
from quincunx.recipes.vision_language.data.importers.request import Made, Placed, Request, by_split, one_split
from quincunx.recipes.vision_language.data.lines import shown
from quincunx.recipes.vision_language.data.record import Answer, Example


def vqa(request: Request) -> Made:
    """VQA v2: a file of questions and one of annotations, or JSON lines that hold both.

    `annotations` are the ten answers as they were given; answers are weighted min(1, n / 3). Without annotations the
    split is hidden.
    """
    if len(request.files) not in (1, 2):
        raise UsageError(f"vqa takes a file of questions and one of annotations, found {len(request.files)} files")
    questions, annotations = request.files[0], request.files[1:]
    known = {row.name("question_id"): row for path in annotations for row in rows_of(path, "annotations")}
    return {("vqa", one_split(request)): lambda: _vqa(request, questions, known if annotations else None)}


def _vqa(request: Request, path: Path, known: Mapping[str, Row] | None) -> Iterator[Placed]:
    for row in rows_of(path, "questions"):
        uid, more = row.name("question_id"), dict[str, Any]()
        about = row
        if known is not None:
            if uid not in known:
                raise row.wrong("question_id", f"{uid} has no annotation in {request.files[-1]}")
            about = known[uid]
        said = [_said(answer, about) for answer in about.get("answers", list) or []]
        if said:
            more["annotations"] = said
        for key in ("question_type", "answer_type"):
            if (word := about.get(key, str)) is not None:
                more[key] = word
        try:
            pictures = request.pictures.ids([row.name("image_id")], row.where)
        except Missing:
            continue
        yield row.where, Example(uid, "vqa", pictures, row.need("question", str), soft_answers(said), more)


def _said(value: Any, row: Row) -> str:
    text = value.get("answer") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise row.wrong("answers", f'{shown(value)}; expected a text, or {{"answer": a text}}')
    return text


def gqa(request: Request) -> Made:
    """GQA: files of questions by id, `semantic` becoming `program` and the local group `group`; hidden sets too."""
    return by_split(request, "gqa", _gqa)


def _gqa(request: Request) -> Iterator[Placed]:
    for path in request.files:
        whole = json_file(path)
        if not isinstance(whole, dict):
            raise DataError(f"{path}: {shown(whole)}; expected an object of questions by id")
        for uid, values in whole.items():
            if not isinstance(values, dict):
                raise DataError(f"{path}: {uid}: {shown(values)}; expected an object")
            row = Row(values, f"{path}: {uid}")
            more: dict[str, Any] = {}
            if (types := row.get("types", dict)) is not None:
                more["types"] = types
            group = (row.get("groups", dict) or {}).get("local")
            if isinstance(group, str) and group:
                more["group"] = group
            if (program := row.get("semantic", list)) is not None:
                more["program"] = program
            answer = row.get("answer", str)
            try:
                pictures = request.pictures.ids([row.name("imageId")], row.where)
            except Missing:
                continue
            said = () if answer is None else (Answer(answer),)
            yield row.where, Example(str(uid), "gqa", pictures, row.need("question", str), said, more)


def lxmert_vqa(request: Request) -> Made:
    """LXMERT's lists of VQA v2: `label` has answers and their scores."""
    return by_split(request, "vqa", lambda request: _lxmert(request, "vqa"))


def lxmert_gqa(request: Request) -> Made:
    """LXMERT's lists of GQA: `label` has the answer."""
    return by_split(request, "gqa", lambda request: _lxmert(request, "gqa"))


def _lxmert(request: Request, task: str) -> Iterator[Placed]:
    for path in request.files:
        for row in rows_of(path):
            label: dict[str, Any] = row.get("label", dict) or {}
            for text, weight in label.items():
                if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
                    raise row.wrong("label", f"{text} has {shown(weight)}; expected a score from 0 to 1")
            said = tuple(Answer(text, float(weight)) for text, weight in label.items())
            more = {key: word for key in ("question_type", "answer_type") if (word := row.get(key, str)) is not None}
            try:
                pictures = request.pictures.ids([row.name("img_id")], row.where)
            except Missing:
                continue
            yield row.where, Example(row.name("question_id"), task, pictures, row.need("sent", str), said, more)
