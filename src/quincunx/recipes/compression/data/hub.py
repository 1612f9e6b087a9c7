"""Public data sets: looked for on this machine first, then fetched from the hub once and kept as a saved data set.

Where the hub cannot be reached, that shows within two seconds, and the error says where was looked.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

from quincunx.data.saved import ONE, SEVERAL
from quincunx.errors import DataError, MissingExtra

PATIENCE = 1.5
"""Seconds that the hub gets to answer."""
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def is_saved(folder: Path) -> bool:
    """Tell whether a folder holds a data set that `save_to_disk` wrote, of one split or of several."""
    return (folder / SEVERAL).is_file() or (folder / ONE).is_file()


def unreachable(patience: float = PATIENCE) -> str | None:
    """Return why the hub cannot be asked, in words; None where it answers.

    A proxy that the environment names is what has to answer.
    """
    for name in _OFFLINE:
        if os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on"):
            return f"{name} is set"
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    parts = urlsplit(endpoint)
    proxy = getproxies().get(parts.scheme)
    reached = urlsplit(proxy if proxy is None or "://" in proxy else f"http://{proxy}") if proxy else parts
    address = (str(reached.hostname), reached.port or (443 if reached.scheme == "https" else 80))
    answers: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=patience).close()
            answers.append("")
        except OSError as error:
            answers.append(f"{endpoint} cannot be reached ({error.strerror or error})")

    # looking up a name knows no time limit of its own
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(patience)
    answer = answers[0] if answers else f"{endpoint} did not answer within {patience:g} seconds"
    return answer or None


def fetched(
    name: str,
    part: str | None,
    revision: str | None,
    target: Path,
    looked: Sequence[Path],
    expected: str,
    processes: int,
) -> Path:
    """Return the folder of a data set from the hub, fetched now: whole, as `save_to_disk` writes it.

    Args:
        name: On the hub.
        part: Which configuration of it.
        revision: Branch, tag or commit.
        target: Where it is kept.
        looked: Where it was looked for before.
        expected: What a local copy would be, in words.
        processes: Processes that prepare it.

    Raises:
        DataError: It is not there, and the hub cannot be reached or does not give it.
        MissingExtra: The `datasets` package is not installed.
    """
    places = ", ".join(map(str, looked))
    reason = unreachable()
    if reason is not None:
        raise DataError(
            f"{name} is not on this machine (looked in {places}), and {reason}; put {expected} there, or name its "
            "place by data.path"
        )
    try:
        import datasets
        from datasets.exceptions import DatasetsError
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise MissingExtra("datasets", "compression", f"fetching {name}") from None
    try:
        with _beside(target) as folder:
            found = datasets.load_dataset(
                name, part, revision=revision, cache_dir=str(folder / "cache"), num_proc=processes
            )
            found.save_to_disk(str(folder / "saved"))
            if not is_saved(target):  # another process may have been faster
                (folder / "saved").rename(target)
    except (OSError, ValueError, RuntimeError, DatasetsError, HfHubHTTPError) as error:
        raise DataError(
            f"{name} is not on this machine (looked in {places}), and the hub did not give it: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None
    return target


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        yield Path(folder)
