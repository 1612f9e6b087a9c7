"""Rules between settings: each has an example that fails; settings without effect are named; the rest passes."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from quincunx.config.check import check, check_sizes
from quincunx.config.document import ConfigError, Document
from quincunx.config.fields import settings_of
from quincunx.config.load import load
from quincunx.config.names import split
from quincunx.config.read import read_text
from quincunx.config.schema import Rule, Sizes, lookup
from quincunx.config.write import yaml_text
from quincunx.recipes.retrieval.config import SCHEMA
from quincunx.recipes.retrieval.rules import RULES, embedding_width, wrong_width


def document(settings: dict[str, Any]) -> Document:
    tree = Document({})
    for path, value in settings.items():
        tree.put(split(path), value)
    return read_text(yaml_text(tree.tree), "f.yaml", "yaml")


def problems(**settings: Any) -> list[str]:
    """Return severity and message of what is said of settings, `__` standing for a dot, over a folder of data."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    checked = check(document({"data.path": "somewhere", **given}), SCHEMA)
    return [f"{each.severity}: {each.message}" for each in checked.problems]


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_the_failing_example_fails_at_its_place_and_nothing_else_does(rule: Rule):
    found = document(dict(rule.failing))
    checked = check(found, SCHEMA)
    if rule.stage == "sized":
        assert checked.config is not None and rule.sizes is not None
        said = check_sizes(checked.config, SCHEMA, rule.sizes, found)
    else:
        said = [each for each in checked.problems if each.severity == rule.severity]
    pattern = re.sub(r"\\\{[\w.\\-]+\\\}", ".*", re.escape(rule.message))
    [problem] = [each for each in said if re.match(pattern, each.message)]
    assert len(said) == 1, [each.message for each in said]
    assert problem.mark is not None and problem.remedy
    assert problem.path in {split(path) for path in rule.paths if path in rule.failing}
    assert "{" not in problem.message + problem.remedy


def test_defaults_over_a_folder_are_sound():
    assert problems() == []
    assert problems(mode="poly-encoder") == problems(mode="cross-encoder") == []
    checked = check(document({"data.path": "d"}), SCHEMA)
    assert check_sizes(checked.config, SCHEMA, Sizes(train=1000), document({})) == []


def test_data_may_be_given_in_every_way():
    for given in (
        {"data.path": "d"},
        {"data.train.path": "d"},
        {"data.train.corpus": "c", "data.train.queries": "q", "data.train.qrels": "r"},
        {
            "data.train.path": "t.tsv",
            "data.train.format": "triplets",
            "data.train.corpus": "c",
            "data.train.queries": "q",
        },
    ):
        assert check(document(given), SCHEMA).problems == (), given
    assert len(check(document({}), SCHEMA).problems) == 1


