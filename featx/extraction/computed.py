"""The result of a computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Stages:
    """Seconds of each stage."""

    decode: float = 0.0
    infer: float = 0.0
    write: float = 0.0

    def __add__(self, other: Stages) -> Stages:
        return Stages(self.decode + other.decode, self.infer + other.infer, self.write + other.write)

    def __truediv__(self, workers: int) -> Stages:
        return Stages(self.decode / workers, self.infer / workers, self.write / workers)

    @property
    def slowest(self) -> str:
        """The name of the stage that took longest."""
        seconds = asdict(self)
        return max(seconds, key=lambda stage: seconds[stage])

    def as_json(self) -> dict[str, float]:
        """Rounded, by name."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class WorkerShare:
    """What one worker of a cluster did: where it ran, images that it computed, seconds that it took."""

    host: str
    pid: int
    images: int
    seconds: float

    def as_json(self) -> dict[str, str | int | float]:
        """One of `workers` in `featx extract --json`."""
        return {"host": self.host, "pid": self.pid, "images": self.images, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Computed:
    """What a computation did.

    rows : that passed the network
    unreadable : row -> reason, of those that turned out to be unreadable
    stages : seconds; on a cluster the mean of the workers
    workers : of a cluster; none where this process computed
    """

    rows: int = 0
    unreadable: Mapping[int, str] = field(default_factory=dict)
    stages: Stages = Stages()
    workers: tuple[WorkerShare, ...] = ()
