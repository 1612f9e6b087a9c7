"""What people and editors read of `sweep` and `ranges`, and what the verbs round a config make of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quincunx.config.explain import as_json, explain_text, json_schema, markdown
from quincunx.config.fields import settings_of
from quincunx.config.load import load
from quincunx.config.read import read_text
from quincunx.errors import UsageError
from quincunx.recipes import schemas
from quincunx.sweep.reading.described import BESIDE
from quincunx.sweep.settings import RULES
from reference.json_schema import accepts

SCHEMA = json_schema(schemas(), BESIDE)
Cli = Callable[..., Any]


def test_every_setting_is_documented() -> None:
    for path, setting in settings_of(BESIDE.config).items():
        assert setting.doc.endswith((".", ")")), path
        for condition in setting.conditions:
            assert all(tuple(other.split(".")) in settings_of(BESIDE.config) for other in condition.paths), path
    page = markdown(schemas(), BESIDE)
    listed = as_json([BESIDE])
    assert all(f"`{entry['path']}`" in page for entry in listed)
    assert {"ranges", "sweep.pruner", "sweep.pruning.factor"} <= {entry["path"] for entry in listed}


def test_a_path_is_explained() -> None:
    assert "asha" in explain_text(BESIDE, "sweep.pruner")
    assert "zipped" in explain_text(BESIDE, "ranges")
    with pytest.raises(UsageError, match="did you mean `pruner`"):
        explain_text(BESIDE, "sweep.prunner")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("recipe: long_range\nranges: {lr: [1]}\nsweep: {workers: 2}", True),
        ("recipe: compression\nranges: {c: {a: [1], b: [2], when: {d: 1}}}", True),
        ("recipe: retrieval\nranges: {a: {low: 1, high: 2, log: true, n: 3}}", True),
        ("ranges: {a: {values: [1, null, {b: 1}], when: {b: [1, 2]}}}", True),
        ("recipe: long_range\nranges: [1]", False),
        ("recipe: long_range\nranges: {a: 1}", False),
        ("recipe: long_range\nranges: {a: []}", False),
        ("recipe: long_range\nranges: {a: {low: 1}}", False),
        ("recipe: long_range\nranges: {a: {low: 1, high: x}}", False),
        ("recipe: long_range\nranges: {a: {b: 1}}", False),
        ("recipe: long_range\nsweep: {worker: 1}", False),
        ("recipe: long_range\nsweep: {workers: 0}", False),
    ],
)
def test_editors_know_the_sections(text: str, valid: bool) -> None:
    assert accepts(SCHEMA, read_text(text, "f.yaml", "yaml").tree) is valid


def test_editors_have_each_section_once() -> None:
    names = [name for name in SCHEMA["$defs"] if name.endswith("Pruning")]
    assert names == ["sweep.Pruning"]
    for schema in schemas():
        assert SCHEMA["$defs"][schema.name]["properties"]["sweep"] == {"$ref": "#/$defs/sweep.sweep"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rules_fire_on_their_examples(rule: Any) -> None:
    from quincunx.config.check import check
    from quincunx.config.document import Document

    document = Document({})
    for path, value in rule.failing.items():
        document.put(tuple(path.split(".")), value)
    assert [each.severity for each in check(document, BESIDE).problems if each.message.startswith("sweep.")] == [
        "error"
    ]


FILE = """\
recipe: long_range
task: listops
encoder: {embedding_dim: 64, hidden_dim: "${encoder.embedding_dim}"}
ranges:
  training.learning_rate: [0.1, 0.2]
  encoder.embedding_dim: [64, 128]
sweep: {workers: 2, storage: "postgresql://me:geheim@host/db"}
"""


@pytest.fixture
def file(work: Path) -> Path:
    path = work / "s.yaml"
    path.write_text(FILE)
    return path


def test_check_judges_the_sweep_too(cli: Cli, file: Path) -> None:
    said = cli("check", file)
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("s.yaml: a good long_range config, and a good sweep of 4 configurations\n")
    said = cli("check", file, "ranges.encoder.num_heads=[4, 0]")
    assert said.code == 2
    assert "command line:1:30: error: `encoder.num_heads`: expected an int >= 1, found 0" in said.err
    said = cli("check", file, "~ranges", "sweep.wokers=3")
    assert said.code == 2 and "did you mean `workers`?" in said.err
    said = cli("check", file, "~ranges", "sweep.trials=3")
    assert (said.code, said.err) == (0, "")
    assert "with a section `sweep`, without ranges" in said.out
    assert cli("check", file, "sweep.trials=3", "--strict").code == 2


@pytest.mark.parametrize("verb", ["train", "plan", "inspect"])
def test_verbs_for_one_run_refuse_many(cli: Cli, file: Path, verb: str) -> None:
    said = cli(verb, file)
    assert said.code == 2
    assert "s.yaml:4:1: error: `ranges` makes this a sweep of many runs, and one run is asked for" in said.err


def test_convert_keeps_ranges_and_references(cli: Cli, file: Path) -> None:
    from quincunx.sweep.reading.spec import open_sweep

    for options in ([], ["--full"]):
        said = cli("convert", file, *options)
        assert said.code == 0 and "geheim" not in said.text
        Path("again.yaml").write_text(said.out)
        again, first = open_sweep("again.yaml"), open_sweep(file)
        assert again.settings.storage == "postgresql://me@host/db"
        assert [again.load(point).config for point in again.space.grid()] == [
            first.load(point).config for point in first.space.grid()
        ]
    assert 'hidden_dim: "${encoder.embedding_dim}"' in said.out
    assert "# encoder.embedding_dim = 64: " in cli("convert", file, "--origin").out
    plain = cli("convert", file, "~ranges", "~sweep")
    assert "ranges" not in plain.out
    Path("plain.yaml").write_text(plain.out)
    assert load("plain.yaml", schemas=schemas()).config.encoder.hidden_dim == 64


def test_explain_says_it_once(cli: Cli) -> None:
    assert cli("explain", "sweep.pruner").out.count("hyperband") == 2
    assert cli("explain", "ranges").out.count("zipped") == 1
    assert cli("explain", "sweep.wokers").code == 2
    assert "beside the settings of every recipe" in cli("explain").out
    assert json.loads(cli("explain", "--schema").out) == json.loads(json.dumps(SCHEMA))
    assert "## sweep" in cli("explain", "--markdown").out
    assert "sweep.lease" in {entry["path"] for entry in json.loads(cli("explain", "--json").out)}


def test_none_of_these_imports_torch(file: Path) -> None:
    code = (
        "import sys\n"
        "from quincunx.cli import run\n"
        "for verb in ('check', 'convert'):\n"
        "    assert run([verb, 's.yaml']) == 0\n"
        "assert run(['train', 's.yaml']) == 2\n"
        "assert run(['explain', 'sweep']) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=file.parent, capture_output=True)
