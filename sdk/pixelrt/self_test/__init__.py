"""`pixelrt doctor --self-test`: the essential checks of a GPU, its libraries and PixelRT, on this machine.

Every group of checks runs in a child process: neither a crash of native code nor a hang ends the report.
"""

from __future__ import annotations

from pixelrt.self_test.process import run_self_test, titles
from pixelrt.self_test.protocol import Begun, Order, Result, plain, summary
from pixelrt.self_test.text import report_lines

__all__ = ["Begun", "Order", "Result", "plain", "report_lines", "run_self_test", "summary", "titles"]
