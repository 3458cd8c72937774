"""The pipeline of a model that is trained on, where nothing is named: its own images, and its own run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from featx.api.options import FINETUNE, read_options
from featx.bundle.bundle import Bundle
from featx.config import Keys, Pipeline
from featx.io.urls import is_url
from featx.report.occasions import belongs_to_run
from featx.workflow.own_data import own_data

_ADVICE = "Give their folder or CSV as data."


def tuning_of_own_run(bundle: Bundle, options: Keys) -> Pipeline:
    """What options mean for the images of a bundle, whose run the result joins; of the default file, if it is of these.

    Raises
    ------
    UsageError
        Nothing says where the images are now; or an unsuitable option.
    """
    wanted = read_options(FINETUNE, options, "finetune")
    data = own_data(bundle, wanted, _ADVICE)
    if not _are_same(str(wanted.data.path), str(data.path)):  # what the file says is meant for other images
        wanted = read_options(FINETUNE, options, "finetune", data.path)
        data = own_data(bundle, wanted, _ADVICE)
    report = wanted.report
    if belongs_to_run(bundle.shown) and "name" not in options:
        run = bundle.shown.parent if bundle.shown.parent.name else bundle.shown.resolve().parent
        report = replace(report, name=run.name, runs=report.runs if "runs" in options else str(run.parent))
    return replace(wanted, data=data, report=report)


def _are_same(one: str, other: str) -> bool:
    if is_url(one) or is_url(other):
        return one == other
    return Path(one).resolve() == Path(other).resolve()
