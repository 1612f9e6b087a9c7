"""The Weights & Biases tracker: metrics and the config go to a run of that service, or (offline) into its own files.

Its client works in a process of its own (`wandb_client.py`): its threads, exit hooks and environment, and a network
that hangs, stay out of training, and a training process that is killed still has its run closed as failed.
"""

from __future__ import annotations

import json
import logging
import netrc
import os
import secrets
import select
import string
import subprocess
import sys
import time
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quincunx.config.sections.run import Wandb
from quincunx.errors import MissingExtra, RunError, UsageError
from quincunx.runs import RunFolder, write_atomically

log = logging.getLogger("quincunx")

CLIENT = Path(__file__).with_name("wandb_client.py")
FOLDER = "wandb"
"""The folder of everything of wandb's within the run folder."""
PROJECT = "quincunx"
HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""Under which names wandb's own service has its keys in a netrc file."""
UPLOAD_SECONDS = 300
"""How long the end of a run waits for what is still to be uploaded."""
BROKEN_SECONDS = 10
"""The same for a run that broke off or was stopped, whose process may be about to be killed."""


def open_wandb(options: Wandb) -> WeightsAndBiases | None:
    """Return the tracker that a config asks for, not started yet; None where `use` or WANDB_MODE switch it off.

    Raises MissingExtra without the package, and UsageError for a key that cannot be read, for the mode online without
    any key, and for a WANDB_MODE that is not known.
    """
    if not options.use:
        return None
    mode = _mode(options)
    if mode == "disabled":
        log.info("log.wandb is switched off by WANDB_MODE=disabled")
        return None
    try:
        package = find_spec("wandb")
    except ValueError:  # another module has taken its name
        package = None
    if package is None or package.origin is None:  # a mere folder `wandb`, which its runs leave behind, has no origin
        raise MissingExtra("wandb", "wandb", "log.wandb.use=true")
    key = None if options.credentials is None else read_key(Path(options.credentials))
    if mode == "online" and key is None and not has_key(os.environ):
        raise UsageError(
            "log.wandb is to write online, but there is no API key: set log.wandb.credentials to a file that holds it, "
            "or WANDB_API_KEY, or run `wandb login` once; or set log.wandb.mode=offline and upload the run later with "
            "`wandb sync`"
        )
    return WeightsAndBiases(options, mode, key)


