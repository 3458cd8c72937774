"""The sections report and tracking: where results go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featx.config.option import Place, Section, option

Tracker = Literal["none", "mlflow"]
PlotFormat = Literal["png", "svg", "pdf"]
ExportFormat = Literal["savedmodel", "onnx", "openvino", "litert", "keras"]
ExportPrecision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class ReportOptions(Section):
    """Where results go, and whether a page shows them."""

    name: str | None = option(
        None, "Name of the run; results go to RUNS/NAME (default: the pipeline's or the data's name)."
    )
    runs: Place = option("runs", "Folder of results.", metavar="DIR")
    plots: PlotFormat = option("png", "Files of plots: PNG alone, or SVG or PDF beside it, for print.")
    html: bool = option(True, "Write report/index.html with the results.")
    keep_paths: bool = option(
        False, "Keep folders, which may name people, in the commands and options that pages, packs and cards show."
    )


@dataclass(frozen=True)
class TrackingOptions(Section):
    """The tracker that every bundle is reported to: its options, figures, epochs, report and model card."""

    tracker: Tracker = option(
        "none", "Experiment tracker that every new bundle is logged to; mlflow needs featx[mlflow]."
    )
    tracking_uri: str | None = option(
        None,
        "MLflow tracking URI: sqlite:///FILE, or a server's address (default: MLFLOW_TRACKING_URI, else "
        "mlflow.db here).",
        metavar="URI",
    )
    experiment: str | None = option(None, "MLflow experiment (default: the name of the run).")
