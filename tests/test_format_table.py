"""The generated table of formats: some cells here, all of them by `python tests/format_cells.py` and as a slow test."""

from __future__ import annotations

import importlib.util
from functools import cache

import pytest
from format_cells import BAD, Cell, Outcome, cells, judge

STEP = 17  # shares no factor with the numbers of orders, layouts and compressions, so that all of them are met
LEAST = 8_880


@pytest.mark.parametrize("module", ["png", "imagecodecs", "tifffile"])
def test_the_other_decoders_are_there(module: str) -> None:
    assert importlib.util.find_spec(module), "without it `judge` has nothing to compare with: pip install -e '.[test]'"


@cache
def all_cells() -> list[Cell]:
    """Once for both tests, as what follows."""
    return list(cells())


@cache
def judge_some() -> list[Outcome]:
    return list(map(judge, all_cells()[::STEP]))


def test_some_of_every_format_are_right() -> None:
    outcomes = judge_some()
    assert len(outcomes) >= LEAST // STEP
    assert [f"{one.cell.format} {one.cell.name}: {one.note}" for one in outcomes if one.kind in BAD] == []


@pytest.mark.slow
def test_all_are_right() -> None:
    some = iter(judge_some())
    outcomes = [judge(cell) if number % STEP else next(some) for number, cell in enumerate(all_cells())]
    wrong = [f"{one.cell.format} {one.cell.name}: {one.note}" for one in outcomes if one.kind in BAD]
    assert wrong == []
    assert len(outcomes) >= LEAST
