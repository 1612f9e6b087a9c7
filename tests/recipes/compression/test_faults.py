"""Faults of the code that guide 003 comes from, none of which is to come back: each test is named after its fault.

Those that other tests cover already:

    fault                                                       covered by
    a documented key is not the one that is read                test_guide_keys, test_every_setting
    only telling again used the wrong length, then raised       test_guide_keys: test_only_telling_again_ignores_...
    torch_dtype never reached the model                         test_guide_keys: test_torch_dtype_is_that_of_the_weights
    glue calls a function that does not exist                   data/test_glue, evaluate/test_labelled
    validation stops by the last value that was printed         test_guide_keys: test_a_limit_of_validation_is_...
    each epoch begins with the same data                        test_guide_keys: test_the_loader_goes_on_where_...
    saving counts what is not an update                         test_guide_keys: test_saving_counts_iterations
    the first step uses one micro-batch, the last are dropped   test_guide_keys: test_an_iteration_is_a_micro_batch_...
    means of means; logged losses are scaled                    test_objective: test_accumulated_batches_are_one_...
    logits and labels are flattened out of step                 test_objective: test_every_term_is_the_sum_over_its_...
    coupled weight decay, of norms and biases too               engine/test_optim
    a share of 0 still leaves something out                     blotch/test_choose: test_p_0_leaves_out_nothing_and_...
    a misspelt kind of positions is a KeyError                  test_config_positions: test_a_name_that_nobody_knows_...
    the table of positions is too short, found out late         test_guide_keys: test_the_size_of_a_random_table_...
    unknown keys are swallowed                                  test_guide_keys: test_another_unknown_key_is_refused
    processes see the same data and drift apart                 properties/test_compression
    contiguity of blotches never reaches the mask               blotch/test_choose, test_every_setting
    data are cached under a key without all that made them      data/test_load: test_each_input_changes_the_...
    a drawn seed is lost; resuming adds the time of day         test_api: test_a_seed_that_is_not_given_is_...
    the latest checkpoint is chosen by its name                 engine/test_checkpoint
    results of several runs are never put together              config/test_compare, runs/test_run_listing
    what is shown as generated is teacher forced                evaluate/test_arithmetic: test_what_is_written_is_...
    one example at a time                                       model/test_generate, model/test_compressor
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import quincunx.recipes.compression as package
from quincunx.config.check import check
from quincunx.config.document import ConfigError, Document
from quincunx.config.load import load
from quincunx.config.names import split
from quincunx.config.plan import make_plan
from quincunx.errors import UsageError
from quincunx.recipes.compression import blotch
from quincunx.recipes.compression.config import SCHEMA
from quincunx.recipes.compression.names import SISTERS
from quincunx.recipes.compression.shaping import Item, Shaping
from quincunx.runs.folder import claim
from recipes.compression.settings_seen import ARITHMETIC, COMPRESSED, SMALL, TEXTS, Seen, write_sets
from toys import cpu

UNTRAINED = blotch.UNTRAINED
Look = Callable[[Mapping[str, Any]], Seen]
SOURCES = {path: ast.parse(path.read_text()) for path in sorted(Path(str(package.__file__)).parent.rglob("*.py"))}


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """Return a function that makes what is seen of settings, those of the small config before them."""
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("faults")
    sets = write_sets(home)
    made: list[Seen] = []

    def looked(settings: Mapping[str, Any]) -> Seen:
        whole = {**SMALL, **settings}
        whole = {path: sets.get(str(value)[1:], value) for path, value in whole.items()}
        made.append(Seen(whole, home / f"seen-{len(made)}"))
        return made[-1]

    return looked


def problems(settings: Mapping[str, Any]) -> list[Any]:
    document = Document({"recipe": "compression"})
    for path, value in settings.items():
        document.put(split(path), value)
    return list(check(document, SCHEMA).problems)


# what a file of the guide means


@pytest.mark.parametrize("name", ["test", "a_b_1", "smoke"])
def test_a_name_that_silently_shortens_the_run(name: str, look: Look) -> None:
    plain, named = look(TEXTS), look({**TEXTS, "run.name": name})
    assert named.experiment.sizes == plain.experiment.sizes
    assert make_plan(named.config, named.experiment.sizes).total_updates == plain.plan.total_updates == 2


def test_names_with_underscores_break_the_numbering_and_folders_are_one_level_deep(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there" / "yet"
    assert [claim(None, "a_b_7", root).path.name for _ in range(2)] == ["a_b_7-1", "a_b_7-2"]


def test_a_model_over_all_devices_and_a_copy_on_each_at_once() -> None:
    spread = {"model.path": "gpt2", "model.device_map": True, "data.context_length": 8}
    refused = [each for each in problems({**spread, "compute.processes": "auto"}) if each.severity == "error"]
    assert [each.path for each in refused] == [("model", "device_map")]
    assert "compute.processes" in refused[0].message
    assert problems(spread) == []


@pytest.mark.parametrize(("old", "new", "transform"), SISTERS, ids=[old for old, _, _ in SISTERS])
def test_a_key_of_a_sister_repository_that_nobody_reads(old: str, new: str, transform: Any) -> None:
    values = {"cmp_layer": None, "proj_cmpr": True, "sep_cmpr": True, "contig_blotches": False, "learn_posencs": True,
              "blotch_spacing": "equal", "model_string": "gpt2"}  # fmt: skip
    rates = ("drop_p", "label_smoothing", "tok_drop_p", "blotch_p_min", "blotch_p_max")
    value = values.get(old, 0.5 if old in rates else 3)
    found = load({"recipe": "compression", "data": {"context_length": 30}, old: value}, schemas=[SCHEMA]).config
    for part in new.split("."):
        found = getattr(found, part)
    assert found == (transform(value) if transform else value)


def test_the_documented_name_of_learnable_positions_is_not_the_one_that_is_read() -> None:
    for key in ("learnable_posencs", "learn_posencs"):
        tree = {"recipe": "compression", "posenc_type": "RandPositionalEncoding", key: True}
        assert load(tree, schemas=[SCHEMA]).config.positions.learnable


@pytest.mark.parametrize(("given", "found"), [(None, 0.3), (0.0, 0.0), (0.2, 0.2)])
def test_dropout_of_positions_does_not_fall_back_on_that_of_the_model(given: Any, found: float, look: Look) -> None:
    settings = {"model.build.architecture": "gpt2", "model.dropout": 0.3, "positions.kind": "random"}
    seen = look({**COMPRESSED, **settings, "positions.dropout": given})
    assert seen.model.position_table.dropout.p == pytest.approx(found)


# positions and sizes


@pytest.mark.parametrize("settings", [COMPRESSED, TEXTS], ids=["compressed", "plain"])
def test_too_few_positions_are_an_index_error_late(settings: Mapping[str, Any], look: Look) -> None:
    few = {"model.build.architecture": "gpt2", "model.build.positions": 5}
    with pytest.raises(
        UsageError, match=r"gpt2 has 5 positions, and up to \d+ are needed: raise model.build.positions"
    ):
        look({**settings, **few}).experiment
    assert look({**settings, **few, "positions.kind": "none"}).error is None, "none of them is used then"


def test_a_kind_of_positions_that_the_model_does_not_have(look: Look) -> None:
    with pytest.raises(UsageError, match="gpt2 has no rotary positions"):
        look({**COMPRESSED, "model.build.architecture": "gpt2", "positions.kind": "rope"}).experiment


def test_what_cannot_be_built_is_quietly_replaced_by_another_model(look: Look) -> None:
    with pytest.raises((UsageError, ConfigError), match="sizes of the llama model do not fit"):
        look({**COMPRESSED, "model.build.num_heads": 3}).experiment
    with pytest.raises((UsageError, ConfigError), match="lama"):
        look({**COMPRESSED, "model.build.architecture": "lama"}).experiment


# what is read


def test_the_end_of_a_text_is_taken_for_padding(look: Look) -> None:
    seen = look({**TEXTS, "data.packing": "stream"})
    end = seen.found.tokenizer.eos_token_id
    batches = [seen.at(update) for update in range(3)]
    ends = [batch["plain_tokens"] == end for batch in batches]
    assert sum(int(each.sum()) for each in ends) > 0
    assert all(bool(batch["plain_seen"][each].all()) for batch, each in zip(batches, ends, strict=True))
    wanted = [(batch["plain_targets"] == end).sum() for batch in batches]
    assert sum(map(int, wanted)) > 0, "and it is predicted"


def test_padding_is_told_by_the_number_of_a_token() -> None:
    item = Item(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 5, 0]))
    longer = Item(torch.ones(5, dtype=torch.int64), torch.tensor([1, 2, 3, 4]))
    batch = Shaping(("forward",), slots=(1,))([item, longer], [0, 1], [0, 1], 0)
    assert batch["context_seen"].sum(1).tolist() == [3, 5]
    assert batch["forward_seen"].tolist() == [[True, True, True, False], [True] * 4]
    assert batch["forward_targets"][0].tolist() == [0, 5, 0, UNTRAINED, UNTRAINED]


def test_whose_texts_come_next_hangs_on_generators_that_nobody_seeded(look: Look) -> None:
    settings = {**COMPRESSED, "blotch.p": 0.5, "blotch.separator": " ", "positions.sample": "integer"}
    seen: list[dict[str, torch.Tensor]] = []
    for number in range(2):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        seen.append(dict(look(settings).at(1).tensors))
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


# blotching


class Counted(TorchDispatchMode):
    """Counts operations on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def test_steps_are_found_by_loops_over_their_separators() -> None:
    found: list[int] = []
    for steps, rows in ((2, 2), (40, 2), (40, 64)):
        tokens = torch.tensor([[7, 8, 9] * steps] * rows)
        lengths, keys = torch.full((rows,), tokens.shape[1]), torch.arange(rows)
        with Counted() as operations:
            units = blotch.units(tokens, lengths, [9])
            keep = blotch.choose(units, torch.full((rows,), 0.5, dtype=torch.float64), keys=keys)
            blotch.targets(tokens, keep, lengths, start=False)
        found.append(operations.number)
    assert found[0] == found[1] == found[2]


