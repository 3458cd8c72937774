"""A server in this process on a free port, as `featx serve` makes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import pytest

from featx.bundle.bundle import Bundle
from featx.serve.limits import Limits
from featx.serve.server import listen, make_server, url
from featx.serve.service import Service, Terms


@contextmanager
def served(
    bundle: Bundle,
    terms: Terms | None = None,
    limits: Limits | None = None,
    key: str | None = None,
    port: int = 0,
    access_log: bool = False,
) -> Iterator[httpx.Client]:
    """A client of a server that ends with the block. port : 0: a free one."""
    service = Service(bundle, "lab/1", terms or Terms(), limits or Limits())
    service.start()
    listener = listen("127.0.0.1", port)
    server = make_server(service, listener, key, access_log=access_log)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # the environment may name a proxy, and 127.0.0.1 is not there for it
        with httpx.Client(base_url=url("127.0.0.1", listener), timeout=60, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        service.close()
        listener.close()


def several_labels(bundle: Bundle) -> Bundle:
    """The same network and head, taken for one that gives several labels."""
    manifest = replace(bundle.manifest, target="labels", thresholds=(0.5,) * len(bundle.classes))
    return replace(bundle, manifest=manifest)


@dataclass
class Gate:
    """An engine that lets a batch pass only when it is told to, and remembers how many images batches had."""

    engine: object

    def __post_init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.sizes: list[int] = []
        self.batch_size = self.engine.batch_size  # type: ignore[attr-defined]

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features, as soon as the gate is open."""
        self.sizes.append(len(images))
        self.entered.set()
        assert self.open.wait(60)
        return self.engine.infer(images)  # type: ignore[attr-defined]


def gated(bundle: Bundle) -> tuple[Bundle, Gate]:
    """A copy of a bundle whose engine is behind a gate, which is open."""
    copy = replace(bundle)
    gate = Gate(bundle.engine)
    gate.open.set()
    copy.__dict__["engine"] = gate  # what the property keeps
    return copy, gate


def same_answers(found: Any, wanted: Any) -> bool:
    """Whether two answers agree, numbers to 2e-6: a batch of another size may round the sixth digit differently."""
    if isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=1e-5, abs=2e-6)
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same_answers(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same_answers, found, wanted))
    return found == wanted
