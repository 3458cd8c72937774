"""The training log and what is called while a network trains: every form of a row, and the order of the calls."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from featx.training.callbacks import Callback, ModelCheckpoints, Recording, ReportLines, TensorBoard
from featx.training.log import COLUMNS, Epoch, TrainingLog

WATCHED = TrainingLog((Epoch(0.5, 0.75, 0.1 + 0.2, 0.5, 1e-3, 1.5), Epoch(0.25, 1.0, 1 / 3, 1.0, 5e-4, 0.5)), best=1)
ALONE = TrainingLog((Epoch(0.5, 0.75, None, None, 1e-3, 1.5),), best=1)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_log_counts_epochs_from_one_and_knows_its_best() -> None:
    assert len(WATCHED) == 2
    assert WATCHED.last is WATCHED.epochs[1]
    assert not WATCHED.ends_with_best
    assert ALONE.ends_with_best
    assert (len(TrainingLog()), TrainingLog().best) == (0, 0)


def test_a_column_has_a_number_per_epoch_and_none_without_validation_rows() -> None:
    assert WATCHED.column("val_loss") == [0.1 + 0.2, 1 / 3]
    assert (ALONE.column("val_loss"), ALONE.column("loss")) == ([], [0.5])


@pytest.mark.parametrize("log", [WATCHED, ALONE, TrainingLog()])
def test_json_gives_the_log_back_to_the_last_bit(log: TrainingLog) -> None:
    assert TrainingLog.from_json(json.loads(json.dumps(log.as_json())), log.best) == log


def test_json_has_the_keys_of_a_bundle() -> None:
    keys = ["epoch", "loss", "accuracy", "val_log_loss", "val_accuracy", "learning_rate", "seconds"]
    assert [list(row) for row in WATCHED.as_json()] == [keys, keys]
    assert [row["epoch"] for row in WATCHED.as_json()] == [1, 2]
    assert list(ALONE.as_json()[0]) == [key for key in keys if not key.startswith("val_")]


@pytest.mark.parametrize("log", [WATCHED, ALONE])
def test_rows_as_featx_0_1_0_kept_them_are_read(log: TrainingLog) -> None:
    assert TrainingLog.from_json([asdict(epoch) for epoch in log.epochs], log.best) == log


@pytest.mark.parametrize(
    "rows",
    [
        [WATCHED.as_json()[1]],  # begins with the second epoch
        [{"epoch": 1, "loss": 0.5}],
        ["loss"],
        [None],
        None,
        [{**WATCHED.as_json()[0], "loss": "low"}],
    ],
)
def test_what_is_no_log_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"not a training log|could not convert"):
        TrainingLog.from_json(rows)


def test_csv_has_every_column_and_holes_without_validation_rows(tmp_path: Path) -> None:
    for log in (WATCHED, ALONE):
        log.write_csv(tmp_path / "training.csv")
        rows = read(tmp_path / "training.csv")
        assert [list(row) for row in rows] == [["epoch", *COLUMNS]] * len(log)
        assert [row["epoch"] for row in rows] == [str(number) for number in range(1, len(log) + 1)]
        assert [row["val_loss"] for row in rows] == [str(epoch.val_loss or "") for epoch in log.epochs]


def test_lines_report_what_is_resumed_and_every_epoch() -> None:
    lines: list[str] = []
    reporter = ReportLines(lines.append, epochs=9)
    reporter.on_train_begin(TrainingLog())
    assert lines == []
    reporter.on_train_begin(WATCHED)
    reporter.on_epoch_end(None, WATCHED)
    reporter.on_epoch_end(None, ALONE)
    ReportLines(lines.append).on_epoch_end(None, WATCHED)
    assert lines == [
        "Going on after epoch 2.",
        "epoch 2/9: loss 0.2500, val accuracy 1.0000 (0.5 s)",
        "epoch 1/9: loss 0.5000 (1.5 s)",
    ]


class Saved:
    """Stands for a Keras model."""

    def save(self, path: Path) -> None:
        Path(path).write_text("network")


@pytest.mark.parametrize(("kind", "kept"), [("all", [1, 2, 3]), ("best", [3]), ("none", [])])
def test_networks_of_all_epochs_of_the_best_or_of_none_are_kept(tmp_path: Path, kind: Any, kept: list[int]) -> None:
    checkpoints = ModelCheckpoints(tmp_path / "models", kind)
    for number, best in ((1, 1), (2, 1), (3, 3)):
        checkpoints.on_epoch_end(Saved(), TrainingLog(WATCHED.epochs[:1] * number, best))
    assert sorted(path.name for path in tmp_path.glob("models/*")) == [f"epoch-{number:03}.keras" for number in kept]


def test_the_state_comes_after_what_may_be_done_again_and_before_what_is_reported(tmp_path: Path) -> None:
    state, models = Callback(), ModelCheckpoints(tmp_path, "all")
    kinds = [type(one) for one in Recording(tensorboard=tmp_path, models=models).callbacks(state)]
    assert kinds == [TensorBoard, ModelCheckpoints, Callback, ReportLines]
    assert [type(one) for one in Recording().callbacks(state)] == [Callback, ReportLines]


def test_each_of_several_fits_has_folders_of_its_own(tmp_path: Path) -> None:
    whole = Recording(tmp_path / "state", tmp_path / "curves")
    fit = whole.of("fold")
    assert (fit.state, fit.tensorboard) == (tmp_path / "state" / "fold", tmp_path / "curves" / "fold")
    assert Recording().of("fold") == Recording()
    (tmp_path / "state" / "fold").mkdir(parents=True)
    whole.discard_state()
    assert not (tmp_path / "state").exists()
    Recording().discard_state()
