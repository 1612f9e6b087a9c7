"""The stack on which this thread handles signals, kept as it is while another library makes one of its own.

OpenVINO's CPU plugin sets a stack when it is loaded and sets back the one before when it goes. Two plugins that go in
another order than they came leave a stack that is no longer there, and the next signal with a handler, such as that of
a child process that ends, kills the whole process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Set this thread's signal stack back at the end to what it was before.

    A plugin made within finds that the stack in use is not its own when it goes, and leaves it alone.
    """
    if not sys.platform.startswith("linux"):  # elsewhere the plugin sets none
        yield
        return
    sigaltstack = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        # refused by the kernel only where the processor now needs a larger one: then the new one has to stay
        sigaltstack(ctypes.byref(before), None)
