"""One command, several processes: training that its config asks to be shared starts itself anew under torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from quincunx.config.sections.run import Compute
from quincunx.verbs.common import say_error


def start_several(compute: Compute, arguments: Sequence[str]) -> None:
    """Replace this process by torchrun with the same command line, where the config asks for several processes.

    Returns where it does not, where a launcher has started this process already, and, saying so, where `auto` finds
    fewer than two devices.

    Args:
        compute: Its `processes` and `device` are read.
        arguments: The command line after the program's name.
    """
    if compute.processes in (None, 1) or "WORLD_SIZE" in os.environ:
        return
    wanted = compute.processes
    if wanted == "auto":
        from torch import cuda

        wanted = cuda.device_count() if compute.device in ("auto", "cuda") else 0
        if wanted < 2:
            found = "one CUDA device" if wanted == 1 else "no CUDA device to share the work"
            say_error(f"note: compute.processes is auto, and there is {found}: training goes on in one process")
            return
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={wanted}", "-m", "quincunx"]
    _become([sys.executable, *launcher, *arguments])


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)
