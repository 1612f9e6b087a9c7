"""Answers on a terminal: what was found, with the words that were asked for in bold, and a prompt to go on asking."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from quincunx.errors import QuincunxError

if TYPE_CHECKING:
    from quincunx.recipes.retrieval.search import Hit

HELP = "a question, and Enter; :3 shows the third document whole; an empty line or Ctrl-D ends"
PROMPT = "search> "
MARK = "bold yellow"

_WHOLE = re.compile(r":\s*(\d+)")
_HIDING = {"Cc", "Cf", "Cs", "Co", "Cn"}
"""Categories of characters that move the cursor, turn the direction of writing, or cannot be shown."""


def harmless(text: str) -> str:
    """Return a text in which no character does anything to a terminal; every one stays at its place."""
    if text.isascii() and text.isprintable():
        return text
    keep = "\n\t\u200d"  # and what joins the parts of a letter or sign
    return "".join(
        letter if letter in keep or unicodedata.category(letter) not in _HIDING else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def show(console: Console, hits: Sequence[Hit]) -> None:
    """Print what was found, a head line and a passage each."""
    if not hits:
        console.print("nothing found", markup=False, highlight=False)
    for hit in hits:
        head = Text(f"{hit.rank:>2}  ")
        head.append(harmless(hit.id), style="bold cyan")
        head.append(f"  {hit.score:.4g}")
        if len(hit.places) > 1:
            places = ", ".join(f"{name} {rank}" for name, (rank, _) in hit.places.items())
            head.append(f"  ({places})", style="dim")
        console.print(head, soft_wrap=True)
        if hit.passage is not None and hit.passage.text:
            console.print(Padding(_passage(hit), (0, 0, 0, 4), expand=False))


def _passage(hit: Hit) -> Text:
    passage = hit.passage
    assert passage is not None
    text = Text(harmless(passage.text), overflow="fold")
    for start, stop in passage.marks:
        text.stylize(MARK, start, stop)
    before, after = Text("… " if passage.before else ""), Text(" …" if passage.after else "")
    return before + text + after


def ask_on(console: Console, ask: Callable[[str], Sequence[Hit]], line: Callable[[], str] | None = None) -> int:
    """Ask for questions until there are no more, and show what is found for each; return how many were asked.

    What is wrong with one question ends nothing: it is said, and the next may come.

    Args:
        console: Where to show.
        ask: Finds what answers a question.
        line: Returns what was typed, or raises EOFError; None: typed on the console, if it is one, after a prompt.
    """
    terminal = console.is_terminal
    if terminal:
        console.print(HELP, style="dim", markup=False, highlight=False)
    shown: Sequence[Hit] = ()
    asked = 0
    while True:
        try:
            text = (line or (lambda: console.input(PROMPT if terminal else "", markup=False)))().strip()
        except (EOFError, KeyboardInterrupt):
            if terminal:
                console.print()
            return asked
        if not text:
            if terminal:
                return asked
            continue
        if whole := _WHOLE.fullmatch(text):
            _show_whole(console, shown, int(whole.group(1)))
            continue
        asked += 1
        if not terminal:
            console.print(harmless(text), markup=False, highlight=False, soft_wrap=True)
        try:
            shown = ask(text)
        except QuincunxError as error:
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            continue
        show(console, shown)


def _show_whole(console: Console, hits: Sequence[Hit], rank: int) -> None:
    if not 1 <= rank <= len(hits):
        there = f"there are 1 to {len(hits)}" if hits else "nothing was found yet"
        console.print(f"no document {rank}: {there}", markup=False, highlight=False)
        return
    text = hits[rank - 1].text
    console.print(
        "its text was not kept" if text is None else harmless(text), markup=False, highlight=False, soft_wrap=True
    )
