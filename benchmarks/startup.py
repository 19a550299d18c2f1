"""How long it takes until the first mask, each time in a process of its own.

`import pixelrt` must take at most 50 ms, and `pixelrt.load` to the first mask at most 2 s.

python benchmarks/startup.py [--bundle DIR] [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_IMPORT_LIMIT_MS = 50
_FIRST_MASK_LIMIT_S = 2
_IMPORT = "import time; t = time.perf_counter(); import pixelrt; print((time.perf_counter() - t) * 1e3)"


def main() -> int:
    """Measure in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", dest="out", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        sys.stdout.write(json.dumps(_first_mask(arguments.bundle)) + "\n")
        return 0
    return _measure(arguments)


def _first_mask(bundle: Path) -> dict[str, Any]:
    """Only what a user's program imports is imported here, when it would import it."""
    import numpy as np

    import pixelrt

    frame = np.random.default_rng(7).integers(0, 256, (720, 1280, 3), np.uint8)
    began = time.perf_counter()
    segmenter = pixelrt.load(bundle)
    loaded = time.perf_counter()
    segmenter(frame)
    done = time.perf_counter()
    from pixelrt.machine import peak_memory_bytes

    info = segmenter.session.info
    return {
        "load_s": loaded - began,
        "first_mask_s": done - began,
        "peak_bytes": peak_memory_bytes(),
        "session": f"{info.backend} {info.version}, {info.device}, {info.precision}",
    }


def _measure(arguments: argparse.Namespace) -> int:
    import harness

    from pixelrt.terminal import say

    before = harness.quiet_or_warn()
    bundle = str(arguments.bundle or harness.BUNDLE)
    rounds: list[dict[str, Any]] = []
    for _ in range(arguments.rounds):
        import_ms = float(
            subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True).stdout
        )
        began = time.perf_counter()
        result = harness.child("startup.py", "--child", "--bundle", bundle)
        rounds.append({"import_ms": import_ms, **result, "process_s": time.perf_counter() - began})
    medians = {
        name: round(statistics.median(each[name] for each in rounds), 4)
        for name in ("import_ms", "load_s", "first_mask_s", "process_s", "peak_bytes")
    }
    say(f"{rounds[0]['session']}; medians of {len(rounds)} processes")
    say(f"  import pixelrt                     {medians['import_ms']:.1f} ms")
    say(f"  pixelrt.load                       {medians['load_s']:.2f} s")
    say(f"  pixelrt.load to the first mask     {medians['first_mask_s']:.2f} s")
    say(f"  whole process, Python's own start  {medians['process_s']:.2f} s")
    say(f"  peak memory                        {medians['peak_bytes'] / 1e6:.0f} MB")
    bars = [
        harness.Bar("import pixelrt, ms", medians["import_ms"], _IMPORT_LIMIT_MS, at_most=True),
        harness.Bar("load to first mask, s", medians["first_mask_s"], _FIRST_MASK_LIMIT_S, at_most=True),
    ]
    figures = {"bundle": harness.about(Path(bundle)), "medians": medians, "rounds": rounds}
    return harness.finish("startup", figures, bars, before, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
