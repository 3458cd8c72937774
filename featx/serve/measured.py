"""The accuracy that the page shows: one share, its images, and its reliability."""

from __future__ import annotations

from featx.bundle.manifest import Manifest
from featx.io.counting import counted
from featx.metrics.digits import outward
from featx.metrics.table import metric_key, metric_label, target_of_metrics
from featx.report.words import percent

_SURE = 0.03  # a narrower interval is worth a digit more, as in the verdict of a report


def measured_text(manifest: Manifest) -> str:
    """`accuracy 71 % on 45 test images (between 46 and 88 %, over 15 groups)`; on val where there is no test part."""
    for part, noun in (("test", "test image"), ("val", "validation image")):
        found = manifest.metrics_on(part)
        key = metric_key("accuracy", target_of_metrics(found.values))
        value, interval = found.get(key), (found.intervals or {}).get(key)
        if not found.images or value is None:
            continue
        digits = 0 if interval is None or interval[1] - interval[0] >= _SURE else 1
        over = "" if found.groups is None else f", over {counted(found.groups, 'group')}"
        between = "" if interval is None else " (between {} and {} %{})".format(*outward(interval, digits, 2), over)
        untested = "; there are no test images" if part == "val" else ""
        images = counted(found.images, noun)
        return f"{metric_label(key)} {percent(value, digits)} % on {images}{between}{untested}"
    return "measured in folds of train alone" if manifest.calibrated_on else "not measured: no image was held back"
