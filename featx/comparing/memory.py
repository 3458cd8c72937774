"""Measured results of a comparison, kept so that another run need not repeat them."""

from __future__ import annotations

from pathlib import Path

from featx.extraction.flow import Extraction, usual_rate
from featx.io.files import write_json
from featx.io.index import StatIndex
from featx.io.jsontypes import parse_json


class Memory:
    """What was measured of extractions and predictions, in a JSON file: another run must not measure it again.

    Losing the file costs time; a damaged one is begun anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            known = parse_json(path.read_text(encoding="utf-8"))
            self._passes: dict[str, list[float]] = dict(known["extractions"])
            self._speeds: dict[str, float] = dict(known["images_per_second"])
        except (OSError, ValueError, KeyError, TypeError):
            self._passes, self._speeds = {}, {}

    def seconds(self, data: str, done: Extraction, index: StatIndex) -> float | None:
        """How long it takes to extract all different readable images of a data set, by what was spent so far.

        What had been extracted before is reckoned by the rate that the store remembers.
        """
        key = f"{data}/{done.store.key.digest}"
        images, seconds = self._passes.get(key, (0, 0.0))
        if done.computed:
            images, seconds = images + done.computed, seconds + done.seconds
        elif not images:
            rate = usual_rate(index, done.store)
            images, seconds = (1, 1 / rate) if rate else (0, 0.0)
        if not images:
            return None
        if self._passes.get(key) != [images, seconds]:
            self._passes[key] = [images, seconds]
            self._write()
        return seconds / images * (done.computed + done.reused)

    def speed(self, digest: str) -> float | None:
        """Images per second of a bundle."""
        return self._speeds.get(digest)

    def remember_speed(self, digest: str, speed: float) -> None:
        """Keep the speed of a bundle."""
        self._speeds[digest] = speed
        self._write()

    def _write(self) -> None:
        write_json(self.path, {"extractions": self._passes, "images_per_second": self._speeds})
