"""featx: extract features with a frozen backbone once, then fit classical heads on the cache.

    import featx

    featx.extract("flowers/", backbone="InceptionV3", layer="mixed7")      # what is not cached yet
    model = featx.fit_head("flowers/", backbone="InceptionV3", layer="mixed7", clf="svm")
    model.metrics["test"]["accuracy"]
    featx.load("runs/flowers").predict(["new.jpg"]).labels

Every option of the command line is a keyword of the same name. `featx.FeatureExtractor` is a transformer of
scikit-learn. Importing featx imports nothing else: a name's module is loaded when the name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featx.api import FeatureArrays, Model, Predictions, extract, fit_head, load, read_features
    from featx.errors import FeatxError
    from featx.transformer import FeatureExtractor

__version__ = "0.1.0"

__all__ = [
    "FeatureArrays",
    "FeatureExtractor",
    "FeatxError",
    "Model",
    "Predictions",
    "__version__",
    "extract",
    "fit_head",
    "load",
    "read_features",
]

_HOMES = {
    "FeatureArrays": "api",
    "Model": "api",
    "Predictions": "api",
    "extract": "api",
    "fit_head": "api",
    "load": "api",
    "read_features": "api",
    "FeatxError": "errors",
    "FeatureExtractor": "transformer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
