"""Run the benchmarks and write docs/performance.md, and the tables behind it, from what they found.

    python benchmarks/summarize.py                          run everything, then write
    python benchmarks/summarize.py --only heads cache       run these, then write from all results there are
    python benchmarks/summarize.py --no-run                 only write
    python benchmarks/summarize.py --no-run FILE.json ...   only write, from these files

The JSON of every run is kept in benchmarks/results/, with the repository, so that a part can be measured anew. A run
that needs something that is not on every machine (trained weights, thingsvision, torch) is left out unless it is named:
--weights, --fashion-mnist and --photographs, --thingsvision, --torch. The tables of what `next`, `enough` and `drift`
are worth are written into their pages.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import LIBRARIES, is_busy
from tables import write_tables

HERE = Path(__file__).parent
RUNS: dict[str, tuple[str, ...]] = {  # name of the result -> script and arguments; sections come in this order
    "extract-MobileNetV2": ("bench_extract.py", "MobileNetV2"),
    "extract-EfficientNetB0": ("bench_extract.py", "EfficientNetB0"),
    "extract-InceptionV3": ("bench_extract.py", "InceptionV3"),
    "extract-ResNet50": ("bench_extract.py", "ResNet50"),
    "thingsvision": ("bench_thingsvision.py",),
    "rivals": ("bench_rivals.py",),
    "inference": ("bench_inference.py",),
    "large-jpegs": ("bench_large_jpegs.py",),
    "decode": ("bench_decode.py",),
    "layers": ("bench_layers.py",),
    "precision": ("bench_precision.py",),
    "int8": ("bench_int8.py",),
    "tokens": ("bench_tokens.py",),
    "cluster": ("bench_cluster.py",),
    "cluster-kill": ("bench_cluster.py", "--kill"),
    "second-run": ("bench_second_run.py",),
    "cold-start": ("bench_cold_start.py",),
    "rows": ("bench_rows.py",),
    "heads": ("bench_heads.py", "--only", "search", "large"),
    "heads-svm": ("bench_heads.py", "--only", "svm", "--rounds", "1"),  # LinearSVC takes minutes
    "memory": ("bench_memory.py",),
    "cache": ("bench_cache.py",),
    "from-cache": ("bench_from_cache.py",),
    "serve": ("bench_serve.py",),
    "hdf5": ("bench_hdf5.py",),
    "next": ("bench_next.py",),
    "enough": ("bench_enough.py",),
    "drift": ("bench_drift.py", "--out", "bench-drift"),
    "active": ("bench_active.py",),
    "map": ("bench_map.py",),
}
ELSEWHERE = {"thingsvision": "thingsvision", "rivals": "torch"}  # name of the result -> option with its interpreter
REASONS: dict[str, dict[str, str]] = {  # name of the result -> goal, as the script names it -> why it was missed
    "extract-MobileNetV2": {
        "bfloat16: featx / keras, images per second": (
            "2.79, and 2.63 in a run before it; decoding and inference alone, the least that two cores can do, allowed "
            "3.0"
        ),
    },
    "serve": {
        "EfficientNetLite0: 16 clients / engine alone": (
            "a request costs a core 1.3 to 3 ms beside the network (HTTP, form, decoding, answer), and clients, "
            "server and network have the same two cores"
        ),
    },
}
NOTES: dict[str, str] = {  # name of the result -> what a reader has to know of its figures
    "serve": (
        "by a profile of 16 clients on 2026-11-29, an image took the server 6.1 ms of CPU, the engine alone 4.75. Of "
        "the Python part of the difference, routes of FastAPI and Starlette took 21 %, writing to sockets 17, handing "
        "over between threads 17, uvicorn 12, h11 11, wording the prediction 10, decoding 4, forms and JSON 2 each. "
        "httptools in place of h11 saved nothing that could be measured; with two workers an image took 6.5 ms"
    ),
    "int8": "accuracy was measured in a run of its own, while the machine was busy",
    "decode": (
        "of small files the nearest eighth saves a quarter of decoding, a tenth of an extraction with MobileNetV2 in "
        "bfloat16, and moves pixels by 1.8 of 255; from six megapixels on nothing is left to save. No option decodes "
        "faster than that"
    ),
    "inference": (
        "the practical peak is what stacks of 3x3 convolutions reached in the same run, one batch at a time; a network "
        "can exceed it"
    ),
}
HEAD = """# Performance