def test_texts_are_blotched_at_evaluation(look: Look) -> None:
    settings = {**TEXTS, "data.forward_length": 16, "blotch.separator": " "}
    whole, blotched = look(settings), look({**settings, "blotch.p": 1.0, "blotch.token_p": 0.5})
    assert whole.texts != blotched.texts
    assert whole.dev.scalars == blotched.dev.scalars


@pytest.mark.parametrize(("asked", "level"), [(None, 0), (0.0, 0), (0.5, 1), (1.0, 2)])
def test_evaluation_draws_an_intensity_when_none_is_given(asked: float | None, level: int, look: Look) -> None:
    told = {"blotch.p_max": 1.0, "blotch.levels": 3, "blotch.intensity_tokens": True, "evaluate.generate": 0}
    seen = look({**TEXTS, "data.forward_length": 24, "blotch.separator": " ", **told,
                 **({} if asked is None else {"evaluate.blotch_p": asked})})  # fmt: skip
    evaluator: Any = seen.experiment.evaluators["dev"]
    rows = range(8)
    batch = evaluator.shaping([evaluator.source[row] for row in rows], rows, rows, 0)
    first = batch["plain_tokens"][:, 0]
    assert first.tolist() == [seen.found.level_tokens[level]] * len(first)
    lengths = [len(evaluator.source[row].text) + 1 for row in rows]
    assert batch["plain_seen"].sum(1).tolist() == lengths, "nothing is left out"
    drawn = {int(row[0]) for update in range(4) for row in seen.at(update)["plain_tokens"]}
    assert drawn == set(seen.found.level_tokens), "in training they are drawn"


