"""featx: extract features with a frozen backbone once, then fit classical heads on the cache.

    import featx

    featx.extract("flowers/", backbone="InceptionV3", layer="mixed7")      # what is not cached yet
    model = featx.fit_head("flowers/", backbone="InceptionV3", layer="mixed7", clf="svm")
    model.metrics["test"]["accuracy"]
    featx.load("runs/flowers").predict(["new.jpg"]).labels

Every option of the command line is a keyword of the same name. `featx.FeatureExtractor` is a transformer of
scikit-learn. Importing featx imports nothing heavy: a name's module is loaded when the name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.io.lazy import import_on_use

if TYPE_CHECKING:
    from featx.api.arrays import FeatureArrays, iter_features, read_features
    from featx.api.functions import enough, extract, fit_head, map, models, next  # noqa: A004
    from featx.api.loading import load
    from featx.api.model import Model
    from featx.api.predictions import Predictions
    from featx.api.searching import similar
    from featx.api.studies import check, compare, look
    from featx.api.transformer import FeatureExtractor
    from featx.errors import FeatxError

__version__ = "0.2.0"  # the one place: setup.cfg reads it

__all__ = [
    "FeatureArrays",
    "FeatureExtractor",
    "FeatxError",
    "Model",
    "Predictions",
    "__version__",
    "check",
    "compare",
    "enough",
    "extract",
    "fit_head",
    "iter_features",
    "load",
    "look",
    "map",
    "models",
    "next",
    "read_features",
    "similar",
]

__getattr__ = import_on_use(
    __name__,
    {
        "api.arrays": ("FeatureArrays", "iter_features", "read_features"),
        "api.functions": ("enough", "extract", "fit_head", "map", "models", "next"),
        "api.loading": ("load",),
        "api.model": ("Model",),
        "api.predictions": ("Predictions",),
        "api.searching": ("similar",),
        "api.studies": ("check", "compare", "look"),
        "api.transformer": ("FeatureExtractor",),
        "errors": ("FeatxError",),
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
