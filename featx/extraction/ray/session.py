"""Ray, started here or joined: the one module that imports it.

It sends nothing anywhere and writes nothing to the terminal: usage statistics and the dashboard are off, logs stay in
its own folder.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from featx.errors import ClusterError
from featx.extraction.ray.placement import Machine, WorkerPlacement
from featx.images.batches import usable_cores

LOCAL = "local"
_HERE = "auto"  # Ray's word for the cluster that runs on this machine
_ANSWER_SECONDS = 10.0  # within which a machine of the cluster accepts a connection
_PATIENCE = "20"  # seconds within which a cluster that was reached has to answer
_ATTEMPTS = "RAY_gcs_server_port_wait_time_s"
_OBJECT_STORE_BYTES = 100_000_000  # only names and reports travel; Ray's least is 75 MB
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_gcs_server_request_timeout_seconds": _PATIENCE,
}

_CONTROL = "control"  # the thread of a worker in which it can be spoken to while it computes

_logger = logging.getLogger(__name__)


class WorkerDied(Exception):  # noqa: N818 - what happened, which is no fault of the caller
    """The process or the machine of a worker is gone, or out of reach. The text says why, in one line."""


class Cluster:
    """Processes on other machines, as the coordinator sees them: an object there, calls to it, and their answers."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._kinds: dict[type, Any] = {}

    def machines(self) -> list[Machine]:
        """The machines that are alive."""
        found = []
        for node in self._ray.nodes():
            if node["Alive"]:
                cores, gpus = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
                found.append(Machine(node["NodeID"], node["NodeManagerHostname"], cores, gpus))
        return found

    def hire(self, kind: type, placement: WorkerPlacement, *arguments: Any) -> Any:
        """Make an object of this kind in a process of its own; returns at once, whether there is room or not yet."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": placement.threads,
            "num_gpus": placement.gpus,
            "max_restarts": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(placement.node, soft=False),
        }
        if kind not in self._kinds:
            self._kinds[kind] = self._ray.remote(concurrency_groups={_CONTROL: 1})(kind)
        return self._kinds[kind].options(**options).remote(*arguments)

    def call(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Ask for a method, after those asked for before; returns what `result` takes."""
        return getattr(worker, method).remote(*arguments)

    def interrupt(self, worker: Any, method: str) -> None:
        """Have a method run beside the one that runs."""
        getattr(worker, method).options(concurrency_group=_CONTROL).remote()

    def dismiss(self, worker: Any) -> None:
        """End the process of a worker, if it is there."""
        with suppress(Exception):  # it may be dead already, and its machine, too
            self._ray.kill(worker)

    def wait(self, answers: Sequence[Any], count: int, seconds: float) -> list[Any]:
        """Those of the answers that are there, as soon as there are `count`, or after some seconds."""
        ready: list[Any] = self._ray.wait(answers, num_returns=count, timeout=seconds)[0]
        return ready

    def result(self, answer: Any) -> Any:
        """What a method returned, or raised.

        Raises
        ------
        WorkerDied
            Before it was done.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            raise WorkerDied(self._why(error)) from error

    def _why(self, error: Exception) -> str:
        """What became of a worker, in few words: Ray's own are several lines with names of its insides."""
        errors = self._ray.exceptions
        if isinstance(error, errors.OutOfMemoryError) or "memory pressure" in str(error):
            return "out of memory"
        if isinstance(error, errors.ActorUnavailableError):
            return "out of reach"
        return last_line(error).partition(". ")[0]


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """The cluster at an address. A Ray that was started for it ends with the context.

    A Ray that this process is connected to already is used, whatever the address, and left as it is.

    address : "local" starts one on this machine; else HOST:PORT of a cluster that this machine is part of

    Raises
    ------
    ClusterError
        Ray is not installed, does not start, or nobody answers at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("Ray is not installed here, and --cluster computes on it. Type: pip install 'featx[ray]'")
    if address not in {LOCAL, _HERE}:
        _require_answer(address)  # Ray itself takes long to find out
    ray = _import_ray()
    if ray.is_initialized():
        yield Cluster(ray)
        return
    with _no_output(), _started(ray) if address == LOCAL else _joined(ray, address):
        yield Cluster(ray)


def last_line(error: BaseException) -> str:
    """What an error says in the end, without the lines that led to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300].rstrip(".")


def _import_ray() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    return ray


@contextmanager
def _started(ray: Any) -> Iterator[None]:
    """A Ray of this machine alone, guarded by a token that only this process and its children know; it leaves no file.

    It listens on the network as every Ray does.
    """
    # Without a token here Ray would write one into the home folder.
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    place = "/tmp" if os.path.isdir("/tmp") else None  # noqa: S108, PTH112 - names of sockets are at most 107 bytes long
    folder = tempfile.mkdtemp(prefix="featx-ray-", dir=place)
    try:
        with _explained("Ray does not start on this machine"), _no_messages():
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=folder,
                **_quiet(),
            )
        yield
    finally:
        ray.shutdown(wait_for_processes=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    try:
        with (
            _explained(
                f"The cluster at {address} cannot be joined. Run the command on one of its machines, with the same "
                "versions of Ray and Python"
            ),
            _no_messages(),
            _one_attempt(),
        ):
            ray.init(address=address, **_quiet())
        yield
    finally:
        ray.shutdown()


@contextmanager
def _no_output() -> Iterator[None]:
    """Keep what a thread of Ray prints, whatever is set about logs, out of the one JSON object on stdout."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def _no_messages() -> Iterator[None]:
    """Keep off the terminal what Ray's C++ writes to stderr as long as it has no log file."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _one_attempt() -> Iterator[None]:
    """Let Ray ask once, for half a minute, where it would ask twenty times: somebody listens there already."""
    before = os.environ.get(_ATTEMPTS)
    os.environ[_ATTEMPTS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ATTEMPTS]
        else:
            os.environ[_ATTEMPTS] = before


def _quiet() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": logging.ERROR}


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"Cannot connect to {address} ({getattr(error, 'strerror', None) or error}). Type ray start --head on one "
            "machine, and give the address that it prints."
        ) from error


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Ray's own errors, which are of many kinds and lines, as one sentence."""
    try:
        yield
    except Exception as error:  # Ray raises errors of gRPC, of sockets and of its own
        _logger.info("%s", error, exc_info=True)
        raise ClusterError(f"{what}: {last_line(error.__cause__ or error)}.") from error