def test_a_separator_that_is_nowhere_leaves_nothing_out_and_nobody_knows(look: Look) -> None:
    with pytest.raises(UsageError, match=r"no token holds blotch.separator 'no such'"):
        look({**TEXTS, "blotch.p": 0.5, "blotch.separator": "no such"}).experiment


@pytest.mark.parametrize("settings", [{"blotch.p": 0.5}, {"data.context_length": 4, "compress.slots": 1},
                                      {"objective.reconstruct_only": True, "compress.slots": 1}], ids=str)  # fmt: skip
def test_answers_fall_out_of_step_with_what_they_answer(settings: Mapping[str, Any]) -> None:
    found = problems({"data.source": "tasks", **settings})
    assert any(each.severity == "error" and "place by place" in each.message for each in found)


# losses


def test_validation_is_conditioned_on_what_the_model_said_itself(look: Look) -> None:
    """The loss by which rates and models are chosen follows the right tokens."""
    seen = look(TEXTS)
    evaluator: Any = seen.experiment.evaluators["dev"]
    losses: list[torch.Tensor] = []
    for number in range(len(evaluator.source)):
        tokens = evaluator.source[number].text[None]
        with torch.no_grad():
            logits = seen.backbone.eval()(input_ids=tokens).logits
        losses.append(functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none"))
    expected = float(torch.cat(losses).mean())
    assert evaluator(seen.model.eval(), cpu(), seen.plan).scalars["loss"] == pytest.approx(expected, rel=1e-5)


def test_gradients_are_made_inside_the_forward_pass(look: Look) -> None:
    seen = look(COMPRESSED)
    losses = seen.objective.loss(seen.model.train(), seen.batch)
    assert all(loss.requires_grad for loss in losses.values())
    assert all(parameter.grad is None for parameter in seen.model.parameters())


def test_the_problem_that_nobody_can_know_is_predicted(look: Look) -> None:
    seen = look(ARITHMETIC)
    targets, tokens = seen.batch["plain_targets"], seen.batch["plain_tokens"]
    equals = seen.found.tokenizer.convert_tokens_to_ids("=")
    for row, target in zip(tokens, targets, strict=True):
        first = int((row == equals).nonzero()[0])
        assert target[:first].tolist() == [UNTRAINED] * first
        assert target[first] == row[first + 1], "the first token after the problem is"


# the code itself


def nodes(kind: type[ast.AST]) -> Iterator[tuple[Path, Any]]:
    for path, tree in SOURCES.items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kind))


def test_bare_excepts_hide_what_went_wrong() -> None:
    assert [str(path) for path, node in nodes(ast.ExceptHandler) if node.type is None] == []


CALLED = {
    "globals": "names of classes looked up among everything",
    "eval": "the same",
    "input": "questions in the middle of a run",
    "rmtree": "deletes",
    "shutil.rmtree": "deletes",
    "torch.load": "code out of files",
    "torch.save": "files that hold code",
}


@pytest.mark.parametrize("name", CALLED)
def test_calls_that_stood_for_faults(name: str) -> None:
    assert [str(path) for path, node in nodes(ast.Call) if ast.unparse(node.func) == name] == [], CALLED[name]


def test_devices_are_asked_for_by_numbers_that_only_some_have() -> None:
    assert [str(path) for path, node in nodes(ast.Attribute) if node.attr == "get_device"] == []


def test_what_is_not_there_is_raised_as_not_implemented() -> None:
    assert [str(path) for path, node in nodes(ast.Raise) if "NotImplemented" in ast.unparse(node)] == []


def test_files_are_pickles() -> None:
    assert [str(path) for path, node in nodes(ast.Import) if any(each.name == "pickle" for each in node.names)] == []
