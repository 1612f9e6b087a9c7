"""The stack for signals: as before once OpenVINO has made and dropped engines in any order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quincunx.recipes.retrieval.backends.openvino import write_openvino
from quincunx.recipes.retrieval.backends.trace import TracedEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from small_encoders import backbone

pytest.importorskip("openvino")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there OpenVINO sets a stack")

DROPPED = """
import faulthandler, gc, signal, subprocess, sys
from pathlib import Path
from quincunx.recipes.retrieval.backends.openvino import OpenVinoBackend
faulthandler.enable()
signal.signal(signal.SIGCHLD, lambda *_: None)
made = [OpenVinoBackend(Path(sys.argv[1]), threads=1) for _ in range(3)]
for _ in range(3):
    made.pop(0)
    gc.collect()
    for _ in range(20):
        subprocess.run(["true"])
print("alive")
"""


def test_a_process_outlives_signals_after_engines_went_in_the_order_they_came(tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_openvino(TracedEncoder(TextEncoder(backbone("bert"), "mean")), tmp_path / "model.xml")
    ended = subprocess.run(
        [sys.executable, "-c", DROPPED, str(tmp_path / "model.xml")], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr
