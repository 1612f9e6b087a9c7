"""Rows to answers: what follows a context or a prompt, the solution of a problem, the answer of a task.

| run | row | answer |
|---|---|---|
| of texts | `{"context": text}`, `{"prompt": text}` or both, and `"most": tokens` | `{"text": ...}` |
| of arithmetic | `{"problem": "12+7"}` | `{"solution": "7+12=...=19", "answer": 19}` |
| of a task | `{"input": "0110"}` | `{"output": ...}`, in the form of the task's own files |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from quincunx.engine.runtime import Runtime
from quincunx.errors import DataError
from quincunx.recipes.compression.answers.compress import Compressor
from quincunx.recipes.compression.answers.contexts import SEED
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.data.arithmetic import judge, solve
from quincunx.recipes.compression.data.arithmetic.judge import value_of
from quincunx.recipes.compression.data.arithmetic.language import SEPARATOR
from quincunx.recipes.compression.data.tasks import ANSWER, END, task_named
from quincunx.recipes.compression.kinds import compresses, generated, lengths
from quincunx.recipes.compression.model import compressor
from quincunx.recipes.compression.shapes import evaluation_shaping
from quincunx.recipes.compression.shaping import Item
from quincunx.seeds import address

ROUND = 32
"""Solutions may be longer than the usual ones, by up to so many tokens."""
INPUTS = 64
"""Inputs of a task that are answered at once."""
TEXTS = 'expected {"context": "..."} or {"prompt": "..."}, or both, and "most": a number of tokens where it matters'


def predict(
    config: CompressionConfig, model: nn.Module, tokenizer: Any, runtime: Runtime, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return one answer for each row, in their order; each token is the likeliest one.

    Args:
        config: The run's.
        model: A `quincunx.recipes.compression.model.compressor.Compressor`, on the runtime's device.
        tokenizer: The run's.
        runtime: Where it is computed.
        rows: As above.

    Raises:
        DataError: A row of another form; the text names it.
        UsageError: More tokens are asked for than positions reach to.
    """
    facade = Compressor(config, cast("compressor.Compressor", model), tokenizer, runtime)
    kind = generated(config)
    if kind == "arithmetic":
        return _solutions(facade, rows)
    return _answers(facade, rows) if kind == "tasks" else _texts(facade, rows)


