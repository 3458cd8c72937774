"""The table of sections. Each module is imported on demand, since few commands need all options."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any, cast

from featx.config.option import Section

_PLACES = {  # section -> its class, in the order of a pipeline file
    "data": "data:DataOptions",
    "features": "features:FeaturesOptions",
    "augment": "augment:AugmentOptions",
    "head": "head:HeadOptions",
    "finetune": "finetune:FinetuneOptions",
    "baseline": "baseline:BaselineOptions",
    "compare": "compare:CompareOptions",
    "next": "active:NextOptions",
    "enough": "active:EnoughOptions",
    "drift": "active:DriftOptions",
    "map": "active:MapOptions",
    "report": "results:ReportOptions",
    "tracking": "results:TrackingOptions",
}


class _Sections(Mapping[str, type[Section]]):
    def __getitem__(self, name: str) -> type[Section]:
        module, kind = _PLACES[name].split(":")
        return cast("type[Section]", getattr(importlib.import_module(f"featx.config.{module}"), kind))

    def __contains__(self, name: object) -> bool:
        return name in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


SECTIONS: Mapping[str, type[Section]] = _Sections()


def listed_options(section: type[Section]) -> list[Field[Any]]:
    """The options of a section in the order people read them: its own, then those of training, which it shares."""
    training = next((kind for kind in section.__mro__ if kind.__name__ == "TrainingOptions"), None)
    shared = {entry.name for entry in fields(cast("Any", training))} if training is not None else set()
    return sorted(fields(section), key=lambda entry: entry.name in shared)
