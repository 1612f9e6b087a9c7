"""The tables of every recipe hold together: names lead to settings, rules fire on their examples, all is documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from quincunx.config.check import check, check_sizes
from quincunx.config.document import Document, Problem
from quincunx.config.fields import levels_of, settings_of
from quincunx.config.names import expand, split
from quincunx.config.read import read_text
from quincunx.config.schema import RecipeSchema, Rule, Sizes, lookup
from quincunx.config.write import yaml_text
from quincunx.recipes import schemas

SCHEMAS = schemas()
BASIS: dict[str, dict[str, Any]] = {"vision_language": {"data.path": "somewhere"}}
"""Settings without which no config of a recipe is right, where its rules' examples leave them out."""
ids = [schema.name for schema in SCHEMAS]
each_schema = pytest.mark.parametrize("schema", SCHEMAS, ids=ids)
each_rule = pytest.mark.parametrize(
    ("schema", "rule"),
    [(schema, rule) for schema in SCHEMAS for rule in schema.rules],
    ids=[f"{schema.name}-{rule.name}" for schema in SCHEMAS for rule in schema.rules],
)


def document(settings: dict[str, Any]) -> Document:
    tree = Document({})
    for path, value in settings.items():
        tree.put(split(path), value)
    return read_text(yaml_text(tree.tree), "f.yaml", "yaml")


def is_of(problem: Problem, rule: Rule) -> bool:
    pattern = "".join(
        ".*" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[\w.-]+\})", rule.message)
    )
    return re.match(pattern, problem.message) is not None


@each_rule
def test_the_failing_example_of_every_rule_fails_at_its_place(schema: RecipeSchema, rule: Rule) -> None:
    found = document({**BASIS.get(schema.name, {}), **rule.failing})
    checked = check(found, schema)
    if rule.stage == "sized":
        assert checked.config is not None, [each.message for each in checked.problems]
        assert rule.sizes is not None, "a sized rule shows the sizes under which it fails"
        problems = check_sizes(checked.config, schema, rule.sizes, found)
    else:
        problems = list(checked.problems)
    [problem] = [each for each in problems if is_of(each, rule)]
    assert problem.severity == rule.severity
    assert problem.remedy
    assert problem.mark is not None
    assert problem.path in {split(path) for path in rule.paths if path in rule.failing}
    assert "{" not in problem.message + problem.remedy


@each_schema
def test_no_rule_fires_on_the_defaults(schema: RecipeSchema) -> None:
    # what no default can know: where the data is
    needed = {name: {"data": {"path": "somewhere"}} for name in ("retrieval", "vision_language")}
    checked = check(Document(needed.get(schema.name, {})), schema)
    assert checked.problems == ()
    assert (
        check_sizes(
            checked.config, schema, schema.sizes(checked.config) if schema.sizes else Sizes(train=1000), (Document({}))
        )
        == []
    )


@each_rule
def test_the_paths_and_placeholders_of_every_rule_exist(schema: RecipeSchema, rule: Rule) -> None:
    settings = settings_of(schema.config)
    placeholders = re.findall(r"\{([\w.-]+)\}", rule.message + rule.remedy)
    for path in (*rule.paths, *rule.failing, *placeholders):
        assert split(path) in settings, path


@each_schema
def test_every_older_name_leads_to_a_setting(schema: RecipeSchema) -> None:
    settings = settings_of(schema.config)
    for name in schema.names:
        reached = [path for _, path, _ in expand([name], settings)]
        assert reached, name.old
        assert all(path in settings for path in reached), name.old


@each_schema
def test_no_older_name_hides_a_present_one(schema: RecipeSchema) -> None:
    settings = settings_of(schema.config)
    assert not {old for old, _, _ in expand(schema.names, settings)} & settings.keys()
    assert len({name.old for name in schema.names}) == len(schema.names)


@each_schema
def test_no_section_bears_the_name_of_a_root_of_its_guides(schema: RecipeSchema) -> None:
    assert not schema.guide_roots & set(levels_of(schema.config)[()])
    assert all(root in {split(name.old)[0] for name in schema.names} for root in schema.guide_roots)


@each_schema
def test_every_setting_is_documented(schema: RecipeSchema) -> None:
    for path, setting in settings_of(schema.config).items():
        assert setting.doc.endswith((".", ")")), path
        assert len(setting.doc.split()) > 0, path


@each_schema
def test_conditions_and_choosers_name_settings(schema: RecipeSchema) -> None:
    settings = settings_of(schema.config)
    for path, setting in settings.items():
        for condition in setting.conditions:
            assert all(split(other) in settings for other in condition.paths), path
        if setting.rows is not None:
            chooser = settings[split(setting.rows.path)]
            rows = {str(below[-1]) for below in settings if below[:-1] == path}
            assert rows <= set(chooser.choices), path
            assert setting.rows.unset is None or setting.rows.unset in rows


@each_schema
def test_settings_are_found_in_the_config_under_their_paths(schema: RecipeSchema) -> None:
    config = schema.config()
    for path, setting in settings_of(schema.config).items():
        if setting.sections or str(path[-1]).startswith("_"):
            continue
        assert lookup(config, ".".join(map(str, path))) == setting.default, path


def _numbers(config: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings that hold real numbers and never whole ones, with their defaults."""
    for name, field in config.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        if float in kinds and int not in kinds:
            yield f"{path}{name}", field.default
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _numbers(kind, f"{path}{name}.")


@each_schema
def test_a_real_number_is_one_by_default_too(schema: RecipeSchema) -> None:
    """A default is not converted, and what a run keeps of it is: the two would be taken for different settings."""
    assert [path for path, default in _numbers(schema.config) if type(default) is int] == []
