"""A computation: the requested rows, how to compute them, and which are missing."""

from __future__ import annotations

from dataclasses import dataclass

from featx.extraction.job import Job
from featx.extraction.planning import Plan
from featx.extraction.request import Request


@dataclass(frozen=True)
class Computation:
    """The rows that are asked for, with what they are made, and which of them the store lacks."""

    request: Request
    job: Job
    plan: Plan
