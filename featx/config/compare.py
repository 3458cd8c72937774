"""The section compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featx.config.bounds import Count
from featx.config.option import Place, Section, option

Stage = Literal["head", "from-cache", "finetuned"]


@dataclass(frozen=True)
class CompareOptions(Section):
    """What `featx compare` goes through: every combination of these; an empty list stands for its section's value."""

    data: tuple[Place, ...] = option((), "Data sets, each as data.path (default: that).", metavar="DATA")
    backbone: tuple[Place, ...] = option(
        (), "Networks and .keras files, separated by commas (default: features.backbone).", metavar="A,B,..."
    )
    input_size: tuple[Count, ...] = option(
        (), "Sides in pixels of the square a network sees (default: features.input_size).", metavar="N,N,..."
    )
    layer: tuple[str, ...] = option(
        (),
        "A layer, or LAYER@POOLING; blocks: where a block ends or the network branches; all: wherever it can be cut; "
        "may be repeated (default: features.layer).",
        metavar="LAYER|blocks|all",
        repeated=True,
    )
    pooling: tuple[str, ...] = option(
        (),
        "avg, max, grid:N or flatten; may be repeated (default: features.pooling).",
        metavar="POOLING",
        repeated=True,
    )
    clf: tuple[str, ...] = option((), "Kinds of head, separated by commas (default: head.clf).", metavar="A,B,...")
    stage: tuple[str, ...] = option(
        ("head",),
        "head: a head on cached features; finetuned: trained end to end as well; from-cache: trained above "
        "finetune.from_cache as well.",
        metavar="STAGE,...",
    )
    override: dict[str, dict[str, object]] | None = option(
        None,
        "Other keys for one data set, backbone, kind of head or stage, by its name.",
        metavar="{NAME: {SECTION.KEY: VALUE}}",
    )
