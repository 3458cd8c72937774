"""Section options as keywords of the public functions.

For readers and `help`, `takes` shows them in the signature and the docstring; for editors and type checkers they stand
in `featx.api.keywords`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from featx.api.checked import Function, checked
from featx.config import SECTIONS, Keys, Pipeline, help_of, listed_options
from featx.config.applicable import require_applicable
from featx.config.pipeline import start_pipeline
from featx.config.route import keys_of_options, option_names, set_keys
from featx.config.values import plain
from featx.errors import UsageError
from featx.io import urls

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PathLike = str | Path

EXTRACT = ("data", "features", "augment")
READ_FEATURES = ("data", "features", "report")
FIT_HEAD = ("data", "features", "augment", "head", "report", "tracking")
FINETUNE = ("data", "features", "augment", "finetune", "report", "tracking")
EVALUATE = ("data",)
NEXT = ("data", "features", "next", "report")
ENOUGH = ("data", "features", "enough", "report")
CHECK = LOOK = SIMILAR = READ_FEATURES
COMPARE = ("compare", "report")
MAP = ("data", "features", "map", "report")
DRIFT = ("data", "features", "drift", "report")
"""The sections whose options a function takes"""

PREPARED = (
    *("resize", "crop_share", "interpolation", "preprocessing", "mean", "std", "scale", "channels", "prefix_tokens"),
)
"""What networks are given, of the section features: `compare` takes these beside its own sections"""


@dataclass(frozen=True)
class Writing:
    """Whether what is written may replace what is there."""

    force: bool = False


class WritingKeywords(TypedDict, total=False):
    """The keyword of `Writing`."""

    force: bool


def takes(
    *sections: str, prepared: bool = False, also: type[DataclassInstance] | None = None
) -> Callable[[Function], Function]:
    """Show the options of these sections in signature and documentation of a function that takes `**options`.

    What else it is given is checked.

    prepared : whether it takes those of `PREPARED` as well
    also : a dataclass of further keywords with their defaults, which its documentation describes itself
    """

    def decorate(function: Function) -> Function:
        names = option_names(sections)
        taken = [
            (SECTIONS[section], entry)
            for section in sections
            for entry in listed_options(SECTIONS[section])
            if entry.name in names and entry.name not in signature(function).parameters
        ]
        features = SECTIONS["features"]
        taken += [(features, entry) for entry in listed_options(features) if prepared and entry.name in PREPARED]
        shape = signature(function)
        own = [one for one in shape.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
        further = [] if also is None else list(fields(also))
        more = [
            Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
            for one in (*further, *(entry for _, entry in taken))
        ]
        function = checked(function, {*names, *(entry.name for _, entry in taken)} - {one.name for one in own})
        function.__signature__ = shape.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        if not taken:
            return function
        listed = "\n".join(f"    {one.name} : {help_of(section, one)}" for section, one in taken)
        function.__doc__ = f"{function.__doc__}\n    Options\n    -------\n{listed}\n"
        return function

    return decorate


def read_options(
    sections: Sequence[str],
    options: Keys,
    where: str,
    data: PathLike | None = None,
    pipeline: PathLike | None = None,
) -> Pipeline:
    """The pipeline that keywords mean, as on the command line; without data and file, that of the default file.

    Raises
    ------
    UsageError
        An unknown option (with the near one), or a value of the wrong kind.
    """
    start = start_pipeline(_path(data), None if pipeline is None else Path(pipeline))
    prepared = () if "features" in sections or "compare" not in sections else PREPARED
    keys = keys_of_options(sections, {name: one for name, one in options.items() if name not in prepared}, where)
    keys = {**keys, **{f"features.{name}": one for name, one in options.items() if name in prepared}}
    return require_applicable(set_keys(start, keys, where), keys, where.rpartition(".")[2].replace("_", "-"))


def _path(data: object) -> str | None:
    if data is None or isinstance(data, str | Path):
        return data if data is None else str(data)
    what = f"data must be one folder, CSV or image file; got a {type(data).__name__}."
    if hasattr(data, "to_csv"):
        advice = (
            "Write it as a CSV with the columns path and label, table.to_csv('images.csv', index=False), and give that."
        )
    else:
        advice = "featx.FeatureExtractor takes lists of files, and arrays."
    raise UsageError(f"{what} {advice}")


def call_text(name: str, data: PathLike | None, pipeline: PathLike | None, options: Keys) -> str:
    """What was called, for the record of a bundle: without the passwords and signatures of URLs."""
    given = {"pipeline": pipeline and str(pipeline)} if pipeline is not None else {}
    listed = [f"{key}={plain(value)!r}" for key, value in (given | dict(options)).items()]
    return f"{name}({', '.join([*([repr(urls.plain(str(data)))] if data is not None else []), *listed])})"