The goal of each benchmark and its result. [The tables](performance-tables.md) hold all figures behind them, the machine
and the versions. `make bench` measures everything again (hours, on a quiet machine) and writes both pages;
`python benchmarks/summarize.py --only NAME` measures a part. Do not edit this page.

Every script runs featx and the alternative in turn, each in its own process, and takes medians: seconds vary by half
between hours and machines, ratios within one run are more stable. CPU seconds include child processes, and the load of
the machine before the first case is recorded with the figures (in a series, that of the benchmark before); if more than
a quarter of the cores were busy with other work, compare CPU seconds.
"""
TABLES = """# Performance: the tables

Written by `benchmarks/summarize.py`, like [performance.md](performance.md), which explains them. Peak memory is the
largest resident size of a process, including mapped files. CPU seconds cover the whole process of a case, including
imports, preparation and children; seconds cover only what the case measures.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="Write from these instead of all in --results.")
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="NAME", help=f"Run only: {', '.join(RUNS)}.")
    parser.add_argument("--no-run", action="store_true", help="Run nothing.")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "performance.md")
    parser.add_argument("--weights", help="Trained weights of InceptionV3, for the precision.")
    parser.add_argument("--fashion-mnist", help="Folder of its four files, for the precision.")
    parser.add_argument("--photographs", nargs="+", help="Folders of photographs, for next and enough.")
    parser.add_argument("--thingsvision", metavar="PYTHON", help="Interpreter of an environment with thingsvision.")
    parser.add_argument("--torch", metavar="PYTHON", help="Interpreter of an environment with torch, timm and h5py.")
    arguments = parser.parse_args()
    failed = [] if arguments.no_run or arguments.files else run_all(arguments)
    files = arguments.files or [path for name in RUNS if (path := arguments.results / f"{name}.json").exists()]
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    tables = arguments.out.with_name(f"{arguments.out.stem}-tables.md")
    arguments.out.write_text(page(found, tables.name), encoding="utf-8")
    tables.write_text(behind(found), encoding="utf-8")
    write_tables(found, HERE.parent / "docs", arguments.out.parent)
    print(f"{len(found)} results -> {arguments.out}, {tables}")
    if failed:
        raise SystemExit(f"These failed: {', '.join(failed)}.")


def run_all(arguments: argparse.Namespace) -> list[str]:
    """Run one script after the other; returns the names of those that failed, whose older results are kept."""
    arguments.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.only or RUNS:
        command = list(RUNS[name])
        if name in ELSEWHERE:
            interpreter = vars(arguments)[ELSEWHERE[name]]
            if not interpreter:
                print(f"{name}: left out, --{ELSEWHERE[name]} is not given", file=sys.stderr)
                continue
            command.append(interpreter)
        if name == "int8" and arguments.weights:
            command += ["--inception", arguments.weights]
        if name == "int8" and arguments.fashion_mnist:
            command += ["--fashion-mnist", arguments.fashion_mnist]
        if name == "precision" and arguments.weights and arguments.fashion_mnist:
            command += ["--weights", arguments.weights, "--fashion-mnist", arguments.fashion_mnist]
        if name in ("next", "enough") and arguments.weights and arguments.fashion_mnist:
            command += ["--weights", arguments.weights, "--fashion-mnist", arguments.fashion_mnist]
            command += ["--photographs", *arguments.photographs] if arguments.photographs else []
        print(f"{name}: {' '.join(RUNS[name])}", file=sys.stderr, flush=True)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(HERE / command[0]), *command[1:]], stdout=subprocess.PIPE, text=True, check=False
        )
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        if done.returncode:
            failed.append(name)
            continue
        found = json.loads(done.stdout[done.stdout.index('{\n "claim"') :])  # libraries may have printed before it
        text = json.dumps(found, indent=1) + "\n"
        (arguments.results / f"{name}.json").write_text(text, encoding="utf-8")
    return failed


