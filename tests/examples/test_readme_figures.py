"""The figures of the README are those of the results that are committed beside the benchmarks."""

from __future__ import annotations

import json
import re
from statistics import median
from typing import Any

import pytest
from commands import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASURED = README[README.index("\n## Measured\n") : README.index("\n## Limits")]
LIVE = {
    "`segmenter.stream`": "pixelrt",
    "OpenCV and OpenVINO, with a thread that keeps the newest frame": "opencv_grabber",
    "OpenCV and OpenVINO, the plain loop": "opencv",
    "OpenVINO Model API's AsyncPipeline": "model_api",
}
CONTROL = "the network alone, beside another process that decodes and draws"


def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_bytes())
    return found


def table(beginning: str) -> dict[str, list[str]]:
    """The rows under a header that begins so: the other cells, by the first one."""
    lines = MEASURED[MEASURED.index(f"\n{beginning}") + 1 :].split("\n\n")[0].splitlines()
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {first: rest for first, *rest in rows}


def check(cell: str, value: float) -> None:
    """That a cell is a value, rounded to as many digits as it shows."""
    digits = cell.replace(",", "")
    half = 0.5 * 10.0 ** -len(digits.partition(".")[2])
    assert abs(float(digits) - value) <= half * (1 + 1e-6), f"the README says {cell}, measured was {value}"


def middle(rounds: list[dict[str, Any]], *keys: str) -> float:
    for key in keys:
        rounds = [each[key] for each in rounds]
    return median(rounds)


def test_segmentation() -> None:
    found = results("cpu_overhead")
    medians_ms = found["medians_ms"]
    cells = [(row[0], *re.findall(r"\d+\.\d+", row[1])) for row in table("| from a 720x1280").values()]
    ratios = [bar["value"] for bar in found["bars"]]
    wanted = [
        [medians_ms["pixelrt default"]],
        [medians_ms["pixelrt bfloat16"], ratios[1], medians_ms["bare bfloat16"]],
        [medians_ms["pixelrt float32"], ratios[0], medians_ms["bare float32"]],
        [medians_ms["model_api"], ratios[3]],
        [medians_ms["handwritten"], ratios[2]],
    ]
    for row, values in zip(cells, wanted, strict=True):
        for cell, value in zip(row, values, strict=True):
            check(cell, value)


def test_generation() -> None:
    networks = results("generation")["networks"]
    columns = ("onnxruntime", "bare float32", "pixelrt float32", "bare bfloat16", "pixelrt bfloat16")
    rows = [line for line in MEASURED.splitlines() if re.match(r"\| (\S+, .*: 1|16) \|", line)]
    for number, row in enumerate(rows):
        network, batch = list(networks)[number // 2], ("1", "16")[number % 2]
        assert number % 2 or row.startswith(f"| {network}, ")
        medians_ms = {who: each[batch]["median_ms"] for who, each in networks[network]["contenders"].items()}
        torch, *others = [cell.strip(" *") for cell in row.strip("|").split("|")[1:]]
        check(torch, min(medians_ms["torch"], medians_ms["torch-nhwc"]))
        for cell, who in zip(others, columns, strict=True):
            check(cell, medians_ms[who])
    assert len(rows) == 2 * len(networks)


def test_bars_that_generators_miss_are_named() -> None:
    missed = [bar["value"] for bar in results("generation")["bars"] if bar["verdict"] == "MISSED"]
    told = re.search(r"misses it\s+\w+\s+times: (.*?)\.\s", MEASURED, re.DOTALL)
    assert told and sorted(re.findall(r"\((\d\.\d\d)\)", told[1])) == sorted(f"{each:.2f}" for each in missed)


@pytest.mark.parametrize("name", ["cpu_overhead", "isolation", "live_latency", "memory", "soak", "startup"])
def test_other_bars_are_met_or_named(name: str) -> None:
    missed = [bar["name"] for bar in results(name)["bars"] if bar["verdict"] == "MISSED"]
    assert [bar for bar in missed if bar not in MEASURED] == []


def test_live() -> None:
    rounds = results("live_latency")["rounds"]
    shown = table("| | seconds 10 to 20")
    assert shown.keys() == LIVE.keys()
    for who, cells in shown.items():
        watched = rounds[f"live: {LIVE[who]}"]
        windows = (("first", "p50_ms"), ("last", "p50_ms"), ("last", "p99_ms"), ("fps",))
        for cell, keys in zip(cells, windows, strict=True):
            check(cell, middle(watched, *keys))
    bar = results("live_latency")["bars"][0]
    told = re.search(r"two inference times and a frame, (\d+) ms;.* is (\d+)\.", MEASURED)
    assert told
    check(told[1], bar["limit"])
    check(told[2], bar["value"])


def test_films() -> None:
    found = results("live_latency")
    control = {CONTROL: "control: network beside another process"}
    tasks = {who: f"file: {name}" for who, name in LIVE.items()} | control
    for who, cells in table("| frames/s of a film").items():
        ratios = [pair["ratio"] for each in found["rounds"][tasks[who]] for pair in each["pairs"]]
        middles = middle(found["rounds"][tasks[who]], "ratio")
        for cell, value in zip(cells, (middles, min(ratios), max(ratios)), strict=True):
            check(cell, value)


def test_overlays() -> None:
    rounds = results("live_latency")["rounds"]
    drawn = ("pixelrt", "pixelrt with legend", "opencv", "supervision")
    for (cell,), who in zip(table("| overlay at").values(), drawn, strict=True):
        check(cell, middle(rounds[f"overlay: {who.split()[0]}"], who, "median_ms"))


def test_half_an_hour() -> None:
    found = results("soak")
    told = re.search(r"Of ([\d,]+) frames sent ([\d,]+) were delivered,.* other (\d+) are", MEASURED)
    order, (source,) = found["order"], found["stream"]["sources"]
    assert told
    for cell, value in zip(told.groups(), (order["sent"], order["delivered"]), strict=False):
        check(cell, value)
    check(told[3], source["lost"]["replaced"] + source["dropped"]["newer"])
    assert order["sent"] - order["delivered"] == int(told[3])
    first, *_, last = found["by_minute"]
    names = ("rss_mb", "anonymous_mb", "p50_ms", "p99_ms", "threads", "descriptors")
    for cells, name in zip(table("| half an hour").values(), names, strict=True):
        for cell, value in zip(cells, (first[name], last[name], last[name] / first[name]), strict=True):
            check(cell, value)


def test_the_rest() -> None:
    shown = [re.findall(r"\d[\d.,]*", row[0]) for row in table("| what |").values()]
    startup, rounds = results("startup")["medians"], results("isolation")["rounds"]
    more_ms = [each["there_ms"] - each["here_ms"] for each in rounds]
    check(shown[0][0], startup["import_ms"])
    check(shown[1][0], startup["first_mask_s"])
    assert float(shown[2][0]) / 100 >= results("memory")["bars"][0]["value"]
    handed_ms = results("isolation")["medians"]["handing_over_ms"]
    for cell, value in zip(shown[3], (min(more_ms), max(more_ms), handed_ms), strict=True):
        check(cell, value)
