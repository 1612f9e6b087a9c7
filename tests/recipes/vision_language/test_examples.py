"""The recipe's examples do what their first lines say: published shares, and all keys of the guide at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from quincunx import train
from quincunx.config.load import load
from quincunx.preview import count
from quincunx.recipes import schemas
from quincunx.recipes.vision_language.data.world.generate import generate
from quincunx.recipes.vision_language.names import KEYS

FOLDER = Path(__file__).parents[3] / "examples" / "vision_language"
TABLE = sorted(path for path in (FOLDER / "table").glob("*.yaml") if path.name != "base.yaml")


@pytest.mark.parametrize("path", TABLE, ids=lambda path: path.stem)
def test_params_gives_the_published_share_of_bart_base(path: Path) -> None:
    pytest.importorskip("peft")
    said = re.match(r"# ([\d.]+) %", path.read_text())
    assert said is not None
    counted, _ = count(load(path, schemas=schemas(), strict=True))
    assert f"{100 * counted.trainable / counted.total:.2f}" == said[1]


def test_the_table_has_all_nine_rows() -> None:
    shares = {"4.18", "12.22", "2.70", "7.05", "5.79", "5.93", "17.71", "2.00", "4.53"}
    assert {re.findall(r"# ([\d.]+) %", path.read_text())[0] for path in TABLE} == shares


def test_all_keys_of_the_guide_at_once_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    path = FOLDER / "guide_full.jsonc"
    written = set(re.findall(r'^  "(\w+)":', path.read_text(), re.MULTILINE))
    assert written == {old for old, _, _ in KEYS}
    assert load(path, schemas=schemas(), strict=True).warnings == []
    monkeypatch.chdir(tmp_path)
    generate("datasets", seed=1, counts={"train": 16, "dev": 8, "test": 8}, size=64, feature_width=8)
    small = {"width": 16, "num_layers": 1, "num_heads": 2}
    run = train(path, *(f"model.build.{name}={value}" for name, value in small.items()))
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert run.path.resolve() == tmp_path / "snap/guide_full"
    assert {row["name"].partition("/")[0] for row in rows if row["split"] == "dev"} == {
        "score",
        "vqa",
        "nlvr",
        "caption",
    }
    assert any(row["name"] == "z" for row in rows if row["split"] == "train")
    assert {each.name for each in (run.path / "submissions/test").iterdir()} == {
        "vqa.json",
        "nlvr.csv",
        "captions.json",
    }


def photos(folder: Path) -> list[str]:
    """Write pictures as people have them, and return their files' names."""
    folder.mkdir()
    red = Image.new("RGB", (40, 30), (200, 30, 30))
    turned = Image.Exif()
    turned[0x0112] = 6
    red.save(folder / "turned.jpg", exif=turned)
    for mode, name in (("RGB", "a.png"), ("CMYK", "b.jpg"), ("L", "c.jpg"), ("RGBA", "d.png"), ("P", "e.png")):
        red.convert(mode).save(folder / name)
    (folder / "more").mkdir()
    red.save(folder / "more/f.webp")
    return sorted(path.name for path in folder.rglob("*.*"))


def test_own_pictures_are_asked_about_by_the_commands_that_are_said(cli: Callable[..., Any], work: Path) -> None:
    pytest.importorskip("transformers")
    text = (FOLDER / "own_pictures.yaml").read_text()
    (work / "own_pictures.yaml").write_text(text)
    names = photos(work / "photos")
    lines = [{"picture": name, "question": "what colour is it?", "answer": "red"} for name in names]
    for split, rows in (("train", lines), ("dev", lines[:2])):
        (work / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"picture": "photos/turned.jpg", "question": "what colour is it?"}
    (work / "questions.jsonl").write_text(json.dumps(asked) + "\n")
    commands = [line.removeprefix("#   quincunx ").split() for line in text.splitlines() if line.startswith("#   q")]
    assert [words[0] for words in commands[:4]] == ["data", "data", "train", "predict"]
    small = ["model.build.width=16", "model.build.num_layers=1", "model.build.num_heads=2", "budget.epochs=1"]
    for words in commands[:3]:
        said = cli(*words, *([*small, "pictures.image_size=32"] if words[0] == "train" else ()))
        assert said.code == 0, said.err
    [answer] = map(json.loads, cli(*commands[3]).out.splitlines())
    assert answer["task"] == "vqa" and isinstance(answer["answer"], str)
    features = commands[4]
    assert cli(*features[: features.index("--weights")], "--fresh", "--size", "32").code == 0
    assert cli("train", "own_pictures.yaml", "pictures.features=RN50", "~pictures.image_size", *small).code == 0
