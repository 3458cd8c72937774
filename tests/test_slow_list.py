"""Every line of slow.txt is a test that exists, so that a test with another name does not become a fast one unseen."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_line_names_a_test() -> None:
    lines = (TESTS / "slow.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert lines == sorted(set(lines))
    for line in lines:
        file, _, name = line.partition("::")
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.M), line