class WeightsAndBiases:
    """Passes metrics on to the client's process; whatever fails there is a warning, and training goes on.

    A step of wandb's is an update. It takes nothing back, so the client leaves out what was recorded before: where a
    run that broke off goes on from a checkpoint, the updates that it repeats, with the same values, stand there once.
    Values of an update before the last one (the best checkpoint's test) stand at the last step, with `<split>/update`.
    """

    def __init__(self, options: Wandb, mode: str, key: str | None) -> None:
        self._options = options
        self._mode = mode
        self._key = key
        self._client: subprocess.Popen[bytes] | None = None
        self._heard = b""
        self._printed = Path()
        """What the client prints."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Start the client for the run of this folder: the same one, by its stored id, where it goes on."""
        try:
            self._start(folder.absolute(), config)
        except (OSError, RunError) as error:
            log.warning("wandb: it could not start: %s; the run goes on without it", error)

    def _start(self, folder: Path, config: Mapping[str, Any]) -> None:
        own = folder / FOLDER
        own.mkdir(exist_ok=True)
        self._printed = own / "client.log"
        given = self._options
        settings: dict[str, Any] = {
            "mode": self._mode,
            "run_id": _run_id(own / "id.txt"),
            "root_dir": str(folder),
            "project": given.project or os.environ.get("WANDB_PROJECT") or PROJECT,
            "entity": given.entity,
            "run_name": run_name(folder, given.name or os.environ.get("WANDB_NAME")),
            "run_notes": given.notes or (config.get("run") or {}).get("note"),
            "run_tags": given.tags,
            "finish_timeout": UPLOAD_SECONDS,
            "api_key": self._key,
        }
        settings = {name: value for name, value in settings.items() if value not in (None, "", [])}
        self._client = subprocess.Popen(
            # -P: the folder of this file has a module named wandb, too
            [sys.executable, "-P", str(CLIENT), str(self._printed), str(RunFolder(folder).stop)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=folder,
            env=_environment(own, with_key=self._key is None),
            start_new_session=True,  # a Ctrl-C is for training, which then says how the run ended
        )
        self._send({"settings": settings, "config": dict(config)})

    def log(self, update: int, split: str, values: Mapping[str, float]) -> None:
        """Pass values on; the client records them as `split/name`."""
        self._send({"update": update, "split": split, "values": {name: float(value) for name, value in values.items()}})
        self._listen(0)

    def position(self) -> dict[str, Any]:
        """Return nothing: where to go on is told by the folder, as wandb takes nothing back."""
        return {}

    def resume(self, position: Mapping[str, Any]) -> None:
        """Do nothing: the client leaves out what it recorded before."""

    def flush(self) -> None:
        """Do nothing: the client has everything that was logged, also when this process is killed."""

    def finish(self, exit_code: int = 0) -> None:
        """Close wandb's run with an exit code and wait, within limits, until everything is written and uploaded."""
        client = self._client
        if client is None:
            return
        self._send({"finish": exit_code})
        limit = UPLOAD_SECONDS + 30 if exit_code == 0 else BROKEN_SECONDS
        ended = self._listen(limit)
        if self._client is None:  # it broke off, and that was said
            return
        if ended and client.wait() != 0:
            self._give_up("its client failed")
            return
        if not ended:
            log.warning("wandb: not finished after %d s; it goes on in process %d", limit, client.pid)
        self._client = None
        _close(client)

    def _send(self, order: Mapping[str, Any]) -> None:
        if self._client is None or self._client.stdin is None:
            return
        data = memoryview(json.dumps(order).encode() + b"\n")
        try:
            while data:
                data = data[self._client.stdin.write(data) or 0 :]
        except OSError:
            self._listen(1)  # its last words
            self._give_up("its client ended too early")

    def _listen(self, seconds: float) -> bool:
        """Pass on what the client says until it ends, at most so many seconds; return whether it ended."""
        client = self._client
        if client is None or client.stdout is None:
            return True
        poll = select.poll()
        poll.register(client.stdout, select.POLLIN | select.POLLHUP)
        deadline = time.monotonic() + seconds
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            data = os.read(client.stdout.fileno(), 65536)
            if not data:
                return True
            *lines, self._heard = (self._heard + data).split(b"\n")
            for line in lines:
                said = json.loads(line)
                log.log(logging.WARNING if said["warning"] else logging.INFO, "wandb: %s", said["text"])
        return False

    def _give_up(self, reason: str) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        log.warning("wandb: %s (see %s); the run goes on without it", reason, self._printed)
        _close(client)
        client.kill()
        client.wait()


def _close(client: subprocess.Popen[bytes]) -> None:
    for stream in (client.stdin, client.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def read_key(path: Path) -> str:
    """Return the API key that a text file holds, without the space round it.

    Raises UsageError when the file is missing, unreadable, empty, or holds more than one word.
    """
    wanted = "log.wandb.credentials names a text file with the API key and nothing else"
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; {wanted}") from error
    except (ValueError, RuntimeError) as error:  # not UTF-8, or no such home
        raise UsageError(f"{path} cannot be read as text; {wanted}") from error
    words = text.split()
    if len(words) != 1:
        found = f"holds {len(words)} words" if words else "is empty"
        raise UsageError(f"{path} {found}; {wanted}")
    return words[0]


def has_key(environment: Mapping[str, str]) -> bool:
    """Tell whether wandb's client would find a key without asking: in the environment, its settings or netrc."""
    if environment.get("WANDB_API_KEY", "").strip() or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    folder = Path(environment.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    stored = ConfigParser(interpolation=None)
    with suppress(OSError, ValueError, ConfigParserError):
        stored.read(folder / "settings", encoding="utf-8")
    if stored.get("default", "api_key", fallback=""):
        return True
    server = environment.get("WANDB_BASE_URL") or stored.get("default", "base_url", fallback="")
    hosts = (urlsplit(server).netloc,) if server and urlsplit(server).netloc not in HOSTS else HOSTS
    named = environment.get("NETRC")
    for path in [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]:
        with suppress(OSError, netrc.NetrcParseError, ValueError):
            logins = netrc.netrc(path.expanduser())
            if any((entry := logins.authenticators(host)) and entry[2] for host in hosts):
                return True
    return False


def run_name(folder: Path, wanted: str | None) -> str:
    """Return the name of the run of a folder; a run within another one's folder bears both names."""
    if RunFolder(folder.parent).config.is_file():
        return f"{wanted or folder.parent.name}/{folder.name}"
    return wanted or folder.name


def _mode(options: Wandb) -> str:
    if options.mode is not None:
        return options.mode
    found = os.environ.get("WANDB_MODE", "").strip().lower() or "online"
    mode = {"dryrun": "offline"}.get(found, found)
    if mode not in ("online", "offline", "disabled"):
        raise UsageError(f"WANDB_MODE is {found!r}; here it is online, offline or disabled, or set log.wandb.mode")
    return mode


def _run_id(path: Path) -> str:
    """Return the id that the file holds; a new one is written into it."""
    with suppress(OSError):
        if found := path.read_text(encoding="utf-8").strip():
            return found
    letters = string.ascii_lowercase + string.digits
    # an agent of wandb's sweeps has chosen it already
    chosen = os.environ.get("WANDB_RUN_ID") or "".join(secrets.choice(letters) for _ in range(8))
    write_atomically(path, f"{chosen}\n".encode())
    return chosen


def _environment(folder: Path, *, with_key: bool) -> dict[str, str]:
    """Return the client's environment: this one, with every place that wandb writes to inside the run folder."""
    ours = {
        "WANDB_DIR": str(folder.parent),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_DATA_DIR": str(folder / "cache"),
        "WANDB_ARTIFACT_DIR": str(folder / "cache"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    # the settings say these; and another client's service in this process is not ours
    dropped = {"WANDB_SERVICE", "WANDB_MODE", "WANDB_RESUME"} | (set() if with_key else {"WANDB_API_KEY"})
    return {name: value for name, value in os.environ.items() if name not in dropped} | ours
