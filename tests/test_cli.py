"""The command line as somebody uses it who has just found it: every verb, every mistake, no traceback ever."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said
from quincunx.recipes import RECIPES

Cli = Callable[..., Said]

TORCH_FREE = """
import contextlib, io, sys
from quincunx.cli import run

def call(*arguments, code=0):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            found = run(list(arguments))
        except SystemExit as error:
            found = error.code or 0
    assert found == code, (arguments, found, err.getvalue())
    assert "torch" not in sys.modules, arguments
    assert out.getvalue() + err.getvalue(), arguments

call("--help")
call("--version")
call("train", "--help")
call("init", "long_range", "--out", "starter.yaml")
call("check", "starter.yaml")
call("check", "starter.yaml", "update.batch_siez=3", code=2)
call("check", "nothing.yaml", code=2)
call("explain")
call("explain", "encoder.num_layers")
call("explain", "--markdown")
call("explain", "--schema")
call("explain", "--json")
call("convert", "starter.yaml", "--origin")
call("runs", "list")
call("init", "long_range", "--preset", "guide")
call("init", "long_range", "--preset", "nothing", code=2)
call("data", "pathfinder", "--out", "paths", "--resolution", "16", "--train", "2", "--dev", "1", "--test", "1")
call("trian", "starter.yaml", code=2)
import quincunx
assert "torch" not in sys.modules
"""


def test_what_reads_configs_never_imports_torch(work: Path):
    result = subprocess.run([sys.executable, "-c", TORCH_FREE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_module_is_a_command(work: Path):
    result = subprocess.run([sys.executable, "-m", "quincunx", "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    for verb in ("train", "check", "explain", "plan", "convert", "init", "evaluate", "predict", "report", "data"):
        assert re.search(rf"^    {verb} ", result.stdout, re.MULTILINE), verb


def test_without_an_output_the_exit_code_still_tells(work: Path, tiny_file: Path):
    for overrides, code in (([], 0), (["update.batch_size=0"], 2)):
        command = f"{shlex.join([sys.executable, '-m', 'quincunx', 'check', str(tiny_file), *overrides])} >&- 2>&-"
        assert subprocess.run(command, shell=True, check=False).returncode == code


# what somebody types wrongly -> exit code, and what the answer must say
MISUSE = [
    ("", 2, "VERB"),
    ("trian {config}", 2, "invalid choice: 'trian'"),
    ("train", 2, "a config file or a run folder is needed"),
    ("train update.batch_size=3", 2, "a config file or a run folder is needed"),
    ("train --resume", 2, "a config file or a run folder is needed"),
    ("train nothing.yaml", 2, "nothing.yaml: no such file"),
    ("check nothing.yaml", 2, "nothing.yaml: no such file"),
    ("check folder", 2, "folder holds no run"),
    ("check {config} --no-such", 2, r"usage: quincunx check[\s\S]*unrecognized arguments: --no-such"),
    ("check {config} --stric", 2, "unrecognized arguments: --stric"),
    ("check {config} --strict=yes", 2, "--strict"),
    ("evaluate folder x=1", 2, "unrecognized arguments: x=1"),
    ("check {config} update.batch_siez=3", 2, "did you mean `batch_size`"),
    ("check {config} batch_size=3", 2, "update"),
    ("check {config} update.batch_size=3.0", 2, "expected an int"),
    ("check {config} update.batch_size", 2, "write update.batch_size=value"),
    ("check {config} update.batch_size+=3", 2, "batch_size"),
    ("check {config} ~no.such", 2, "no.such"),
    ("check {config} data.path=@nothing.yaml", 2, "nothing.yaml"),
    ("check {config} --task text", 2, "task"),
    ("check {config} attention.kind=hrr", 2, "one of softmax"),
    ("check {config} encoder.vocab_size=3", 2, "too small"),
    ("plan {config} encoder.vocab_size=3", 2, "too small"),
    ("train {config} encoder.vocab_size=3", 2, "too small"),
    ("train {config} --limit many", 2, "--limit"),
    ("train {config} --limit 0", 2, "debug.limit"),
    ("train {config} --from update-00000003", 2, "give --resume as well"),
    ("train {config} --resume --from update-00000003", 2, "no run to go on with"),
    ("train {config} --resume runs/none", 1, "runs/none does not exist"),
    ("train {config} data.path=nowhere", 1, "nowhere does not exist"),
    ("train {config} data.path=folder", 1, "basic_train.tsv"),
    ("train {config} init_from=nowhere", 1, "nowhere"),
    ("train {config} run.dir={config}", 1, "is a file"),
    ("train {config} run.dir={config}/below", 1, "cannot be made"),
    ("train {config} evaluate.metric=dev/acuracy evaluate.goal=max", 2, "did you mean dev/accuracy"),
    ("train {config} evaluate.metric=test/accuracy", 2, "there are: dev/accuracy"),
    ("train {config} compute.device=cuda:99", 1, "CUDA"),
    ("train {config} compute.device=gpu", 2, "cuda:N"),
    ("train {config} ~optimizer optimizer._target_=os.system", 2, "os.system"),
    ("explain no.such.key", 2, "no setting `no.such.key`"),
    ("explain --recipe nothing", 2, "there is no recipe 'nothing'"),
    ("explain --json --markdown", 2, "not allowed with"),
    ("init nothing", 2, "there is no recipe 'nothing'"),
    ("init long_range --preset nothing", 2, "presets and their tasks: guide"),
    ("init long_range --preset guide --task image", 2, "listops"),
    ("init long_range --task image", 2, "give --preset as well"),
    ("check {config} task=text", 2, "needs data.path"),
    ("check {config} encoder.pooling=cls attention.causal=true", 2, "sees no other token"),
    ("runs compare nothing", 2, "nothing"),
    ("runs compare folder", 2, "folder"),
    ("bench", 2, "required: WHAT"),
    ("bench capacity --widths 0", 2, "0"),
    ("data pathfinder --out there --resolution 8", 2, "16 to 256"),
    ("data pathfinder --out there --train 0", 2, "at least 1"),
    ("data pathfinder --out {config}", 1, "File exists|is a file|Not a directory"),
    ("init long_range --out {config}", 2, "exists already"),
    ("init long_range --out {config}/below.yaml", 1, "File exists"),
    ("evaluate nothing", 2, "nothing does not exist"),
    ("evaluate {config}", 2, "is a file, not a run folder"),
    ("predict folder rows", 2, "folder holds no run"),
    ("predict nothing -", 2, "nothing does not exist"),
    ("report folder", 2, "folder holds no run"),
    ("runs", 2, "required: WHAT"),
    ("runs list nothing", 2, "nothing is no folder"),
    ("data listops", 2, "--out"),
    ("data imdb --out there", 2, "invalid choice: 'imdb'"),
    ("data listops --out {config}", 1, "File exists"),
    ("data listops --out there --train 0", 2, "at least 1"),
    ("data listops --out there --max-depth 0", 2, "max_depth"),
]


@pytest.mark.parametrize(("command", "code", "answer"), MISUSE, ids=[command for command, _, _ in MISUSE])
def test_misuse_is_answered(cli: Cli, tiny_file: Path, work: Path, command: str, code: int, answer: str):
    (work / "folder").mkdir()
    said = cli(*command.format(config=tiny_file.name).split())
    assert said.code == code, said.text
    assert re.search(answer, said.err), said.text
    assert "fault of quincunx" not in said.err
    left = [path for path in work.rglob("*") if path not in (tiny_file, work / "folder") and path.name != "run.lock"]
    assert [path for path in left if path.name not in ("runs", "there")] == [], "nothing may be written"


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"", "no recipe is named"),
        (b"\xff\xfe\x00r", "UTF-8"),
        (b"recipe: long_range\nseed: [1\n", "config.yaml:"),
        (b"recipe: long_range\nseed: 1\nseed: 2\n", "seed"),
        (b"- a\n- b\n", "mapping"),
        (b"recipe: nothing\n", "nothing"),
        (b"recipe: long_range\nbase: config.yaml\n", "base"),
        (b"recipe: long_range\nseed: !!python/object:os.system 1\n", "tag"),
    ],
)
def test_files_that_are_no_configs(cli: Cli, work: Path, content: bytes, answer: str):
    (work / "config.yaml").write_bytes(content)
    said = cli("check", "config.yaml")
    assert said.code == 2
    assert answer in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(cli: Cli, tiny_file: Path):
    tiny_file.chmod(0)
    said = cli("check", tiny_file)
    assert said.code == 2
    assert "ermission" in said.err


def test_all_problems_come_at_once_and_a_good_config_is_called_good(cli: Cli, tiny_file: Path):
    said = cli("check", tiny_file, "update.batch_siez=3", "encoder.num_layers=0", "budget.updates=3", "bogus=1")
    assert said.code == 2
    assert "4 errors" in said.err or said.err.count("error:") == 4, said.err
    good = cli("check", tiny_file)
    assert (good.code, good.err) == (0, "")
    assert "a good long_range config" in good.out


def test_warnings_are_errors_when_strict(cli: Cli, tiny_file: Path):
    lenient = cli("check", tiny_file, "schedule.kind=fixed")
    assert lenient.code == 0
    assert "schedule.warmup" in lenient.err
    strict = cli("check", tiny_file, "schedule.kind=fixed", "--strict")
    assert strict.code == 2
    assert cli("train", tiny_file, "schedule.kind=fixed", "--strict").code == 2


def test_overrides_work_before_and_after_options_in_every_verb(cli: Cli, tiny_file: Path):
    for order in (["seed=7", "--full"], ["--full", "seed=7"]):
        assert "seed: 7" in cli("convert", tiny_file, *order).out
    both = json.loads(cli("plan", tiny_file, "data.train=32", "--json", "update.batch_size=8").out)
    assert (both["train_examples"], both["batch_size"]) == (32, 8)
    assert cli("check", tiny_file, "--strict", "encoder.num_layers=0").code == 2
    assert "seed: 7" in cli("convert", "--full", tiny_file, "seed=7").out


def test_convert_keeps_what_was_written_even_where_it_equals_the_default(cli: Cli, work: Path):
    """A written count of examples must be there; a default one is a ceiling."""
    (work / "f.yaml").write_text("recipe: long_range\ndata: {dev: 2000, test: 7}\n")
    said = cli("convert", "f.yaml").out
    assert "  dev: 2000\n  test: 7\n" in said
    assert "train" not in said


def test_convert_gives_a_config_that_means_the_same(cli: Cli, tiny_file: Path, work: Path):
    (work / "converted.yaml").write_text(cli("convert", tiny_file, "optimizer.learning_rate=0.5").out)
    again = cli("convert", "converted.yaml", "--full").out
    assert again == cli("convert", tiny_file, "optimizer.learning_rate=0.5", "--full").out
    origins = cli("convert", tiny_file, "optimizer.learning_rate=0.5", "--origin").out
    assert re.search(r"# optimizer.learning_rate = 0.5: command line: \S+=0.5, over 0.01 from .*tiny.json", origins)


def test_explain_finds_a_setting_under_each_of_its_names(cli: Cli):
    for name in ("encoder.num_heads", "model.num_head"):
        text = cli("explain", name).out
        assert "encoder.num_heads" in text
        assert "model.num_head (guide 004)" in text


def test_explain_says_whose_setting_it_is(cli: Cli):
    """Recipes that say the same of it are named together; one that was asked for is not named."""
    lines = cli("explain", "data.path").out.splitlines()
    heads = [line for line in lines if line.startswith("recipe")]
    assert heads == [f"recipe {name}" for name in RECIPES]
    assert lines.count("data.path") == len(RECIPES)
    assert cli("explain", "seed").out.splitlines()[0] == f"recipes {', '.join(RECIPES)}"
    assert cli("explain", "seed").out.count("Seed of everything random") == 1
    assert cli("explain", "data.path", "--recipe", "retrieval").out.splitlines()[0] == "data.path"


def test_help_of_predict_speaks_of_all_recipes(cli: Cli):
    said = cli("predict", "--help").out
    assert all(name in said for name in RECIPES)


def test_init_never_overwrites_and_its_config_is_good(cli: Cli, work: Path):
    text = cli("init", "long_range").out
    assert cli("init", "long_range", "--out", "new folder/first.yaml").code == 0
    file = work / "new folder/first.yaml"
    assert "quincunx train 'new folder/first.yaml'" in file.read_text()
    assert file.read_text() == text.replace(" FILE", " 'new folder/first.yaml'")
    said = cli("check", file, "--strict")
    assert (said.code, said.err) == (0, "")
    before = file.read_bytes()
    assert cli("init", "long_range", "--out", file).code == 2
    assert file.read_bytes() == before


def test_the_plan_is_what_one_reckons_by_hand(cli: Cli, tiny_file: Path, work: Path):
    """120 examples, 16 a batch, 3 batches an update: 8 batches and 3 updates an epoch."""
    said = cli("plan", tiny_file, "update.accumulation=3", "chunking.samples=5", "budget.stop_at=7")
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in said.out.splitlines())
    assert rows["training examples"] == "120"
    assert rows["one update"] == "3 logical batches of 16 examples"
    assert rows["updates per epoch"] == "3 (8 logical batches)"
    assert rows["updates in all"] == "9, this run stops at 7"
    assert "at most 5 examples at once" in rows["chunks"]
    assert rows["evaluation"].startswith("every 1.5 updates, on 30 development examples")
    assert rows["checkpoints"] == "every 3 updates"
    assert rows["log"] == "every 2 updates"
    assert "cos, 3 updates of warm-up" in rows["schedule"]
    # 18 tokens and 30 positions of width 8; 2 blocks of 2 norms, 4 maps of 2 heads of 4 and an MLP; norm and classifier
    block = 2 * (8 + 8) + 4 * (8 * 8 + 8) + (8 * 12 + 12) + (12 * 8 + 8)
    classifier = (8 * 12 + 12) + (12 * 10 + 10)
    found = json.loads(cli("plan", tiny_file, "--json").out)["parameters"]
    assert found["total"] == found["trainable"]
    assert found["total"] == pytest.approx((18 + 30) * 8 + 2 * block + 16 + classifier, abs=32 * 4)
    assert list(work.iterdir()) == [tiny_file], "a plan writes nothing"


def test_an_error_of_ours_or_not_shows_its_traceback_only_when_asked(
    cli: Cli, tiny_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("quincunx.config.plan.describe", broken)
    said = cli("plan", tiny_file)
    assert said.code == 1
    assert "unexpected ZeroDivisionError: of all things" in said.err
    from quincunx.cli import run

    assert run(["plan", str(tiny_file), "--traceback"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_plan_for_another_machine(cli: Cli, tiny_file: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = cli("plan", tiny_file, "compute.device=cuda")
    assert said.code == 0, said.err
    assert "not on this machine: compute.device is cuda" in said.out
    assert "updates in all" in said.out
    assert cli("train", tiny_file, "compute.device=cuda").code == 1
