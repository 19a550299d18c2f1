"""The child process: runs one group of checks and ends. Started by `process`, never imported by it."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading

from pixelrt.self_test.checks import run_group
from pixelrt.self_test.process import groups_of
from pixelrt.self_test.protocol import Begun, Result, order_from_text, to_line


def main(descriptor: int, text: str) -> None:
    """Run the checks of an order, tell of them through a pipe, and end the process.

    An error that is no finding of a check ends the process as well, and the parent shows its traceback. The
    process is ended without clean-up of the interpreter: some versions of TensorRT crash in theirs.

    Args:
        descriptor: Of the pipe.
        text: The order.
    """
    faulthandler.enable(all_threads=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.set_inheritable(descriptor, False)

    def tell(message: Begun | Result) -> None:
        os.write(descriptor, to_line(message).encode())

    order = order_from_text(text)
    (group,) = (group for group in groups_of(order) if group.name == order.group)
    run_group(group, order, tell)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    """Wait for the end of standard input, which the parent holds open as long as it lives and wants us."""
    while os.read(0, 1):
        pass
    os._exit(1)
