"""The recipe's examples do what their first lines say: published shares, and all keys of the guide at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

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
