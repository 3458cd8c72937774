"""The images that a fine-tune can be measured on: none that its original bundle has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset import TEST, VAL
from featx.errors import DataError
from featx.io.counting import agreeing, counted, counted_of
from featx.runs.prepared import Prepared


def leave_out_seen(bundle: Bundle, prepared: Prepared) -> tuple[Prepared, tuple[str, ...]]:
    """The same without val images that the bundle was trained on and test images that it was trained on or chosen by.

    There are such where the bundle comes from another split, or its head was fitted again on train and val. Returned
    with a sentence that has their number, if there are any.

    Raises
    ------
    DataError
        No val image is left.
    """
    sample, seen = prepared.sample, bundle.seen()
    spent = {
        "val": (sample.split == VAL) & seen.trained_on(sample.digests),
        "test": (sample.split == TEST) & seen.used(sample.digests),
    }
    if not (left_out := spent["val"] | spent["test"]).any():
        return prepared, ()
    counts = sample.counts()
    if counts["val"] and spent["val"].sum() == counts["val"]:
        raise DataError(_no_val_left(bundle, counts["val"]))
    parts = [counted_of(int(rows.sum()), counts[part], f"{part} image") for part, rows in spent.items() if rows.any()]
    number = int(np.count_nonzero(left_out))
    note = (
        f"{' and '.join(parts)} {agreeing(number, 'is', 'are')} left out: {bundle.name} was trained or chosen on "
        f"{agreeing(number, 'it', 'them')}."
    )
    return replace(prepared, sample=sample.without(np.asarray(left_out))), (note,)


def _no_val_left(bundle: Bundle, count: int) -> str:
    if bundle.manifest.head.refitted:
        return (
            f"{bundle.shown} was fitted again on train and val (--refit), so none of the {counted(count, 'val image')} "
            "can choose the best epoch. Fit a head without --refit, and start --from that."
        )
    return (
        f"{bundle.shown} was trained on all {counted(count, 'val image')}, so none can choose the best epoch. Start "
        "--from a bundle of this split, or take the --seed and --split that it was made with."
    )