def page(found: dict[str, Any], tables: str) -> str:
    """What was to be reached, and what was: a list for each benchmark, and the reasons of what was missed."""
    goals = [goal for one in found.values() for goal in one["goals"].values()]
    parts = [HEAD.strip(), f"{sum(goal['met'] for goal in goals)} of {len(goals)} goals are met."]
    for name, one in found.items():
        if one["goals"]:
            parts.append(f"**[{one['claim']}]({tables}#{_anchor(one['claim'])})**")
            parts.append("\n".join(_line(name, goal, reached) for goal, reached in one["goals"].items()))
    without = [one["claim"] for one in found.values() if not one["goals"]]
    parts += [f"Figures without a goal: {'; '.join(without)}."] if without else []
    return "\n\n".join(parts) + "\n"


def _line(name: str, goal: str, one: dict[str, Any]) -> str:
    sign = "≥" if one["kind"] == "min" else "≤"
    text = (
        f"- {goal.replace('images per second', 'images/s')}: {_figure(one['reached'])} ({sign}{_figure(one['goal'])})"
    )
    if one["met"]:
        return text
    return f"{text} **missed**: {REASONS.get(name, {}).get(goal, 'the reason is not known yet')}"


def _anchor(title: str) -> str:
    """The anchor of a heading, as MkDocs and GitHub make it."""
    kept = re.sub(r"[^\w\s-]", "", title.lower()).strip()
    return re.sub(r"[\s-]+", "-", kept)


def behind(found: dict[str, Any]) -> str:
    """All figures: a section for each result."""
    return "\n\n".join(part.strip() for part in [TABLES, *(section(*item) for item in found.items())]) + "\n"


def section(name: str, found: dict[str, Any]) -> str:
    """One result: machine, medians with peak memory, other figures, goals."""
    parts = [f"## {found['claim']}", _machine(found["machine"]), _medians(found["results"])]
    if found.get("figures"):
        rows = [[key, _figure(figure)] for key, figure in found["figures"].items()]
        parts.append(_table(["", "figure"], rows))
    if found["goals"]:
        rows = [
            [goal, _bound(one), _figure(one["reached"]), "met" if one["met"] else "**missed**"]
            for goal, one in found["goals"].items()
        ]
        parts.append(_table(["", "goal", "reached", ""], rows))
    reasons = REASONS.get(name, {})
    parts += [
        f"Missed: {goal}. {reasons.get(goal, 'The reason is not known yet.')}"
        for goal, one in found["goals"].items()
        if not one["met"]
    ]
    parts += [_sentence(note) for note in [*filter(None, [NOTES.get(name)]), *found.get("notes", ())]]
    return "\n\n".join(parts)


def _machine(machine: dict[str, Any]) -> str:
    spent = f" {machine['cpu_seconds']:,.0f} CPU seconds in all." if "cpu_seconds" in machine else ""
    versions = [f"{name} {machine[name]}" for name in machine if name in LIBRARIES]
    load = machine.get("load")
    busy = "" if load is None else f", load {load:g} before it began"
    busy += " (busy: compare CPU seconds)" if load is not None and is_busy(load, machine["cores"]) else ""
    return (
        f"{machine['date']}: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB{busy}; "
        f"Python {machine['python']}, {', '.join(versions)}.{spent}"
    )


def _medians(results: dict[str, dict[str, Any]]) -> str:
    """One row per case; peak memory comes last. Columns that few cases have are left empty for the others."""
    names = dict.fromkeys(key for found in results.values() for key in found if key != "peak_mb")
    head = ["medians", *(name.replace("_", " ") for name in names), "peak memory, MB"]
    rows = [
        [case, *(_figure(found.get(name)) for name in names), _figure(found.get("peak_mb"))]
        for case, found in results.items()
    ]
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _figure(value: Any) -> str:
    """Four digits where there are that many; whole numbers as they are."""
    if value is None:
        return ""
    if isinstance(value, str | bool):
        return str(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}".rstrip("0") if abs(value) < 1 else f"{value:.4g}"


def _bound(goal: dict[str, Any]) -> str:
    kind = "at least" if goal["kind"] == "min" else "at most"
    return f"{kind} {goal['goal']:.4g}"


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text.endswith(".") else text + "."


if __name__ == "__main__":
    main()