def _texts(facade: Compressor, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    forward, context = lengths(facade.config)[1], lengths(facade.config)[0]
    groups: dict[tuple[bool, bool, int], list[int]] = {}
    for number, row in enumerate(rows, 1):
        _check_text(row, number, facade.config)
        most = row.get("most", forward or context)
        groups.setdefault(("context" in row, "prompt" in row, most), []).append(number - 1)
    answers: list[dict[str, Any]] = [{} for _ in rows]
    for (has_context, has_prompt, most), members in groups.items():
        compressed = None
        if has_context:
            texts = [rows[number]["context"] for number in members]
            compressed = facade.compress(texts)
        prompts = [rows[number]["prompt"] for number in members] if has_prompt else None
        written = facade.generate(compressed, prompt=prompts, most=most)
        for number, text in zip(members, written, strict=True):
            answers[number] = {"text": text}
    return answers


def _check_text(row: Mapping[str, Any], number: int, config: CompressionConfig) -> None:
    most = row.get("most", 1)
    good = set(row) <= {"context", "prompt", "most"} and ("context" in row or "prompt" in row)
    good = good and all(isinstance(row[name], str) and row[name] for name in ("context", "prompt") if name in row)
    if not good or not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise DataError(f"row {number} is {dict(row)!r}: {TEXTS}")
    if "context" in row and not compresses(config):
        raise DataError(
            f"row {number} has a context, and the run compresses none (data.context_length is unset): give all as "
            '"prompt"'
        )


def _solutions(facade: Compressor, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    problems = [_only(row, "problem", number, "12+7") for number, row in enumerate(rows, 1)]
    for number, problem in enumerate(problems, 1):
        try:
            value_of(problem)
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
    groups: dict[int, list[int]] = {}
    for number, problem in enumerate(problems):
        groups.setdefault(_most(facade, problem, number + 1), []).append(number)
    answers: list[dict[str, Any]] = [{} for _ in rows]
    for most, members in groups.items():
        some = [problems[number] for number in members]
        if compresses(facade.config):
            contexts = facade.compress(some, ahead=most + len(SEPARATOR) if facade.draws else None)
            found = facade.generate(contexts, prompt=SEPARATOR, most=most)
        else:
            found = facade.generate(prompt=[problem + SEPARATOR for problem in some], most=most)
        for number, problem, text in zip(members, some, found, strict=True):
            answers[number] = {"solution": text, "answer": judge(f"{problem}{SEPARATOR}{text}").answer}
    return answers


def _most(facade: Compressor, problem: str, number: int) -> int:
    """Return how many tokens a solution may have: those of the usual one and some more, as far as positions reach.

    It follows from the problem alone, and so do positions that are drawn for as many.
    """
    usual = sum(len(step.statement) + 1 for step in solve(problem))
    most = ROUND * (1 + usual // ROUND)
    context = problem if compresses(facade.config) else None
    left = facade.left(context, SEPARATOR if context else problem + SEPARATOR)
    if left is not None and left < 1:
        raise DataError(f"row {number}: the problem {problem[:60]!r} leaves no positions for a solution")
    return most if left is None else min(most, left)


def _answers(facade: Compressor, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    task = task_named(facade.config.tasks.name)
    inputs = [
        _only(row, "input", number, task.sample(0, max(4, task.shortest)).input) for number, row in enumerate(rows, 1)
    ]
    for number, text in enumerate(inputs, 1):
        if not text or not set(text) <= set(task.input_symbols):
            raise DataError(
                f"row {number}: inputs of {task.name} are made of {task.input_symbols}, found {text[:60]!r}"
            )
        if len(text) < task.shortest:
            raise DataError(
                f"row {number}: inputs of {task.name} have {task.shortest} symbols at least, found {text!r}"
            )
    places = [task.slots(len(text)) for text in inputs]
    order = sorted(range(len(inputs)), key=lambda number: len(inputs[number]))
    answers: list[dict[str, Any]] = [{} for _ in inputs]
    for start in range(0, len(order), INPUTS):
        some = order[start : start + INPUTS]
        texts = [facade.vocabulary.tokens(inputs[n] + ANSWER * places[n], f"row {n + 1}") for n in some]
        for number, tokens in zip(some, _filled(facade, texts), strict=True):
            answer = facade.vocabulary.text(tokens[len(inputs[number]) :].tolist())
            answers[number] = {"output": answer[: answer.find(END) + 1] if END in answer else answer}
    return answers


def _filled(facade: Compressor, texts: Sequence[Tensor]) -> list[Tensor]:
    """Return the likeliest token at each place of texts."""
    shaping = evaluation_shaping(facade.config, 0, ("plain",))
    # numbers are drawn for the words alone, whatever stands beside them
    rows = [address(SEED, "input", text.numpy().tobytes().hex()) for text in texts]
    batch = shaping([Item(text[:0], text) for text in texts], rows, rows, SEED).to(facade.runtime.device)
    with torch.no_grad(), facade.runtime.autocast():
        found = facade.model.logits(facade.model.states(batch, ("plain",))["plain"]).argmax(-1).cpu()
    return [row[: len(text)] for row, text in zip(found, texts, strict=True)]


def _only(row: Mapping[str, Any], name: str, number: int, example: str) -> str:
    """Return the text that is all of a row."""
    if set(row) != {name} or not isinstance(row[name], str):
        raise DataError(f'row {number} is {dict(row)!r}: expected {{"{name}": "{example}"}}')
    return row[name]
