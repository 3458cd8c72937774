"""How a notebook shows a model: its figures as a table."""

from __future__ import annotations

from featx.bundle.bundle import Bundle
from featx.io.counting import counted
from featx.io.notebook import MOST_ROWS, table_html
from featx.metrics.digits import ends_text, figure_text
from featx.metrics.table import metric_label, shown_keys


def model_html(bundle: Bundle) -> str:
    """The figures of a bundle as a table of HTML."""
    manifest = bundle.manifest
    about = f"{bundle.shown}: {manifest.head.clf} on {', '.join(manifest.output_names)}"
    parts = {part: manifest.metrics_on(part) for part in ("val", "test")}
    rows: list[tuple[str, str, str | None]] = [
        (f"images in {part}", f"{one.images:,}", None) for part, one in parts.items() if one.images
    ]
    for part, one in parts.items():
        for key in shown_keys(manifest.target, brief=True) if one.images else ():
            value, interval = one.get(key), (one.intervals or {}).get(key)
            shown = None if value is None else figure_text(value, one.images)
            ends = None if interval is None else ends_text(interval, one.images)
            rows.append((f"{metric_label(key)} on {part}", shown or "not defined", ends))
    classes = ", ".join(bundle.classes[:MOST_ROWS]) + (" ..." if len(bundle.classes) > MOST_ROWS else "")
    rows.insert(0, (counted(len(bundle.classes), "class", "classes"), classes, None))
    return table_html(about, ("what", "value", "95 % interval"), rows, len(rows))
