"""The TensorBoard tracker: event files under `tensorboard/` in the run folder, one for every part of a resumed run.

Written with the package `tensorboard` alone (no torch, no writer thread), so that a full disk is noticed where it
happens and a resume can cut the files back to the checkpoint byte by byte.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from quincunx.errors import MissingExtra, RunError
from quincunx.runs import to_json

FOLDER = "tensorboard"


class TensorBoard:
    """Writes scalars as `split/name` over updates, and the config as a text."""

    def __init__(self) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise MissingExtra("tensorboard", "tensorboard", "the tracker tensorboard") from error
        # Its generated message classes are not known to a type checker.
        self._event: Any = event_pb2
        self._summary: Any = summary_pb2
        self._tensor: Any = tensor_pb2
        self._types: Any = types_pb2
        self._records: Any = RecordWriter
        self._folder = Path()
        self._config = ""
        self._file: BinaryIO | None = None
        self._writer: Any = None
        self._update = 0

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Remember the folder; the file itself is opened by the first event or by `resume`."""
        self._folder = folder / FOLDER
        # Indented text is shown as it stands by TensorBoard's Markdown.
        lines = to_json(config, indent=2).decode("utf-8").splitlines()
        self._config = "\n".join(f"    {line}" for line in lines)

    def log(self, update: int, split: str, values: Mapping[str, float]) -> None:
        """Write one event with a scalar for every value."""
        summary = self._summary.Summary()
        for name, value in values.items():
            summary.value.add(tag=f"{split}/{name}", simple_value=_single(float(value)))
        self._write(self._event.Event(step=int(update), summary=summary))
        self._update = max(self._update, int(update))  # an older checkpoint's evaluation may come last

    def position(self) -> dict[str, Any]:
        """Return the present file, its length and the last update, all of it being on the disk."""
        self.flush()
        file = self._file
        if file is None:
            return {}
        return {"file": Path(file.name).name, "bytes": file.tell(), "update": self._update}

    def resume(self, position: Mapping[str, Any]) -> None:
        """Remove the events after a position and begin a new file that tells an open TensorBoard to forget them.

        Files that a person removed are not missed; a file shorter than the position is a RunError.
        """
        name, length, update = position.get("file", ""), position.get("bytes", 0), position.get("update", -1)
        for path in self._files():
            if path.name > name:
                path.unlink()
            elif path.name == name:
                if path.stat().st_size < length:
                    raise RunError(
                        f"{path} has {path.stat().st_size} bytes, but had {length} when the checkpoint was written: "
                        f"events were lost. Put the file back, or remove the folder {self._folder} to go on without."
                    )
                os.truncate(path, length)
        self._update = max(0, update)
        self._open(restart=update + 1)

    def flush(self) -> None:
        """Bring every event to the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def finish(self, exit_code: int = 0) -> None:
        """Flush and close, however the run ended."""
        file = self._file
        if file is not None:
            try:
                self.flush()
            finally:
                self._file = self._writer = None
                file.close()

    def _write(self, event: Any) -> None:
        if self._file is None:
            self._open(restart=None)
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
        self._writer.flush()  # an event is with the operating system when `log` returns, or `log` fails

    def _open(self, restart: int | None) -> None:
        """Begin a new file; `restart` is the first update whose earlier events readers are to forget."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Readers take files in the order of their names: a number orders them where clocks would not.
        numbers = [int(path.name.split(".")[3]) for path in self._files()]
        name = f"events.out.tfevents.{max(numbers, default=0) + 1:010d}.{socket.gethostname()}"
        self._file = (self._folder / name).open("xb")
        self._writer = self._records(self._file)
        self._write(self._event.Event(file_version="brain.Event:2"))
        if restart is not None:
            session = self._event.SessionLog(status=self._event.SessionLog.START)
            self._write(self._event.Event(step=restart, session_log=session))
        if not restart:
            self._write(self._event.Event(step=0, summary=self._text("config", self._config)))

    def _files(self) -> list[Path]:
        return sorted(
            path for path in self._folder.glob("events.out.tfevents.*") if path.name.split(".")[3].isdecimal()
        )

    def _text(self, tag: str, text: str) -> Any:
        data = self._summary.SummaryMetadata.PluginData(plugin_name="text")
        tensor = self._tensor.TensorProto(
            dtype=self._types.DT_STRING,
            string_val=[text.encode("utf-8")],
            tensor_shape={"dim": [{"size": 1}]},
        )
        metadata = self._summary.SummaryMetadata(plugin_data=data)
        return self._summary.Summary(value=[{"tag": tag, "metadata": metadata, "tensor": tensor}])


def _single(value: float) -> float:
    """Return a value that a 32-bit float can hold: what lies beyond becomes infinite, as rounding would have it."""
    limit = 3.4028235677973366e38
    return float("inf") if value >= limit else float("-inf") if value <= -limit else value
