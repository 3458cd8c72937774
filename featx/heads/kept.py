"""Fitted scikit-learn classifiers as files: by skops if possible, otherwise as a pickle.

skops writes what an object holds, and builds only types that are trusted: those that it knows to be harmless, trees of
scikit-learn, which are checked (`trees`), and the classes of packages that somebody names with --import, or that were
installed as the plug-in of the head. A pickle runs whatever code it holds, so one is loaded only by the process that
wrote it, or where somebody names joblib, too; it never leaves its run (`featx bundle pack` refuses it).
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from featx.errors import BundleError, HeadError
from featx.heads.trees import CHECKED, require_sound_trees
from featx.io.digests import digest_bytes
from featx.io.modules import import_named, named_modules
from featx.io.shown import error_line

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_logger = logging.getLogger(__name__)

PICKLER = "joblib"  # what is named to let a pickle be loaded
_HARMLESS = CHECKED | {
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "decimal.Decimal",
    "fractions.Fraction",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
}
_written: set[bytes] = set()  # digests of the pickles that this process wrote


@dataclass(frozen=True)
class Kept:
    """A fitted classifier as bytes.

    kind : estimator, written by skops, or pickle
    imports : packages whose classes it is made of, which have to be named to load it
    reason : why it is a pickle; empty where it is none
    """

    kind: Literal["estimator", "pickle"]
    content: bytes
    imports: tuple[str, ...] = ()
    reason: str = ""


def keep(estimator: Pipeline, path: str) -> Kept:
    """The file of a fitted classifier.

    path : the dotted path of its class

    Raises
    ------
    HeadError
        It can be kept in neither way.
    """
    from skops.io import dumps, get_untrusted_types, loads

    try:
        content: bytes = dumps(estimator)
        types = get_untrusted_types(data=content)
        _require_same(estimator, loads(content, trusted=types))
        return Kept("estimator", content, _packages(types))
    except Exception as error:  # what code of somebody else holds, and raises, is not to be foreseen
        reason = f"{type(error).__name__}: {error_line(error)}".rstrip(".")
    return _pickled(estimator, path, reason)


def _pickled(estimator: Pipeline, path: str, reason: str) -> Kept:
    import joblib

    buffer = io.BytesIO()
    try:
        joblib.dump(estimator, buffer, compress=3)
        _require_same(estimator, joblib.load(io.BytesIO(buffer.getvalue())))
    except Exception as error:  # as above
        line = error_line(error)
        raise HeadError(
            f"{path} cannot be kept: neither skops ({reason}) nor a pickle ({line}) gives it back as it was. Let it "
            "hold numbers, texts, arrays, lists and other classifiers alone."
        ) from error
    _written.add(digest_bytes(buffer.getvalue()))
    root = path.partition(".")[0]
    return Kept("pickle", buffer.getvalue(), () if root == "sklearn" else (root,), reason)


def _require_same(estimator: Pipeline, again: Pipeline) -> None:
    """Raise ValueError where what was read answers otherwise than what was written."""
    from featx.heads.estimators import estimator_logits

    scaler = estimator[0]
    spread = np.where(np.isfinite(scaler.scale_), scaler.scale_, 0)
    rows = scaler.mean_ + spread * np.random.default_rng(0).standard_normal((16, len(spread)))
    rows = rows.astype(np.float32)
    if not np.array_equal(estimator_logits(estimator, rows), estimator_logits(again, rows), equal_nan=True):
        raise ValueError("reading it back gives different predictions")


def _packages(types: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({name.partition(".")[0] for name in types if name not in _HARMLESS}))


def load_kept(path: Path, trusted: Sequence[str] = ()) -> Pipeline:
    """A classifier that skops wrote.

    trusted : packages whose classes are built without being named, those of a plug-in

    Raises
    ------
    BundleError
        Types of a package that nobody named, or that it does not define.
    ModuleError
        A package that cannot be imported.
    """
    from skops.io import get_untrusted_types, load

    unknown = [name for name in get_untrusted_types(file=path) if name not in _HARMLESS]
    named_modules().allow(trusted)
    missing = [name for name in unknown if not named_modules().hold(name.rpartition(".")[0])]
    if missing:
        raise BundleError(
            f"{path} holds types that are not trusted ({', '.join(missing[:3])}). Do not use this bundle"
            f"{_unless_trusted(_packages(missing))}."
        )
    for name in unknown:
        _require_own(path, name)
    with _other_versions_named():
        estimator: Pipeline = load(path, trusted=[*unknown, *_HARMLESS])
    require_sound_trees(estimator)
    return estimator


@contextmanager
def _other_versions_named() -> Iterator[None]:
    """One sentence where another scikit-learn reads a head than fitted it, in place of a warning for every part."""
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        yield
    versions = []
    for one in caught:
        if isinstance(one.message, InconsistentVersionWarning):
            versions.append((one.message.original_sklearn_version, one.message.current_sklearn_version))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if versions:
        _logger.warning(
            "The head was fitted with scikit-learn %s and is read with %s. If its answers differ, install the first.",
            *versions[0],
        )


def _unless_trusted(packages: Sequence[str]) -> str:
    """How to load it all the same; nothing where it would take Python's own modules, which can do anything."""
    if any(name in sys.stdlib_module_names for name in packages):
        return ""
    named = " ".join(f"--import {name}" for name in packages)
    return (
        f", unless you trust where it comes from: then add {named} (in Python: featx.load(..., imports=...)), and its "
        "code is run"
    )


def _require_own(path: Path, name: str) -> None:
    """Refuse what a named package holds without defining it: `os.system` is no class of a module that imports it."""
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_named(module), attribute)
    except AttributeError as error:
        raise BundleError(f"{path} needs {name}, which {module} does not have here: another version of it.") from error
    if str(getattr(found, "__module__", "")).partition(".")[0] != module.partition(".")[0]:
        raise BundleError(f"{path} holds types that are not trusted ({name}, which {module} imports from elsewhere).")


def load_pickled(path: Path, imports: Sequence[str]) -> Pipeline:
    """A classifier that is kept as a pickle.

    imports : the packages of its classes

    Raises
    ------
    BundleError
        Nobody has named joblib and these packages, and this process has not written it.
    """
    import joblib

    content = path.read_bytes()
    wanted = [name for name in (*imports, PICKLER) if not named_modules().hold(name)]
    if wanted and digest_bytes(content) not in _written:
        raise BundleError(
            f"{path} is a pickle, which runs any code that it holds when it is loaded. If you made this bundle "
            f"yourself, add --import {' --import '.join(wanted)} (in Python: featx.load(..., imports=...))."
        )
    for name in imports:
        import_named(name)
    estimator: Pipeline = joblib.load(io.BytesIO(content))  # what was digested, whatever the file holds by now
    return estimator
