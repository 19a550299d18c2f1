"""Whether memory stays steady: the resident set over 2,000 frames must not grow by more than 2 %.

python benchmarks/memory.py [--bundle DIR] [--frames 2000]
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import harness

import pixelrt
from pixelrt.machine import peak_memory_bytes, resident_memory_bytes
from pixelrt.terminal import say_table

_WARMUP = 100
_EVERY = 100
_LIMIT = 0.02


def main() -> int:
    """Run the frames, look at the resident set now and then."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=harness.BUNDLE)
    parser.add_argument("--frames", type=int, default=2000)
    harness.add_result_file(parser, "memory")
    arguments = parser.parse_args()
    before = harness.quiet_or_warn()
    frames = harness.drive(8)
    with pixelrt.load(arguments.bundle) as segmenter:
        for index in range(_WARMUP):
            segmenter(frames[index % len(frames)])
        samples = [(0, resident_memory_bytes() or 0)]
        for index in range(1, arguments.frames + 1):
            segmenter(frames[index % len(frames)]).resized()
            if index % _EVERY == 0 or index == arguments.frames:
                samples.append((index, resident_memory_bytes() or 0))
        info = dataclasses.asdict(segmenter.session.info)
    say_table((">frames", ">resident MB"), [(str(index), f"{size / 1e6:.2f}") for index, size in samples])
    growth = max(size for _, size in samples[1:]) / samples[0][1] - 1
    figures = {
        "bundle": harness.about(arguments.bundle),
        "session": info,
        "warmup_frames": _WARMUP,
        "resident_bytes": [{"frame": index, "bytes": size} for index, size in samples],
        "peak_bytes": peak_memory_bytes(),
    }
    bar = harness.Bar("largest growth of the resident set", round(growth, 5), _LIMIT, at_most=True)
    return harness.finish("memory", figures, [bar], before, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