METRIC = {"objective.loss": "metric_learning", "objective.metric_learning.loss": "NTXentLoss"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"mode": "cross-encoder", "encoder.pooling": "cls"}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "objective.temperature": 0.1}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "encoder.projection": 12}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "data.anchor": "document"}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "data.no_duplicates": True}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "data.tokenization": "lazy"}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "data.cache": "c"}, "data.tokenization is eager and mode is not cross-encoder"),
        ({"mode": "cross-encoder", "evaluate.depth": 50}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "chunking.graphs": "replay"}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "chunking.graph_memory": 9}, "mode is not cross-encoder"),
        ({"mode": "cross-encoder", "cross.margin": 0.5}, "cross.loss is pairwise"),
        ({"mode": "cross-encoder", "cross.positive_weight": 2.0}, "cross.loss is pointwise"),
        ({"mode": "cross-encoder", "cross.highest_grade": 3}, "cross.loss is pointwise"),
        ({"data.tokenization": "lazy", "data.cache": "c"}, "or evaluate.corpus_cache is disk"),
        ({"data.dev.path": "d", "data.seed": 4}, "data.dev is not given"),
        ({"data.skip_bad_rows": True, "data.bad_row_limit": 3}, "data.skip_bad_rows is false"),
        ({"data.train.path": "a", "data.dev.path": "b", "data.test.path": "c"}, "not all of data.train, data.dev and"),
        ({"encoder.pooling": "cls", "query.pooling": "last", "document.pooling": "last"},
         "query.pooling or document.pooling is unset"),
        ({"mode": "poly-encoder", "encoder.pooling": "cls", "document.pooling": "last"}, "document.pooling is unset"),
        ({"chunking.tokens": None, "chunking.graph_memory": 9}, "chunking.samples or chunking.tokens is set"),
        ({"run.dir": "here", "run.name": "n"}, "run.dir is unset"),
        ({"poly.codes": 3}, "mode is poly-encoder"),
        ({"poly.attention": "multihead"}, "mode is poly-encoder"),
        ({"cross.loss": "pairwise"}, "mode is cross-encoder"),
        ({"mode": "poly-encoder", "query.pooling": "cls"}, "mode is bi-encoder"),
        ({"mode": "poly-encoder", "poly.kind": "all", "poly.codes": 3}, "poly.kind is codes or first-m"),
        ({"mode": "poly-encoder", "poly.heads": 8}, "multihead"),
        ({**METRIC, "objective.temperature": 0.1}, "objective.loss is infonce or margin_mse or kl"),
        ({**METRIC, "objective.learn_temperature": True}, "objective.loss is infonce or margin_mse or kl"),
        ({"objective.loss": "kl", "objective.directions": ["document_to_query"]}, "infonce or metric_learning"),
        ({"objective.teacher_temperature": 2.0}, "objective.loss is kl"),
        ({"objective.positives": "together"}, "data.positives is not 1"),
        ({"objective.partition": "joint"}, "objective.directions has several"),
        ({"objective.metric_learning.loss": "NTXentLoss"}, "objective.loss is metric_learning"),
        ({"objective.temperature_range": [0.1, 1.0]}, "objective.learn_temperature is true"),
        ({"memory.size": 4096}, "memory.use is true"),
        ({"memory.use": True, "memory.drift_threshold": 0.5}, "memory.drift_every is set"),
        ({"evaluate.pool": 3}, "evaluate.mode is pooled"),
        ({"evaluate.mode": "pooled", "evaluate.depth": 300}, "evaluate.mode is full or validator"),
        ({"evaluate.post_processing": "normalize"}, "evaluate.mode is validator"),
        ({"evaluate.rerank": 3}, "mode is cross-encoder"),
        ({"encoder.head": "mlp"}, "encoder.projection is set"),
        ({"encoder.revision": "main"}, "encoder.path is set"),
        ({"encoder.path": "m", "encoder.build.width": 128}, "encoder.path is unset"),
        ({"encoder.path": "m", "encoder.tokenizer.vocabulary": 500}, "encoder.path and encoder.tokenizer.path are"),
        ({"encoder.tokenizer.path": "t", "encoder.tokenizer.kind": "bpe"}, "encoder.tokenizer.path are unset"),
        ({"data.dev.path": "d", "data.dev_share": 0.2}, "data.dev is not given"),
        ({"data.same_dataset": True}, "data.mix is given"),
        ({"objective.matryoshka.weights": [0.5]}, "objective.matryoshka.widths is given"),
        ({"log.wandb.project": "p"}, "log.wandb.use is true"),
        ({"encoder.path": "m", "peft.method": "lora", "encoder.freeze": "backbone"}, "peft.method is unset"),
        ({"peft.options": {"r": 3}}, "peft.method is set"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_said(settings: dict[str, Any], reason: str):
    said = problems(**{name.replace(".", "__"): value for name, value in settings.items()})
    assert len(said) == 1, said
    assert said[0].startswith("warning: ") and "has no effect" in said[0] and reason in said[0]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("q->d", "query_to_document"),
        ("D -> Q", "document_to_query"),
        ("query_to_doc", "query_to_document"),
        ("query-query", "query_to_query"),
        ("d2d", "document_to_document"),
        ("document_to_query", "document_to_query"),
    ],
)
def test_directions_have_short_forms(written: str, wanted: str):
    base = {"recipe": "retrieval", "data": {"path": "d"}, "objective": {"directions": [written]}}
    assert load(base, schemas=[SCHEMA]).config.objective.directions == [wanted]
    base["objective"] = {"directions": written}
    assert load(base, schemas=[SCHEMA]).config.objective.directions == [wanted]


