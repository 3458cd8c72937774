"""Options written as text with a meaning: each is a str, parsed by its type when it is created.

As texts they stand in pipeline files, bundles and fingerprints as they were written.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, Self

from featx.errors import UsageError


class Text(str, ABC):
    """A text that its class can read.

    Raises
    ------
    UsageError
        A text that it cannot read.
    """

    def __new__(cls, text: str) -> Self:
        """Parse it once."""
        made = super().__new__(cls, text)
        made.check()
        return made

    @abstractmethod
    def check(self) -> None:
        """Raise UsageError where the text has no meaning."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        """How pydantic reads it."""
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(cls, handler(str))


class HiddenLayers(Text):
    """Hidden layers of a dense head: `256,0.3,128` is 256 units, dropout of 0.3, 128 units. Empty: none."""

    def check(self) -> None:
        """Raise UsageError at an item that is neither a whole number above 0 nor a fraction between 0 and 1."""
        self.layers  # noqa: B018 - reading is checking

    @property
    def layers(self) -> tuple[int | float, ...]:
        """Units (int) and shares of dropout (float), from the bottom up."""
        return tuple(self._layer(item.strip()) for item in self.split(",") if item.strip())

    @staticmethod
    def _layer(item: str) -> int | float:
        if item.isdecimal() and int(item) > 0:
            return int(item)
        share = _number(item)
        if not 0 < share < 1:
            raise UsageError(
                f"--hidden has units (whole numbers) and dropout (fractions below 1) like 256,0.3,128; got {item!r}."
            )
        return share


class ByteSize(Text):
    """A size like `800MB`, `1.5GB` or a plain number of bytes."""

    def check(self) -> None:
        """Raise UsageError where it is not a size."""
        if not 0 < self._bytes() < float("inf"):
            raise UsageError(f"A size is a number and a unit, like 800MB or 1.5GB; got {str(self)!r}.")

    @property
    def bytes(self) -> int:
        """How many bytes it is."""
        return int(self._bytes())

    def _bytes(self) -> float:
        found = re.fullmatch(r"\s*([\d.]+)\s*([kKmMgGtT]?)i?[bB]?\s*", self)
        if found is None:
            return -1.0
        power = "kmgt".index(found[2].lower()) + 1 if found[2] else 0
        return _number(found[1]) * 1000.0**power


class MemoryShare(Text):
    """How much of a GPU's memory is taken: `grow`, as it is needed, or a share like `0.5`."""

    def check(self) -> None:
        """Raise UsageError where it is neither."""
        if self.share is not None and not 0 < self.share <= 1:
            raise UsageError(
                f"finetune.gpu_memory is grow, or a share above 0 and up to 1, like 0.5; got {str(self)!r}."
            )

    @property
    def share(self) -> float | None:
        """The share; None: as it is needed."""
        return None if self == "grow" else _number(self)


class DeviceChoice(Text):
    """Which GPUs share each batch: `all`, a number of them, or `cpu` for none."""

    def check(self) -> None:
        """Raise UsageError where it is none of these."""
        if self not in {"all", "cpu"} and not re.fullmatch(r"[1-9]\d*", self):
            raise UsageError(f"finetune.devices is all, cpu, or a number of GPUs from 1 on; got {str(self)!r}.")

    @property
    def most(self) -> int | None:
        """How many GPUs, at most; None: all there are; 0: the CPU."""
        return None if self == "all" else 0 if self == "cpu" else int(self)


class ClusterAddress(Text):
    """Where Ray runs: `local`, or `HOST:PORT` of a cluster; `auto` is Ray's word for that of this machine."""

    def check(self) -> None:
        """Raise UsageError where it is none of these."""
        if self not in {"local", "auto"} and not re.fullmatch(r"[^\s/]+:\d{1,5}", self):
            raise UsageError(
                "features.cluster must be local or HOST:PORT, as ray start --head prints it, like 10.0.0.1:6379; "
                f"got {str(self)!r}."
                + (" Run featx on a machine of the cluster and leave out ray://." if "ray://" in self else "")
            )


def _number(text: str) -> float:
    """The number, or -1 where it is none."""
    try:
        return float(text)
    except ValueError:
        return -1.0
