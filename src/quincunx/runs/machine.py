"""What a run notes about where it ran: machine, versions, commit, command; never a secret.

Of the command line, values that look like secrets are masked; of the environment, only a few harmless variables are
kept. Nothing in here can fail a run.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

PACKAGES = (
    "quincunx",
    "torch",
    "numpy",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "hydra-core",
    "matplotlib",
    "rich",
    "transformers",
    "tokenizers",
    "tensorboard",
    "wandb",
    "peft",
    "datasets",
    "faiss-cpu",
    "pytorch-metric-learning",
    "bm25s",
)
VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
MASK = "***"

_SECRET_WORDS = frozenset({"auth", "credential", "key", "passphrase", "passwd", "password", "pwd", "secret", "token"})
_GLUED = ("apikey", "accesskey", "password", "passwd", "secret", "authtoken", "accesstoken", "apitoken", "hftoken")
_HARMLESS = frozenset({"", "true", "false", "null", "none", "~"})
_NAMED = re.compile(r"""(?P<name>[\w.-]+)(?P<middle>["']?\s*(?:=|:(?!//))\s*["']?)(?P<value>[^\s,;&{}[\]"']+)""")
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)[^/\s@]*@")
_KNOWN = re.compile(
    r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-|AKIA|AIza|eyJ)[\w./+=-]{10,}"
    r"|(?<=Bearer )\S+|(?<=bearer )\S+"
)


def environment(folder: Path | None = None) -> dict[str, Any]:
    """Return where and with what this process runs, as plain containers; what cannot be found out is None.

    Packages are looked up without being imported. Accelerators are the caller's to add.

    Args:
        folder: The working folder whose git commit is noted; None is the present one.
    """
    folder = Path.cwd() if folder is None else folder
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    for name, value in sorted(os.environ.items()):
        if name.startswith("QUINCUNX_"):
            variables[name] = MASK if _is_secret(name) else _mask(value)
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "working_folder": str(folder),
        "command": mask_secrets(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "count": os.cpu_count(), "usable": _usable_cpus()},
        "memory_bytes": _memory(),
        "packages": _packages(),
        "git": _git(folder),
        "variables": variables,
    }


def mask_secrets(arguments: Sequence[str]) -> list[str]:
    """Return command-line arguments with the values of anything that looks like a secret replaced by `***`.

    Masked are the values of names whose last word is key, token, password, secret or the like (`--hub-token X`,
    `tracker.api_key=X`, `{"password": "X"}`), passwords inside addresses, and tokens of well-known forms anywhere.
    Plurals are no secrets: `chunking.tokens=4096` stays.
    """
    masked: list[str] = []
    after_name = False
    for argument in arguments:
        if after_name and not argument.startswith("--"):
            masked.append(argument if argument.lower() in _HARMLESS else MASK)
            after_name = False
            continue
        name, equals, _ = argument.partition("=")
        after_name = not equals and argument.startswith("-") and _is_secret(name)
        masked.append(_mask(argument))
    return masked


def _mask(text: str) -> str:
    name, equals, value = text.partition("=")
    if equals and re.fullmatch(r"-{0,2}[\w.-]+\+?", name) and _is_secret(name):
        return text if value.lower() in _HARMLESS else f"{name}={MASK}"
    text = _NAMED.sub(_mask_named, text)
    text = _ADDRESS.sub(rf"\g<scheme>{MASK}@", text)
    return _KNOWN.sub(MASK, text)


def _mask_named(match: re.Match[str]) -> str:
    if not _is_secret(match["name"]) or match["value"].lower() in _HARMLESS:
        return match[0]
    return match["name"] + match["middle"] + MASK


def _is_secret(name: str) -> bool:
    last = name.rstrip("+").rpartition(".")[2]
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", last)]
    if words[-1:] == ["id"]:  # access_key_id
        words.pop()
    return bool(words) and (words[-1] in _SECRET_WORDS or "".join(words).endswith(_GLUED))


def _packages() -> dict[str, str]:
    from importlib import metadata

    found: dict[str, str] = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError, KeyError, OSError, ValueError):
            found[name] = metadata.version(name)
    return found


def _git(folder: Path) -> dict[str, Any] | None:
    commit = _ask(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if not commit:
        return None
    # No file-system monitor: it is a program that the repository names. No optional locks: looking writes nothing.
    quiet = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false"]
    changed = _ask([*quiet, "status", "--porcelain", "--untracked-files=no"])
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _cpu_model() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        return _ask(["sysctl", "-n", "machdep.cpu.brand_string"])
    return platform.processor() or platform.machine() or None


def _usable_cpus() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS has no affinity
        return None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _ask(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
