"""The verb `export`: a run's model as a folder that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path

from quincunx.verbs.common import Adder, run_folder, say


def add_to(add: Adder) -> None:
    """Add the verb."""
    made = add("export", export, "write a run's model as a folder that other programs read, with a card")
    made.add_argument("run", help="run folder")
    forms = "sentence-transformers (default), onnx or openvino"
    made.add_argument("--format", default="sentence-transformers", metavar="NAME", help=forms)
    made.add_argument("--out", required=True, metavar="DIR", help="a folder that is not there yet")
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")
    made.add_argument("--int8", action="store_true", help="of onnx and openvino: linear maps in 8 bits")
    made.add_argument("--corpus", metavar="F", help="with --int8: texts to set it up by, as encode reads them")


def export(options: argparse.Namespace) -> int:
    """Export a run's model."""
    from quincunx.exporting import export_run

    out = Path(options.out).expanduser()
    notes = export_run(
        run_folder(options.run).path,
        out,
        format=options.format,
        checkpoint=options.checkpoint,
        int8=options.int8,
        corpus=options.corpus,
    )
    for note in notes:
        say(note)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    say(f"{out}: {size / 2**20:,.1f} MiB; {out / 'README.md'} says what it is")
    return 0