def test_an_unknown_direction_and_an_unknown_measure_are_refused():
    [said] = problems(objective__directions=["q->x"])
    assert "q->x" in said and "query_to_document" in said
    with pytest.raises(ConfigError, match=r"unknown measure 'ndcg_cut10'|did you mean ndcg_cut_10"):
        load({"recipe": "retrieval", "data": {"path": "d"}, "evaluate": {"measures": ["ndcg_cut10"]}}, schemas=[SCHEMA])


def test_further_sets_are_checked_item_by_item():
    def given(mix: Any) -> Any:
        return load({"recipe": "retrieval", "data": {"path": "d", "mix": mix}}, schemas=[SCHEMA]).config.data

    data = given(["a", {"path": "b", "weight": 2, "format": "TRIPLETS"}, {"corpus": "c", "queries": "q", "qrels": "r"}])
    assert [(each.path, each.weight, each.format) for each in data.mixed] == [
        ("a", 1.0, "auto"),
        ("b", 2.0, "triplets"),
        (None, 1.0, "auto"),
    ]
    assert data.mix[1] == {"path": "b", "weight": 2, "format": "TRIPLETS"}, "plain, to be written back"
    with pytest.raises(ConfigError) as caught:
        given([{"path": "a", "wieght": 2}, {"weight": 1}, 3, {"path": "b", "weight": 0}])
    for said in ("item 1, wieght: unknown key", "item 2 says nowhere", "item 3 is no section", "item 4, weight"):
        assert said in str(caught.value)
    with pytest.raises(ConfigError, match="expected a list of sets"):
        given("a")


def test_the_declared_width_is_held_against_the_real_one():
    def config(**settings: Any) -> Any:
        given = {"data.path": "d", **{name.replace("__", "."): value for name, value in settings.items()}}
        return check(document(given), SCHEMA).config

    assert wrong_width(config(encoder__path="m"), 384) is None
    assert wrong_width(config(encoder__path="m", encoder__embedding_dim=384), 384) is None
    assert "width 384" in (wrong_width(config(encoder__path="m", encoder__embedding_dim=768), 384) or "")
    assert wrong_width(config(mode="cross-encoder"), 384) is None
    assert embedding_width(config(encoder__path="m")) is None
    assert embedding_width(config(encoder__path="m", encoder__projection=64)) == 64
    assert embedding_width(config(encoder__build__width=128)) == 128


@pytest.mark.parametrize("metric", ["dev/ndcg_cut_10", "dev/recip_rank", "dev/loss", "dev/first_rank", "dev/map_at_R",
                                    "dev/P_1", "dev/recip_rank_cut_10", "dev/Rprec", "dev/success_5"])  # fmt: skip
def test_metrics_of_rankings_need_no_goal(metric: str):
    assert problems(evaluate__metric=metric) == []


def test_the_starter_is_sound_and_says_what_differs():
    found = load_text(SCHEMA.starter)
    assert (found.mode, found.data.path) == ("bi-encoder", "stdlib-code-search")
    assert found.optimizer.learning_rate == 0.002
    assert all(len(line) <= 120 for line in SCHEMA.starter.splitlines())


def load_text(text: str) -> Any:
    tree = read_text(text, "starter.yaml", "yaml").tree
    return load(tree, schemas=[SCHEMA], strict=True).config


def test_examples_show_settings_that_there_are():
    settings = settings_of(SCHEMA.config)
    for rule in RULES:
        placeholders = re.findall(r"\{([\w.-]+)\}", rule.message + rule.remedy)
        for path in (*rule.paths, *rule.failing, *placeholders):
            assert split(path) in settings, path


def test_every_setting_is_documented_and_found_under_its_path():
    config = SCHEMA.config()
    for path, setting in settings_of(SCHEMA.config).items():
        assert setting.doc.endswith((".", ")", "`", "...")), path
        if not setting.sections and not str(path[-1]).startswith("_"):
            assert lookup(config, ".".join(map(str, path))) == setting.default, path


def test_nothing_here_imports_torch():
    code = "import sys\nfrom quincunx.recipes.retrieval import config, doctor\nassert 'torch' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], check=True)
