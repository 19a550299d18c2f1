"""Streams a camera with recordings while the wall clock of this process jumps, and says what it saw.

    LD_PRELOAD=... python clock_jumper.py '{"url": "rtsp://...", "sinks": [...], "clock": FILE}'

libfaketime reads by how much the clock is off from the file `clock`, which is written here.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import stamped
from live import every_frame_known
from witness import witnesses

from pixelrt.testing import fake_segmenter
from pixelrt.video.events import Event
from pixelrt.video.sinks import open_sink
from pixelrt.video.sources import open_source

JUMPS = ("+0", "+1d", "-1d", "+0")
FRAMES = 12
"""After each jump."""


def main(settings: dict[str, Any]) -> dict[str, Any]:
    clock = Path(settings["clock"])
    events: list[Event] = []
    rows: list[dict[str, float]] = []
    barks: list[float] = []
    segmenter = fake_segmenter(lambda frame: np.zeros(frame.shape[:2], np.uint8), size=stamped.SIZE)
    source = open_source(settings["url"])
    sinks = [open_sink(uri, source) for uri in settings["sinks"]]
    with (
        every_frame_known(),
        segmenter.stream(
            source, sinks=sinks, on_event=events.append, stall=5.0, watchdog=5.0, on_watchdog=barks.append
        ) as stream,
    ):
        (witness,) = witnesses(stream)
        results = iter(stream)
        for jump in JUMPS:
            clock.write_text(jump)
            for delivery in islice(results, FRAMES):
                stamp = stamped.read(delivery.frame.image)
                rows.append(
                    {
                        "index": delivery.frame.index,
                        "time_s": delivery.frame.time_s,
                        "age_ms": delivery.age_ms,
                        "stamp": -1 if stamp is None else stamp.index,
                        "wall_s": time.time(),
                        "steady_s": time.monotonic(),
                    }
                )
        states = stream.health.state
    figures = stream.statistics()
    (account,) = figures.sources
    return {
        "rows": rows,
        "barks": len(barks),
        "health": states,
        "events": [event.kind for event in events],
        "seconds": figures.seconds,
        "given": len(witness.given),
        "missing": [dataclasses.asdict(each) for each in witness.missing()],
        "captured": account.captured,
        "dropped": dict(account.dropped),
        "delivered": account.delivered,
        "fps": account.fps_delivered,
        "written": [sink.written for sink in figures.sinks],
        "sink_drops": [sink.dropped for sink in figures.sinks],
        "stages": {name: [stage.p50_ms, stage.max_ms] for name, stage in figures.stages.items()},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))))
