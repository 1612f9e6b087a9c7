import doctest
import hashlib
from collections import Counter
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.recipes.compression.config_generated import Tasks
from quincunx.recipes.compression.data.tasks import ANSWER, END, PAD, TASKS, task_named
from reference.formal_tasks import ANSWERS

NAMES = list(TASKS)


def test_there_are_the_fifteen_by_level_and_the_config_knows_them():
    levels = Counter(task.level for task in TASKS.values())
    assert levels == {"regular": 4, "context-free": 4, "context-sensitive": 7}
    assert list(Tasks.model_fields["name"].annotation.__args__) == NAMES
    assert all(name == task.name for name, task in TASKS.items())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(key=st.integers(0, 2**63 - 1), length=st.integers(1, 70))
def test_answers_are_those_of_the_reference(name: str, key: int, length: int):
    task = TASKS[name]
    length = max(length, task.shortest)
    sample = task.sample(key, length)
    assert len(sample.input) == task.input_length(length)
    assert length - len(sample.input) in ((0, 1) if task.odd else (0,))
    assert set(sample.input) <= set(task.input_symbols)
    assert sample.output == ANSWERS[name](sample.input)
    assert set(sample.output) <= set(task.output_symbols)
    if task.ends:
        assert sample.output.index(END) == len(sample.output) - 1 < task.slots(len(sample.input))
    else:
        assert len(sample.output) == task.slots(len(sample.input))
    assert task.sample(key, length) == sample


@pytest.mark.parametrize("name", NAMES)
def test_inputs_use_every_symbol_and_answers_are_spread_as_chance_says(name: str):
    task = TASKS[name]
    samples = [task.sample(key, 15) for key in range(600)]
    used = set("".join(sample.input for sample in samples)) | set(task.sample(0, task.shortest).input)
    used |= set("".join(task.sample(key, 16).input for key in range(40)))
    assert used == set(task.input_symbols)
    symbols = "".join(sample.output for sample in samples).replace(END, "")
    shares = {symbol: symbols.count(symbol) / len(symbols) for symbol in task.output_symbols.replace(END, "")}
    assert 1 / len(shares) == pytest.approx(task.chance)
    # digits of results lean towards some symbols, most of all the 0s that products and brackets make
    assert max(shares.values()) < task.chance * 1.75
    assert len({sample.input for sample in samples}) > 400


def test_samples_never_drift():
    digest = hashlib.sha256()
    for name, task in TASKS.items():
        for key in range(20):
            digest.update(f"{name} {task.sample(key, 12)}\n".encode())
    assert digest.hexdigest() == "390d891485b8a959b4ba9840e5eb2e269822f17a2849222a5db1ce3c59f35e68"


@pytest.mark.parametrize("name", ["missing_duplicate_string", "solve_equation", "binary_addition"])
def test_inputs_that_are_too_short_are_refused(name: str):
    task = TASKS[name]
    with pytest.raises(UsageError, match=f"{name} has inputs of {task.shortest} symbols at least"):
        task.sample(1, task.shortest - 1)


def test_the_places_where_expressions_are_cut_are_drawn_alike():
    # of the 10 symbols inside `(L+R)`, L and R share 7 beside sign and brackets: L has 1 to 6, each as often
    task = TASKS["modular_arithmetic_brackets"]
    sizes: Counter[int] = Counter()
    for key in range(3_000):
        text, depth = task.sample(key, 10).input[1:-1], 0
        for place, symbol in enumerate(text):
            depth += {"(": 1, ")": -1}.get(symbol, 0)
            if depth == 0 and place and symbol in "+-*" and text[place - 1] not in "(+-*":
                sizes[place] += 1
                break
    assert sizes.keys() == set(range(1, 7))
    assert all(abs(count / 3_000 - 1 / 6) < 0.03 for count in sizes.values())


def test_stacks_and_numbers_of_all_sizes_occur():
    heights = {len(TASKS["stack_manipulation"].sample(key, 8).input.rstrip("-ab")) for key in range(300)}
    assert heights == set(range(1, 8))
    first = {len(TASKS["binary_addition"].sample(key, 8).input.split("+")[0]) for key in range(300)}
    assert first == set(range(1, 7))
    assert {TASKS["binary_addition"].sample(key, 3).input for key in range(5)} == {"1+1"}


@pytest.mark.parametrize("name", NAMES)
def test_alphabets_name_padding_end_and_places_first(name: str):
    alphabet = TASKS[name].alphabet
    assert [alphabet.id(symbol) for symbol in (PAD, END, ANSWER)] == [0, 1, 2]
    assert set(alphabet.symbols[3:]) == set(TASKS[name].input_symbols + TASKS[name].output_symbols) - {END}
    assert (alphabet.pad, alphabet.eos) == (PAD, END)


def test_unknown_tasks_get_a_hint():
    with pytest.raises(UsageError, match=r"no task 'bucketsort'; did you mean bucket_sort\? There are: even_pairs"):
        task_named("bucketsort")


def test_examples_in_docstrings_hold():
    for name in ("", ".regular", ".context_free", ".context_sensitive"):
        outcome = doctest.testmod(import_module("quincunx.recipes.compression.data.tasks" + name))
        assert outcome.failed == 0
        assert outcome.attempted > 0
