"""Cross-encoders as folders of a sequence classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quincunx import Run, train
from quincunx.errors import UsageError
from quincunx.exporting import export_run
from recipes.retrieval.collections_made import config_of, write_collection

QUERY = "ask3x1 ask3x2"
DOCUMENTS = ["tell7y1 tell7y2", "tell3y1 n3", "tell1y1 " * 40]


def trained(folder: Path, **changes: object) -> Run:
    data = write_collection(folder / "data", train=48, test=12)
    small = {"mode": "cross-encoder", "budget__epochs": 1, "encoder__tokenizer": {"vocabulary": 400}}
    return train(config_of(data, folder / "run", folder / "cache", **small, **changes))


def test_scores_are_equal_in_sentence_transformers_and_here(tmp_path: Path) -> None:
    theirs = pytest.importorskip("sentence_transformers")
    run = trained(tmp_path)
    export_run(run, tmp_path / "out")
    wanted = run.predict([{"query": QUERY, "documents": DOCUMENTS}])[0]["scores"]
    model = theirs.CrossEncoder(str(tmp_path / "out"), device="cpu", local_files_only=True)
    np.testing.assert_allclose(model.predict([(QUERY, text) for text in DOCUMENTS]), wanted, atol=1e-5)
    tree = config_of(tmp_path / "data", tmp_path / "next", tmp_path / "cache", mode="cross-encoder", budget__epochs=1)
    tree["encoder"] = {"path": str(tmp_path / "out")}
    tree["optimizer"] = {"learning_rate": 1e-12}
    again = train(tree).predict([{"query": QUERY, "documents": DOCUMENTS}])[0]["scores"]
    np.testing.assert_allclose(again, wanted, atol=2e-6)


def test_what_is_done_to_one_text_of_a_pair_is_refused(tmp_path: Path) -> None:
    run = trained(tmp_path, query__prompt="q: ")
    with pytest.raises(UsageError, match=r"query\.prompt 'q: '"):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
