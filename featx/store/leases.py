"""Advisory leases: how processes that extract into one store share the work.

A process names the digests it works on in a file of its own, and touches that file while it lives. Others leave those
digests alone until the file is gone or has not been touched for a minute. A lease only saves work: two rows with one
identity are harmless, so no one ever waits for a lock.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from featx.io.digest_arrays import DIGEST, DIGEST_BYTES
from featx.io.files import TEMPORARY, explain_os_error, make_folder, remove_quietly
from featx.io.jsontypes import parse_json
from featx.io.temporary import is_alive

EXPIRY = 60.0
HEARTBEAT = 10.0
# A process that hangs (a file server that is gone) has threads that do not: after this the heart stops with it.
PATIENCE = 600.0
_LOCK_PATIENCE = 5.0
_SUFFIX = ".lease"


class Leases:
    """The leases of one store, this process' own among them. Use as a context: on leaving, the own lease ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._sign = time.monotonic()
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Leases:
        make_folder(self.directory)
        self.claim(np.empty(0, DIGEST))
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._heart.join()
        remove_quietly(self.path)

    def claim(self, digests: np.ndarray) -> None:
        """Name the digests V32 (n,) this process works on, in place of those named before.

        Raises
        ------
        StoreError
            When the disk is full or the folder may not be written to.
        """
        self.give_sign()
        temporary = self.path.with_name(TEMPORARY + self.path.name)
        try:
            temporary.write_bytes(_owner() + b"\n" + digests.tobytes())
            os.replace(temporary, self.path)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        finally:
            remove_quietly(temporary)

    def give_sign(self) -> None:
        """Show that work goes on: without a sign for ten minutes the lease is left to expire."""
        self._sign = time.monotonic()

    def of_others(self) -> np.ndarray:
        """The digests that other living processes work on, sorted V32 (n,). Leases of the dead are removed.

        So are those with a time to come, which a copy, or a clock that was set back, has left: they would never expire.
        """
        now = time.time()
        with suppress(OSError):
            os.utime(self.path)
            now = self.path.stat().st_mtime  # the file server's clock
        claimed = [np.empty(0, DIGEST)]
        for path in self.directory.glob(f"*{_SUFFIX}"):
            if path == self.path or path.name.startswith(TEMPORARY):  # which one that stands still may go on to rename
                continue
            if not path.is_file():  # a pipe, which nothing may ever come out of
                continue
            try:
                owner, _, digests = path.read_bytes().partition(b"\n")
                if abs(now - path.stat().st_mtime) > EXPIRY or _is_dead(parse_json(owner)):
                    path.unlink(missing_ok=True)
                else:
                    claimed.append(np.frombuffer(digests[: len(digests) // DIGEST_BYTES * DIGEST_BYTES], DIGEST))
            except (OSError, ValueError, TypeError, LookupError, OverflowError):
                continue  # gone meanwhile, or no lease
        return np.unique(np.concatenate(claimed))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep others from claiming at the same moment; after five seconds go on without."""
        lock = self.directory / "claim.lock"
        give_up = time.monotonic() + _LOCK_PATIENCE
        held = False
        while not held and time.monotonic() < give_up:
            try:
                descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                held = True
                with open(descriptor, "wb") as file:
                    file.write(_owner())
            except FileExistsError:
                self._remove_old(lock)
                time.sleep(0.02)
            except OSError:  # a full disk: what is written next names it
                break
        try:
            yield
        finally:
            if held:
                remove_quietly(lock)

    def _remove_old(self, lock: Path) -> None:
        with suppress(OSError):
            if abs(time.time() - lock.stat().st_mtime) > _LOCK_PATIENCE or _is_killed(lock):
                lock.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            if time.monotonic() - self._sign < PATIENCE:
                with suppress(OSError):
                    os.utime(self.path)


def _owner() -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()


def _is_killed(lock: Path) -> bool:
    """Whether the process that holds a lock runs no more; one without a name may be about to write it."""
    try:
        return _is_dead(parse_json(lock.read_bytes()))
    except (ValueError, TypeError, LookupError):
        return False


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner ran on this machine and runs no more. Windows cannot ask without harm: there leases expire."""
    return owner["host"] == socket.gethostname() and not is_alive(int(str(owner["pid"])))
