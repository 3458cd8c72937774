"""One folder of everything that goes wrong, through every stage: each file is used or named, none is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, call
from unkind import encode, gradient, make_unkind_folder


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, str | None]:
    """data/odd has the unkind files, data/plain ten good ones; name -> None, or words of why it cannot be read."""
    expected = make_unkind_folder(tmp_path / "data" / "odd")
    (tmp_path / "data" / "plain").mkdir()
    for shift in range(10):
        picture = encode(np.roll(gradient(), 6 * shift + 3, axis=1), "PNG")
        (tmp_path / "data" / "plain" / f"{shift}.png").write_bytes(picture)
    return expected


def check_bad(bad: list[dict[str, str]], expected: dict[str, str | None]) -> None:
    """Exactly the unreadable files are named, each with its own reason."""
    reasons = {Path(one["path"]).name: one["reason"] for one in bad}
    assert len(reasons) == len(bad)
    assert set(reasons) == {name for name, reason in expected.items() if reason is not None}
    for name, reason in reasons.items():
        assert str(expected[name]) in reason


def test_every_stage_uses_or_names_every_file(lab: Lab, tmp_path: Path, expected: dict[str, str | None]) -> None:
    readable = sum(reason is None for reason in expected.values())
    assert readable == 7
    options = ["--backbone", str(lab.root / "tiny.keras"), "--cache", str(lab.root / "cache")]

    check = call("check", "data", "--json", cwd=tmp_path)
    assert check.status == 0
    assert (check.json["images"], check.json["readable"]) == (len(expected) + 10, readable + 10)
    check_bad(check.json["bad"], expected)

    extract = call("extract", "data", *options, "--json", cwd=tmp_path)
    assert extract.status == 0
    found = extract.json
    assert found["images"] == readable + 10
    assert found["computed"] + found["reused"] + found["duplicates"] == found["images"]
    check_bad(found["bad"], expected)

    fit = call("fit-head", "data", *options, "--strength", "0.01", "--split", "0.6,0.2,0.2", "--json", cwd=tmp_path)
    assert fit.status == 0, fit.err
    assert 0 < fit.json["test"]["images"] < readable + 10

    predict = call("predict", "data", "--top", "2", "--json", cwd=tmp_path)
    assert predict.status == 0, predict.err
    check_bad(predict.json["bad"], expected)
    assert len(predict.json["predictions"]) == readable + 10
    assert {one["label"] for one in predict.json["predictions"]} <= {"odd", "plain"}
    named = {Path(one["path"]).name for one in predict.json["predictions"]}
    assert {name for name, reason in expected.items() if reason is None} <= named

    again = call("extract", "data", *options, "--json", cwd=tmp_path)
    assert again.json["computed"] == 0
    check_bad(again.json["bad"], expected)


def test_people_are_told_as_well(lab: Lab, tmp_path: Path, expected: dict[str, str | None]) -> None:
    bad = sum(reason is not None for reason in expected.values())
    check = call("check", "data", cwd=tmp_path)
    assert check.status == 0
    options = ["--backbone", str(lab.root / "tiny.keras"), "--cache", str(lab.root / "cache"), "--strength", "0.01"]
    fit = call("fit-head", "data", *options, cwd=tmp_path)
    assert fit.status == 0, fit.err
    predict = call("predict", "data", cwd=tmp_path)
    assert predict.status == 0
    for outcome in (check, fit, predict):
        assert f"{bad} images could not be read" in outcome.out
        assert "bomb.png: 400 megapixels" in outcome.out
        assert "mit Leerzeichen und Ümläuten.jpg:" not in outcome.out


def test_when_nothing_can_be_read_it_fails(lab: Lab, tmp_path: Path, expected: dict[str, str | None]) -> None:
    for name, reason in expected.items():
        if reason is None:
            (tmp_path / "data" / "odd" / name).unlink()
    options = ["--backbone", str(lab.root / "tiny.keras"), "--cache", str(lab.root / "cache")]
    extract = call("extract", "data", *options, cwd=tmp_path)
    assert extract.status == 0
    assert "No readable image of odd." in extract.err
    fit = call("fit-head", "data", *options, cwd=tmp_path)
    assert fit.status == 1
    assert "'odd'" in fit.sentence  # the class that is left without an image is named
    predict = call("predict", "data/odd", "--model", lab.bundle("logreg").path, "--json", cwd=tmp_path)
    assert predict.status == 1
    assert "None of the" in predict.sentence
    assert predict.json["predictions"] == []
