"""Settings given as flags, as people type them to the scripts that the guides come from: they are overrides."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said
from quincunx.verbs import flags

Cli = Callable[..., Said]

# the flags at the end of guide 002: words typed -> the same as an override, and the setting with its value
GUIDE_FLAGS = [
    ("--ground_upsample 2", "ground_upsample=2", "pretraining.ground_copies", 2),
    ("--ground_weight 3", "ground_weight=3", "pretraining.ground_weight", 3.0),
    ("--itm_cocoonly False", "itm_cocoonly=false", "pretraining.itm_captions_only", False),
    ("--single_vqa_prefix", "single_vqa_prefix=true", "pretraining.one_question_prefix", True),
    ("--no_prefix", "no_prefix=true", "text.empty", True),
    ("--raw_label", "raw_label=true", "data.vqa.draw", True),
    ("--answer_normalize", "answer_normalize=true", "data.vqa.normalize", True),
    ("--classifier", "classifier=true", "model.classifier", True),
    ("--test_answerable", "test_answerable=true", "data.vqa.answerable", True),
    ("--RefCOCO_GT", "RefCOCO_GT=true", "data.refcoco.ground_truth", True),
    ("--RefCOCO_BUTD", "RefCOCO_BUTD=true", "data.refcoco.detections", True),
    ("--shuffle_boxes", "shuffle_boxes=true", "data.refcoco.shuffle", True),
    ("--vis_pointer", "vis_pointer=true", "data.refcoco.pointer", True),
    ("--cls_task imagenet", "cls_task=imagenet", "data.classification", "imagenet"),
]


@pytest.fixture
def pictures_file(work: Path) -> Path:
    """A config of vision_language in which every flag of the guide has an effect."""
    path = work / "pictures.json"
    path.write_text(
        json.dumps({"recipe": "vision_language", "tasks": "vqa,refcoco,caption,cls", "data": {"path": "world"}})
    )
    return path


def settings(said: Said) -> dict[str, str]:
    """Return the settings that `convert --origin` says were given on the command line: path -> value."""
    assert said.code == 0, said.text
    return dict(re.findall(r"^# (\S+) = (.*?): command line: ", said.out, re.MULTILINE))


@pytest.mark.parametrize(("typed", "override", "path", "value"), GUIDE_FLAGS, ids=[row[0] for row in GUIDE_FLAGS])
def test_each_flag_of_the_guide_is_an_override(
    cli: Cli, pictures_file: Path, typed: str, override: str, path: str, value: object
):
    pretraining = path.startswith("pretraining")
    more = ["objective=pretraining", "losses=lm,qa,itm,ground_caption"] if pretraining else []
    more += ["tasks=vqa"] if path == "model.classifier" else []  # a head answers one task
    said = cli("convert", pictures_file, *typed.split(), *more, "--origin", "--full")
    assert settings(said)[path] == repr(value)
    plain = cli("convert", pictures_file, override, *more, "--full")
    assert said.out.split("\n# where each value came from")[0].strip() == plain.out.strip()
    assert cli("check", pictures_file, *more, *typed.split()).text == cli("check", pictures_file, *more, override).text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("--lr 3e-4 --warmup_ratio=0.1", {"optimizer.learning_rate": "0.0003", "schedule.warmup_ratio": "0.1"}),
        ("--update.batch_size 8 seed=3", {"update.batch_size": "8", "seed": "3"}),
        ("seed=3 --use_adapter --reduction_factor 4", {"seed": "3", "adapt.bottleneck": "True"}),
        ("--lr 1 --lr 2 lr=3", {"optimizer.learning_rate": "3.0"}),
        ("lr=3 --lr 1", {"optimizer.learning_rate": "1.0"}),
        ("--dry seed=3", {"evaluate.at_start": "True", "seed": "3"}),
        ("--strict --epochs 2", {"budget.epochs": "2"}),
        ("--epochs --strict", None),
        ("--clip_grad_norm -1 --train_topk -1", {"update.clip_norm": "None", "data.train_top": "-1"}),
        ("--answer_normalize True --itm_cocoonly false", {"data.vqa.normalize": "True"}),
        ("--tasks [vqa,gqa]", {"data.tasks": "['vqa', 'gqa']"}),
        ("--comment=a=b", {"run.note": "'a=b'"}),
        ("--prompt=--", {"text.prompt": "'--'"}),
    ],
)
def test_flags_go_with_options_and_overrides(
    cli: Cli, pictures_file: Path, typed: str, expected: dict[str, str] | None
):
    said = cli("convert", pictures_file, *typed.split(), "--origin", "--full")
    if expected is None:  # --strict is the verb's own option, so --epochs has no value
        assert said.code == 2 and "budget.epochs" in said.err and "epochs=true" in said.err
        return
    assert expected.items() <= settings(said).items()


@pytest.mark.parametrize(
    ("recipe", "typed", "path", "value"),
    [
        ("long_range", "--training.batch_size 4", "update.batch_size", "4"),
        ("retrieval", "--encoder.pooling cls", "encoder.pooling", "'cls'"),
        ("compression", "--optimizer.learning_rate 0.5", "optimizer.learning_rate", "0.5"),
    ],
)
def test_every_recipe_takes_them(cli: Cli, work: Path, recipe: str, typed: str, path: str, value: str):
    assert cli("init", recipe, "--out", "first.yaml").code == 0
    assert settings(cli("convert", "first.yaml", *typed.split(), "--origin"))[path] == value


def test_verbs_that_compute_and_those_that_go_on(cli: Cli, tiny_file: Path, work: Path):
    found = json.loads(cli("plan", tiny_file, "--data.train", 32, "--json", "--update.batch_size", 8).out)
    assert (found["train_examples"], found["batch_size"]) == (32, 8)
    assert (
        cli("params", tiny_file, "--encoder.num_layers", 1).out == cli("params", tiny_file, "encoder.num_layers=1").out
    )
    first = ["--run.dir", "one", "--budget.epochs", 1, "--data.train", 32, "--schedule.warmup", 1]
    assert cli("train", tiny_file, *first).code == 0
    assert json.loads((work / "one" / "plan.json").read_text())["train_examples"] == 32
    # a flag behind --resume is not the run that --resume may name, and behind RUN its value is no config
    for again in (
        ["train", tiny_file, *first, "--resume", "--log.every", 3],
        ["train", "--resume", "one", "--seed", 1],
    ):
        said = cli(*again)
        expected = "resumed with log.every: 2 -> 3" if "--seed" not in again else "seed: 11 -> 1"
        assert expected in said.text, said.text


def test_a_sweep_takes_its_own_settings_too(cli: Cli, tiny_file: Path, work: Path):
    (work / "ranges.json").write_text(json.dumps({"encoder.num_layers": [1, 2]}))
    flagged = cli("sweep", tiny_file, "ranges.json", "--sweep.dir", "many", "--seed", 4, "--dry-run")
    plain = cli("sweep", tiny_file, "ranges.json", "sweep.dir=many", "seed=4", "--dry-run")
    assert flagged.code == plain.code == 0, flagged.text
    assert "2 runs" in flagged.out and "many" in flagged.out
    assert len(flagged.out.splitlines()) == len(plain.out.splitlines())


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (
            "check {config} --RefCOCO_GTT",
            r"usage: quincunx check[\s\S]*unrecognized arguments: --RefCOCO_GTT; did you ",
        ),
        ("check {config} --batch-size 3", r"unrecognized arguments: --batch-size; did you mean --batch_size\?"),
        ("search found --run run --k 3", r"unrecognized arguments: --k; did you mean -k\?"),
        ("check {config} --stric", r"unrecognized arguments: --stric; did you mean --strict\?"),
        ("check {config} --no-such-thing 3 --lr 1", r"unrecognized arguments: --no-such-thing\n"),
        ("check {config} -lr 3", "unrecognized arguments: -lr"),
        ("check {config} --lr x", r"command line:1:4: error: .*expected a number|lr=x"),
        ("check {config} --update 3", "unrecognized arguments: --update"),
        ("check {config} --gpu_memory.softmax 3", "command line"),
        ("check {config} --itm_cocoonly maybe", "itm_cocoonly=maybe"),
        ("check {config} --lr", "lr=true"),
        ("check --lr 3 {config}", "a config file or a run folder is needed before the changes"),
        ("train {config} --limit --lr 3", "--limit: expected one argument"),
        ("report {config} --lr 3", "unrecognized arguments: --lr 3"),
        ("runs list --lr", "unrecognized arguments: --lr"),
    ],
)
def test_mistakes_are_answered(cli: Cli, pictures_file: Path, command: str, answer: str):
    said = cli(*command.format(config=pictures_file.name).split())
    assert said.code == 2, said.text
    assert re.search(answer, said.err), said.text
    assert "fault of quincunx" not in said.err


def test_words_become_overrides_as_argparse_reads_them():
    """Held equal to argparse with an option of a value or none for each setting, over random commands."""
    known = ["lr", "update.batch_size", "dry", "RefCOCO_GT"]
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for name in known:
        parser.add_argument(f"--{name}", nargs="?", const="true", action="append", dest=name)
    parser.add_argument("--own", nargs="?", const=True)
    draw = random.Random(7)
    for _ in range(400):
        words: list[str] = []
        for _ in range(draw.randrange(6)):
            name, value = (
                draw.choice(known),
                draw.choice(["3e-4", "-1", "-.5", "", "True", "a b", "[1, 2]", "runs/x=1"]),
            )
            words += draw.choice(
                [[f"--{name}"], [f"--{name}", value], [f"--{name}={value}"], ["--own"], ["--own", "x"], ["--own=x"]]
            )
        left = [word for word in words if not word.startswith("--own")]
        changed = flags.as_changes(words, left, known)
        wanted = vars(parser.parse_args(words))
        changes = [word.partition("=") for word in changed if word.partition("=")[0] in known]
        for name in known:
            assert [value for key, _, value in changes if key == name] == (wanted[name] or []), words
        own, rest = parser.parse_known_args(changed)
        assert own.own == wanted["own"], (words, changed)
        assert rest == [word for word in changed if word.partition("=")[0] in known], (words, changed)


def test_what_is_no_value_and_what_is_no_flag():
    def changed(text: str) -> list[str]:
        words = text.split()
        return flags.as_changes(words, [word for word in words if word.startswith("--")], {"dry", "a.b"})

    assert changed("--dry --a.b 1 c=2") == ["dry=true", "a.b=1", "c=2"]
    assert changed("--dry c.d[0]=2") == ["dry=true", "c.d[0]=2"]
    assert changed("--dry c+=2") == ["dry=true", "c+=2"]
    assert changed("--dry ~c.d") == ["dry=true", "~c.d"]
    assert changed("--dry ~/there") == ["dry=~/there"]
    assert changed("--dry -h") == ["dry=true", "-h"]
    assert changed('--dry ["x=1"]') == ['dry=["x=1"]']
    assert changed("--a 1 --a.c 2") == ["--a", "1", "--a.c", "2"]
    assert changed("--a.b=-1 -- --dry") == ["a.b=-1", "--", "--dry"]


def test_every_name_of_every_setting_is_known():
    names = flags.setting_names()
    assert {row[1].partition("=")[0] for row in GUIDE_FLAGS} | {row[2] for row in GUIDE_FLAGS} <= names
    assert {"gpu_memory.softmax", "sweep.trials", "encoder.num_layers", "lr"} <= names
    assert "update" not in names and not any("*" in name for name in names)
