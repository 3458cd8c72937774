"""The tables of docs/next.md, docs/enough.md and docs/drift.md, from benchmarks/results/; by `summarize.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Results = dict[str, dict[str, Any]]
SETS = {
    "digits": "digits",
    "pixels": "Fashion-MNIST, pixels",
    "network": "Fashion-MNIST, network",
    "cifar10": "photographs of CIFAR-10",
    "hands": "photographs of hands",
    "hands, by person": "the same, nobody on both sides",
    "all": "all",
}
POINTS = (50, 200, 1000)
DRIFT = {
    "unchanged": "nothing (200 comparisons)",
    "blur 0.5": "blur, 0.5 pixels of 64",
    "blur 0.75": "0.75 pixels",
    "blur 1.0": "1 pixel",
    "jpeg 90": "JPEG, quality 90",
    "jpeg 70": "quality 70",
    "jpeg 50": "quality 50",
    "cast 0.02": "colour cast, 2 %",
    "cast 0.05": "5 %",
    "cast 0.1": "10 %",
    "new class 5 %": "a new class, 5 % of the images",
    "new class 10 %": "10 %",
    "new class 20 %": "20 %",
    "mix x 2": "one class 2 times as frequent",
    "mix x 3": "3 times",
    "mix x 5": "5 times",
}


def write_tables(found: dict[str, dict[str, Any]], docs: Path, out: Path) -> None:
    """Write the pages of `docs` to `out`, with the tables of the results that there are."""
    for name, table in TABLES.items():
        if name in found:
            page = f"{name}.md"
            text = (docs / page).read_text(encoding="utf-8")
            (out / page).write_text(fill(text, name, table(found[name]["results"])), encoding="utf-8")


def fill(text: str, name: str, table: list[list[str]]) -> str:
    """A page with a table between its two marks."""
    before, mark, rest = text.partition(f"<!-- {name}, by benchmarks/summarize.py -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    if not mark or not end:
        raise SystemExit(f"The page of {name} has no place for its table.")
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    written = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{before}{mark}\n{written}\n\n{end}{after}"


def enough(results: Results) -> list[list[str]]:
    """A row for each set."""
    head = ["images", "trials", "accuracy inside its band", "median width", "gain inside its band"]
    head += ["closer than a flat forecast", "mean error", "of a flat forecast"]
    rows = [
        [
            name,
            f"{one['trials']}",
            _percent(one["inside"]),
            _points(one["median_width"]),
            _percent(one["gain_inside"]),
            _percent(one["closer_than_flat"]),
            _points(one["mean_error"]),
            _points(one["mean_error_flat"]),
        ]
        for key, name in SETS.items()
        if (one := results.get(key))
    ]
    return [head, *rows]


def following(results: Results) -> list[list[str]]:
    """Three rows for each set: the gains of `next` and of `margin`; bold where the goal is met."""
    rows = []
    for key, name in SETS.items():
        chosen, margin = results.get(f"{key}: next"), results.get(f"{key}: margin")
        if chosen and margin:
            for point in POINTS:
                text, rival = _gain(chosen, point), margin[f"gain_at_{point}"]
                met = chosen[f"gain_at_{point}"] == "all" or chosen[f"gain_at_{point}"] >= 0.95 * _number(rival)
                shown = f"**{text.partition(' ')[0]}**{''.join(text.partition(' ')[1:])}" if met else text
                rows.append([name if point == POINTS[0] else "", f"{point:,}", shown, _gain(margin, point)])
    return [["images", "labels", "`featx next`", "`margin`"], *rows]


def _number(gain: float | str) -> float:
    """What is asked for at least: as much as random choice."""
    return 1.0 if isinstance(gain, str) else max(1.0, gain)


def _gain(one: dict[str, Any], point: int) -> str:
    value, least, most = (one[f"gain_at_{point}{end}"] for end in ("", "_least", "_most"))
    if value == least == most:
        return str(value)
    return f"{_two(value)} ({_two(least)} to {_two(most)})"


def _two(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def drift(results: Results) -> list[list[str]]:
    """A row for each change: the share of comparisons with an alarm."""
    tests = ("features", "distance", "confidence", "classes")
    rows = [
        [name, f"**{_percent(results[key]['all'], key)}**", *(_percent(results[key][test], key) for test in tests)]
        for key, name in DRIFT.items()
    ]
    return [["changed", "alarms", *(f"`{test}`" for test in tests)], *rows]


def _percent(share: float, key: str = "") -> str:
    """A whole number that promises no more than was found."""
    return f"{100 * share:.1f} %" if key == "unchanged" else f"{int(100 * share + 1e-9)} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


TABLES: dict[str, Callable[[Results], list[list[str]]]] = {"next": following, "enough": enough, "drift": drift}
