"""A transformer of scikit-learn whose memory is the feature store.

Only `featx.FeatureExtractor` loads this module: its base classes are scikit-learn's, which takes most of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from featx.config import Pipeline
from featx.config.features import (
    Channels,
    Compression,
    EngineName,
    Interpolation,
    Levels,
    Precision,
    Resize,
    Storage,
)
from featx.config.route import keys_of_options, set_keys
from featx.dataset import ImageSet
from featx.dataset.folders import expand
from featx.dataset.memory import images_in_memory, several
from featx.errors import DataError
from featx.extraction.flow import Extraction, extract
from featx.io.counting import counted_of
from featx.io.remote import shared_remote
from featx.store.cache import Cache
from featx.store.stored import StoredFeatures


class FeatureExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images -> features of a frozen backbone, each image computed once.

    Features are kept in the feature store (`cache`), by the content of the image and everything that affects the
    values; a second transform of the same images, in this process or another, computes nothing. So it can be used in
    a `Pipeline` and in a `GridSearchCV` over `layer` without a `memory`. Give all layers of a grid at once to a first
    `fit` (`FeatureExtractor(layer=["mixed2", "mixed7"]).fit(X)`) and one pass of the network computes them all.

    X is one of

    - paths of image files: a list, a one-dimensional array, a column of pandas;
    - an array uint8 (n, height, width, 3), RGB, values from 0 to 255;
    - a list of such arrays of any sizes, or of Pillow's images.

    An image in memory is identified by the binary PPM file of its pixels, so an array and a file are the same image
    only if the file is that PPM file.

    The network is frozen: `transform` does not need `fit`, which only computes features and their number. y is ignored.

    Parameters
    ----------
    backbone, weights, ..., cluster_workers : as the options of `featx extract` with the same names, which
        `featx extract --help` explains. Several layers or poolings are concatenated; maps (pooling none) are
        flattened. A cluster takes files, not images in memory.

    Attributes
    ----------
    outputs_ : the names `layer@pooling` of the concatenated features
    n_features_out_ : number of features of an image; features_out_ : number of features of each output

    Examples
    --------
    >>> from pathlib import Path
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> import featx
    >>> files = sorted(Path("flowers").glob("*/*.png"))
    >>> classes = [file.parent.name for file in files]
    >>> model = make_pipeline(featx.FeatureExtractor(), LogisticRegression()).fit(files, classes)
    >>> model.score(files, classes)
    1.0
    """

    def __init__(
        self,
        backbone: str | Path = "EfficientNetLite0",
        *,
        weights: str | Path = "auto",
        weights_seed: int = 0,
        layer: str | Sequence[str] = (),
        pooling: str | Sequence[str] = (),
        input_size: int | None = None,
        resize: Resize = "auto",
        crop_share: float | None = None,
        interpolation: Interpolation = "auto",
        levels: Levels = "full",
        preprocessing: str = "auto",
        mean: float | Sequence[float] = (),
        std: float | Sequence[float] = (),
        scale: float | None = None,
        channels: Channels = "auto",
        prefix_tokens: int | None = None,
        imports: str | Sequence[str] = (),
        precision: Precision = "float32",
        storage: Storage = "float16",
        compression: Compression = "none",
        engine: EngineName = "auto",
        infer_batch: int = 0,
        workers: int = 0,
        cache: str | Path = "cache",
        cluster: str | None = None,
        cluster_workers: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.weights_seed = weights_seed
        self.layer = layer
        self.pooling = pooling
        self.input_size = input_size
        self.resize = resize
        self.crop_share = crop_share
        self.interpolation = interpolation
        self.levels = levels
        self.preprocessing = preprocessing
        self.mean = mean
        self.std = std
        self.scale = scale
        self.channels = channels
        self.prefix_tokens = prefix_tokens
        self.imports = imports
        self.precision = precision
        self.storage = storage
        self.compression = compression
        self.engine = engine
        self.infer_batch = infer_batch
        self.workers = workers
        self.cache = cache
        self.cluster = cluster
        self.cluster_workers = cluster_workers

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Compute the missing features of X, and the number of features.

        Raises
        ------
        FeatxError
            What `transform` raises.
        """
        extraction = self._extract(X)
        self.outputs_ = [output.name for output in extraction.outputs]
        self.features_out_ = [int(np.prod(table.shape[1:])) for table in _tables(extraction)]
        self.n_features_out_ = sum(self.features_out_)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return features, float32 (n, n_features_out_), a row for every image of X, in its order.

        Raises
        ------
        DataError
            X is not images, or an unreadable image, by name.
        UsageError, BackboneError
            An unsuitable parameter, such as a layer that the backbone does not have.
        """
        return np.concatenate([table.asarray() for table in _tables(self._extract(X))], axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002
        """`layer@pooling_0`, `layer@pooling_1` and so on: object (n_features_out_,).

        Raises
        ------
        NotFittedError
            Before `fit`, when their number is unknown.
        """
        check_is_fitted(self, "n_features_out_")
        columns = zip(self.outputs_, self.features_out_, strict=True)
        return np.array([f"{name}_{i}" for name, count in columns for i in range(count)], dtype=object)

    def _extract(self, X: Any) -> Extraction:
        images = _read(X)
        name = type(self).__name__
        keys = keys_of_options(("features",), self.get_params(), name)
        options = set_keys(Pipeline(), keys, name).features
        with Cache(options.cache) as cache:
            done = extract(images, options, cache)
        if done.bad:
            first = done.bad[0]
            raise DataError(
                f"{counted_of(len(done.bad), len(images), 'image')} cannot be read, but each needs a row: "
                f"{first['path']} ({first['reason']}). Leave out what featx check finds."
            )
        return done

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        tags.requires_fit = False
        tags.no_validation = True  # of tables; what is not an image is refused
        return tags


def _tables(extraction: Extraction) -> list[StoredFeatures]:
    """The features of every output, a row for each image."""
    rows = np.arange(len(extraction.images))
    return [extraction.features(output, rows) for output in extraction.outputs]


def _read(X: Any) -> ImageSet:
    """What X holds, as an image set.

    Raises
    ------
    DataError
        When it holds no images.
    """
    given = several(X)
    if isinstance(given, list) and given and all(isinstance(one, str | Path) for one in given):
        shared_remote().forget()
        return ImageSet("X", "X", tuple(expand(path) for path in given))
    return images_in_memory(given)
