"""The training log: one row per epoch, in every form in which it is written."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Self

from featx.io.files import atomic_path


@dataclass(frozen=True)
class Epoch:
    """A row of the log.

    Attributes
    ----------
    loss, accuracy : means over the batches as they were trained on, penalties added to the loss, as Keras has them
    val_loss, val_accuracy : on the validation rows; None without any
    learning_rate : of the epoch
    seconds : how long it took
    """

    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float


COLUMNS = tuple(column.name for column in fields(Epoch))
_JSON_NAMES = {"val_loss": "val_log_loss"}  # in JSON, where the metrics of a part have this name


@dataclass(frozen=True)
class TrainingLog:
    """The epochs of a training so far.

    epochs : the rows, the first epoch first
    best : the number, from 1 on, of the epoch whose weights are kept; 0 before the first
    """

    epochs: tuple[Epoch, ...] = ()
    best: int = 0

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def last(self) -> Epoch:
        """The row of the latest epoch."""
        return self.epochs[-1]

    @property
    def ends_with_best(self) -> bool:
        """Whether the latest epoch is the best so far."""
        return self.best == len(self)

    def column(self, name: str) -> list[float]:
        """Return one of `COLUMNS`, a number per epoch; empty where there were no validation rows."""
        return [value for epoch in self.epochs if (value := getattr(epoch, name)) is not None]

    def as_json(self) -> list[dict[str, float]]:
        """Return a dict per epoch, which begins with its number; without validation rows it has no such keys."""
        return [
            {"epoch": number}
            | {_JSON_NAMES.get(name, name): float(value) for name, value in asdict(epoch).items() if value is not None}
            for number, epoch in enumerate(self.epochs, 1)
        ]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, float]], best: int = 0) -> Self:
        """Return the log that `as_json` gave these rows. featx 0.1.0 kept its states with the names of the columns.

        Raises
        ------
        ValueError
            Rows that are none of a log.
        """
        try:
            return cls(tuple(_epoch_from_json(number, row) for number, row in enumerate(rows, 1)), best)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a training log: {error!r}") from error

    def write_csv(self, path: Path) -> None:
        """Write `epoch`, from 1 on, and `COLUMNS`, empty where there were no validation rows."""
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *COLUMNS])
            writer.writerows([number, *astuple(epoch)] for number, epoch in enumerate(self.epochs, 1))


def _epoch_from_json(number: int, row: Mapping[str, float]) -> Epoch:
    if row.get("epoch", number) != number:
        raise ValueError(f"not a training log: epoch {row['epoch']} in place of {number}")
    values = {name: row.get(_JSON_NAMES.get(name, name), row.get(name)) for name in COLUMNS}
    missing = [name for name, value in values.items() if value is None and not name.startswith("val_")]
    if missing:
        raise ValueError(f"not a training log: no {', '.join(missing)} in epoch {number}")
    return Epoch(**{name: None if value is None else float(value) for name, value in values.items()})  # type: ignore[arg-type]  # the missing ones are refused
