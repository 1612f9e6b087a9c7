"""How answers are shown, and the prompt, on a console that keeps what it is given."""

from __future__ import annotations

import io

from rich.console import Console

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.passages import best_passage
from quincunx.recipes.retrieval.search import Hit
from quincunx.verbs.asking import ask_on, harmless, show


def console(terminal: bool = False, width: int = 60) -> Console:
    colours = "standard" if terminal else None
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=colours, highlight=False)


def said(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def hit(rank: int, text: str | None, query: str = "", **places: tuple[int, float]) -> Hit:
    passage = None if text is None else best_passage(text, query, width=40)
    return Hit(rank, f"d{rank}", 0.5, places or {"dense": (rank, 0.5)}, text, passage)


def test_what_could_drive_a_terminal_is_replaced_in_place():
    assert harmless("a\x1b[2J\x07b\u202ec\x9b") == "a\ufffd[2J\ufffdb\ufffdc\ufffd"
    kept = "tab\tand\nline, é 東京 👩\u200d💻"
    assert harmless(kept) == kept


def test_heads_places_and_passages():
    on = console()
    show(on, [hit(1, "One. " * 20 + "The cat [bold]sat[/bold].", "cat", dense=(3, 0.1), bm25=(1, 7.0)), hit(2, None)])
    assert said(on) == " 1  d1  0.5  (dense 3, bm25 1)\n    … One. One. One. The cat [bold]sat[/bold].\n 2  d2  0.5\n"
    on = console()
    show(on, [])
    assert said(on) == "nothing found\n"


def test_marks_are_bold_where_they_stand_also_after_a_beginning_that_is_left_out():
    on = console(terminal=True)
    show(on, [hit(1, "One. " * 20 + "The cat sat.", "cat")])
    assert "The \x1b[1;33mcat\x1b[0m sat." in said(on)
    assert said(on).count("\x1b[1;33m") == 1


def test_one_bad_question_ends_nothing():
    on = console()
    lines = iter(["first", "bad", "", ":1", ":7", "second"])
    asked: list[str] = []

    def ask(query: str) -> list[Hit]:
        asked.append(query)
        if query == "bad":
            raise UsageError("that cannot be asked")
        return [hit(1, f"All of {query}. " + "It goes on. " * 9)]

    def line() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    assert ask_on(on, ask, line) == 3
    assert asked == ["first", "bad", "second"]
    text = said(on)
    assert "that cannot be asked" in text and text.count("It goes on.") >= 9
    assert "no document 7: there are 1 to 1" in text


def test_ctrl_c_and_an_empty_line_end_the_prompt_on_a_terminal():
    def interrupted() -> str:
        raise KeyboardInterrupt

    assert ask_on(console(terminal=True), lambda query: [], interrupted) == 0
    assert ask_on(console(terminal=True), lambda query: [], lambda: "") == 0
