"""Distribute work: how many workers on which machine, how many rows at a time. Pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featx.errors import ClusterError, UsageError
from featx.store.writer import PART_BYTES, PART_SECONDS

FIRST = 64  # rows of a worker's first reservations, which show its rate
# A reservation becomes one part of every table, unless it takes longer than a writer waits: hence a little less.
MOST_SECONDS = 0.8 * PART_SECONDS
LEAST_SECONDS = 2.0  # of the last reservations: so much earlier than the last worker the first one may end


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster: what Ray calls it, its name, and what it has for workers."""

    node: str
    host: str
    cores: int
    gpus: int = 0


@dataclass(frozen=True)
class WorkerPlacement:
    """Where one worker runs, and what of the machine is its own: `threads` cores, and a GPU or none."""

    node: str
    host: str
    threads: int
    gpus: int = 0


def place_workers(machines: Sequence[Machine], wanted: int, use_gpus: bool) -> list[WorkerPlacement]:
    """Share `wanted` workers out over the machines (0: as many as there are places); their cores are never oversold.

    A machine has a place for every GPU where GPUs are used and it has any, else for every core. Fewer workers than
    places are spread by the number of places, and divide the cores of their machine.

    Raises
    ------
    ClusterError
        No machine has a core to give.
    UsageError
        More workers than places.
    """
    places = {machine: _places(machine, use_gpus) for machine in machines}
    total = sum(places.values())
    if not total:
        raise ClusterError(
            "No machine of the cluster has a core for a worker. Start one with cores: ray start --address=HOST:PORT "
            "--num-cpus=N"
        )
    if wanted > total:
        raise UsageError(
            f"features.cluster_workers must be at most {total}, the places of this cluster (a core each, or a GPU); "
            f"got {wanted}."
        )
    taken = dict.fromkeys(machines, 0)
    for _ in range(wanted or total):
        emptiest = max(machines, key=lambda machine: places[machine] / (taken[machine] + 1))
        taken[emptiest] += 1
    return [one for machine in machines for one in _divide(machine, taken[machine], use_gpus)]


def _places(machine: Machine, use_gpus: bool) -> int:
    return min(machine.gpus, machine.cores) if use_gpus and machine.gpus else machine.cores


def _divide(machine: Machine, workers: int, use_gpus: bool) -> list[WorkerPlacement]:
    """The workers of one machine, each with its share of the cores."""
    gpus = int(use_gpus and machine.gpus > 0)
    return [
        WorkerPlacement(machine.node, machine.host, machine.cores // workers + (number < machine.cores % workers), gpus)
        for number in range(workers)
    ]


def reservation_size(remaining: int, rate: float | None, all_rates: float, row_bytes: float) -> int:
    """Rows of a worker's next reservation: a whole part, or its share of what remains, as long as that is no trifle.

    Half of what remains is shared out by rate each time ("guided self-scheduling", Polychronopoulos and Kuck 1987),
    so that reservations shrink towards the end and all workers end together.

    Parameters
    ----------
    remaining : rows that nobody has been given yet
    rate, all_rates : images per second of this worker, and of all together; None before its first report
    row_bytes : of an image's features in the widest table; 0 while unknown
    """
    if rate is None:
        return min(remaining, FIRST)
    part = rate * MOST_SECONDS
    if row_bytes:
        part = min(part, PART_BYTES / row_bytes)
    share = remaining * rate / (2 * max(all_rates, rate))
    size = min(part, max(share, rate * LEAST_SECONDS))
    return min(remaining, max(1, int(size)))
