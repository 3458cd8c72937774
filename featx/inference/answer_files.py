"""Predictions as a file: CSV, JSON or Parquet, written as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from featx.inference.predict import Prediction, Unread
from featx.io.csvtext import csv_line
from featx.io.files import atomic_path
from featx.io.jsontypes import Json
from featx.io.shown import as_json, as_utf8
from featx.io.suffixes import import_pyarrow, suffix_of

SUFFIXES = (".csv", ".json", ".parquet")
_LINE_END = "\r\n"  # of CSVs, as csv writes it
_ROWS = 10_000  # in a row group

Answer = Prediction | Unread
Write = Callable[[Answer], None]


@dataclass(frozen=True)
class Columns:
    """What there is of every answer besides its label and confidence.

    distance : how far it is from all training images; sets : a set of classes; several : labels, of which an image has
        any number
    """

    distance: bool = False
    sets: bool = False
    several: bool = False


def require_writable(out: Path) -> str:
    """The suffix of a file of predictions; refuse what there is no format for, or no pyarrow."""
    suffix = suffix_of(out, SUFFIXES, "Predictions")
    if suffix == ".parquet":
        import_pyarrow(out)
    return suffix


def write_answers(out: Path, answers: Iterable[Answer], columns: Columns = Columns()) -> tuple[int, list[Unread]]:
    """Write answers while they come, in the format of the file's suffix; return how many were read, and the others.

    Raises
    ------
    UsageError
        A suffix that is none of `SUFFIXES`.
    """
    writer = {".csv": _csv_writer, ".json": _json_writer, ".parquet": _parquet_writer}[require_writable(out)]
    read, unread = 0, list[Unread]()
    with atomic_path(out) as temporary, writer(temporary, columns) as write:
        for answer in answers:
            write(answer)
            if isinstance(answer, Prediction):
                read += 1
            else:
                unread.append(answer)
    return read, unread


def _label(answer: Prediction) -> str:
    return answer.label if answer.labels is None or answer.unknown else "|".join(answer.labels)


@contextmanager
def _csv_writer(path: Path, columns: Columns) -> Iterator[Write]:
    """Write `path,label,confidence,reason`, and before the reason `distance` and `set`; several labels with `|`."""
    more = [*(["distance"] if columns.distance else []), *(["set"] if columns.sets else [])]
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(csv_line(["path", "label", "confidence", *more, "reason"], _LINE_END))

        def write(answer: Answer) -> None:
            if isinstance(answer, Unread):
                cells = [answer.path, "", "", *[""] * len(more), answer.reason]
            else:
                distance = [] if answer.distance is None else [f"{answer.distance:.6f}"]
                inside = [] if answer.set is None else ["|".join(answer.set)]
                cells = [answer.path, _label(answer), f"{answer.confidence:.6f}", *distance, *inside, ""]
            file.write(csv_line(cells, _LINE_END))

        yield write


@contextmanager
def _json_writer(path: Path, columns: Columns) -> Iterator[Write]:  # noqa: ARG001 - each answer has its own keys
    """Write the object that `featx predict --json` prints."""
    bad: list[Unread] = []
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"predictions": [')
        between = "\n"

        def write(answer: Answer) -> None:
            nonlocal between
            if isinstance(answer, Unread):
                bad.append(answer)
            else:
                file.write(between + as_json(answer.as_json()))
                between = ",\n"

        yield write
        file.write('\n], "bad": ' + as_json([asdict(one) for one in bad]) + "}\n")


@contextmanager
def _parquet_writer(path: Path, columns: Columns) -> Iterator[Write]:
    """Write the columns of the CSV; sets and several labels are lists, and what is not known is null."""
    arrow = import_pyarrow(path)
    texts = arrow.list_(arrow.string())
    fields = [("path", arrow.string()), ("label", arrow.string()), ("confidence", arrow.float64())]
    fields += [("labels", texts)] if columns.several else []
    fields += [("distance", arrow.float64())] if columns.distance else []
    fields += [("set", texts)] if columns.sets else []
    schema = arrow.schema([*fields, ("reason", arrow.string())])
    rows: list[dict[str, Json]] = []
    with arrow.parquet.ParquetWriter(path, schema) as file:

        def flush() -> None:
            if rows:
                file.write_table(arrow.Table.from_pylist(rows, schema))
                rows.clear()

        def write(answer: Answer) -> None:
            label = {"label": _label(answer)} if isinstance(answer, Prediction) else {}
            rows.append(asdict(answer) | label | {"path": as_utf8(answer.path)})
            if len(rows) == _ROWS:
                flush()

        yield write
        flush()
