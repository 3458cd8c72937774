"""The page: numbers and pictures as one self-contained HTML file.

Class names, paths and options come from users and are escaped by the template. The page's own rules forbid it to load
anything, and to run any script but the one that sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from featx.bundle.choices import describe_choices
from featx.bundle.coverage import why_approximate
from featx.bundle.manifest import Manifest
from featx.bundle.records import CandidateRecord, MetricsRecord
from featx.images.grid import read_places
from featx.inference.sets import MeasuredSets, measure_sets
from featx.io.counting import agreeing, counted, counted_of
from featx.io.jsontypes import Json
from featx.metrics.digits import confidence_text, decimals, ends_text, exact_text, figure_text, outward
from featx.metrics.intervals import RESAMPLES
from featx.metrics.shares import Interval
from featx.metrics.table import metric_label, signed_score
from featx.report.confusions import list_confusions, list_label_tables
from featx.report.content import Content
from featx.report.figure_folder import Plot
from featx.report.figures import STRENGTHS, head_name
from featx.report.mistakes import Mistake
from featx.report.scores import ClassCell, Scores
from featx.report.verdict import reach_verdict

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_MOST_ROWS = 200  # of bad images, of mistakes
_MOST_CANDIDATES = 40
_BEYOND = 4  # pixels by which what is around photographs is drawn too far, and cut off again
_CSS_DPI = 96


def render_page(
    content: Content, scores: Sequence[Scores], plots: Mapping[str, Plot], mistakes: Sequence[Mistake] = ()
) -> str:
    """The whole page as HTML."""
    shown = scores[-1] if scores else None
    columns, constant = _class_columns(shown) if shown else ([], [])
    return render(
        "page.html",
        content=content,
        scores=scores,
        shown=shown,
        verdict=reach_verdict(content.judged, content.manifest, content.duplicates, content.typed),
        mistakes=mistakes[:_MOST_ROWS],
        mistaken=len(mistakes),
        by_part=_by_part(content, scores),
        metric_names=_metric_names(content, scores),
        compared=[(part, one) for part, one in (content.manifest.comparison or {}).items() if one],
        confusions=list_confusions(shown) if shown else [],
        tables=list_label_tables(shown) if shown else [],
        columns=columns,
        constant=constant,
        strengths=[name for name in plots if name.startswith(STRENGTHS)],
        candidates=_candidates(content.manifest.search),
        model=_model(content.manifest),
        notes=[
            *content.manifest.notes,
            *describe_choices(content.manifest),
            *filter(None, [content.manifest.verdict]),
            *(_gain(name, metrics, shown) for name, part, metrics in _from_scratch(content, scores[-1:]) if shown),
        ],
        resamples=RESAMPLES,
        sets=_sets(content),
        sets_caution=why_approximate(content.manifest),
        bad=content.bad[:_MOST_ROWS],
        plots=plots,
    )


def _sets(content: Content) -> list[MeasuredSets]:
    """What sets of classes that val calibrates are on test; none of a head that was fitted on val as well."""
    parts = {one.part: one for one in content.judged}
    if content.manifest.head.refitted or not {"val", "test"} <= set(parts):
        return []
    measured = [measure_sets(parts["val"], parts["test"], coverage) for coverage in (0.8, 0.9, 0.95, 0.99)]
    return [one for one in measured if one is not None]


def render(template: str, *, plots: Mapping[str, Plot], script: str = "page.js", **values: object) -> str:
    """A template of this package as HTML with its styles, its one script and its pictures in it."""
    from markupsafe import Markup

    carried, styles = _carried(script), _carried("page.css")
    compiled = _environment().get_template(template)
    page: str = compiled.render(
        **values,
        plots={name: _embed(plot) for name, plot in plots.items()},
        styles=Markup(styles),  # noqa: S704 - the package's own files
        script=Markup(carried),  # noqa: S704
        script_digest=base64.b64encode(hashlib.sha256(carried.encode()).digest()).decode(),
    )
    return page


@cache
def _environment() -> jinja2.Environment:
    """What templates are compiled by, once for all pages of a process."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_carried),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "label": metric_label,
        "percent": _percent,
        "confidence": confidence_text,
    }
    environment.filters |= {"ends": partial(ends_text, between=" – "), "outward": outward}
    environment.filters |= {"kept": _keep_options, "counted": counted, "counted_of": counted_of, "agreeing": agreeing}
    return environment


def _keep_options(text: str) -> Markup:
    """A sentence as HTML in which no line ends within an option, after its hyphens."""
    from markupsafe import Markup, escape

    return Markup(_OPTION.sub(r'<span class="name">\g<0></span>', str(escape(text))))  # noqa: S704 - escaped here


def _carried(name: str) -> str:
    return (files("featx.report") / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class _EmbeddedPlot:
    """What the template needs of a figure: its bytes as a data: URI, and its size in CSS pixels.

    around : all that is no photograph in a grid of such, as the path of an SVG file; empty of other figures
    box : the size of that in pixels, as SVG has it
    """

    source: str
    width: int
    height: int
    alt: str
    wide: bool
    drawn: bool
    around: str
    box: str


def _embed(plot: Plot) -> _EmbeddedPlot:
    from PIL import Image

    with Image.open(plot.path) as image:
        scale = _CSS_DPI / float(image.info.get("dpi", (_CSS_DPI,))[0])
        width, height = (round(side * scale) for side in image.size)
        places, box = read_places(image), "0 0 {} {}".format(*image.size)
        over = [side + _BEYOND for side in image.size]  # lest a part of a pixel at the end stays white
        around = f"M-{_BEYOND} -{_BEYOND}H{over[0]}V{over[1]}H-{_BEYOND}z{places}" if places else ""
    source = "data:image/png;base64," + base64.b64encode(plot.path.read_bytes()).decode()
    return _EmbeddedPlot(source, width, height, plot.alt, plot.wide, plot.drawn, around, box)


def _number(value: float | None, images: int | None = None) -> str:
    """A number as people read it, measured on so many images; a dash where nothing is defined."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:.4g}" if abs(value) >= 10 else figure_text(value, images)


def _percent(share: float, images: int | None) -> str:
    """A share in percent, with as many digits as so many images support."""
    return exact_text(share, 1 if images is None else decimals(images) - 2, 2)


def _metric_names(content: Content, scores: Sequence[Scores]) -> list[str]:
    """The metrics that any part has, in the order in which they are shown."""
    names = dict.fromkeys(name for one in scores for name, value in one.metrics.items() if value is not None)
    if not names:
        recorded = _summaries(content).values()
        names = dict.fromkeys(name for one in recorded for name, value in one.values.items() if value is not None)
    return list(names)


def _summaries(content: Content) -> dict[str, MetricsRecord]:
    return {part: one for part, one in content.manifest.metrics.items() if one is not None and one.images}


def _recorded(content: Content, scores: Sequence[Scores]) -> list[tuple[str, MetricsRecord]]:
    """What the model says of parts that were not measured now: (part, metrics)."""
    measured = {one.part for one in scores}
    return [(part, found) for part, found in _summaries(content).items() if part not in measured]


def _from_scratch(content: Content, scores: Sequence[Scores]) -> list[tuple[str, str, MetricsRecord]]:
    """What small networks that were trained from scratch reach on the measured parts: (name, part, metrics)."""
    return [
        (name, one.part, found[one.part])
        for one in scores
        for name, found in content.baselines.items()
        if one.part in found and found[one.part].images
    ]


@dataclass(frozen=True)
class _Part:
    """A column of the table of metrics. values, intervals : by metric"""

    name: str
    images: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]


def _by_part(content: Content, scores: Sequence[Scores]) -> list[_Part]:
    """What was measured now, what small networks reach on the same, and what the model has of other parts."""
    measured = [_Part(one.part, one.images, one.metrics, one.intervals) for one in scores]
    others = [(f"{part}, {name} from scratch", one) for name, part, one in _from_scratch(content, scores)]
    others += [(f"{part} (when it was made)", one) for part, one in _recorded(content, scores)]
    return measured + [_Part(name, one.images, one.values, one.intervals or {}) for name, one in others]


def _gain(name: str, baseline: MetricsRecord, shown: Scores) -> str:
    """What transfer learning is worth, in a sentence."""
    own, other = shown.metrics["accuracy"] or 0.0, baseline.get("accuracy") or 0.0
    theirs, mine = figure_text(other, shown.images), figure_text(own, shown.images)
    return (
        f"A small network from scratch ({name}) that was trained on the same images has an accuracy of {theirs} on "
        f"{shown.part}, this model one of {mine}: a difference of {figure_text(own - other, shown.images, '+')}."
    )


def _class_columns(scores: Scores) -> tuple[list[str], list[tuple[str, ClassCell]]]:
    """The columns of the table of classes, and what is the same for all of several classes in their place."""
    known = scores.classes[0].keys() if scores.classes else ()
    wanted = ("images", "precision", "recall", "f1", "roc_auc", "average_precision", "threshold")
    shown = [name for name in wanted if name in known]
    same = [
        name
        for name in shown
        if name in {"images", "threshold"}
        and len(scores.classes) > 1
        and len({row[name] for row in scores.classes}) == 1
    ]
    return [name for name in shown if name not in same], [(name, scores.classes[0][name]) for name in same]


@dataclass(frozen=True)
class _Candidates:
    """Heads that were tried, as a table.

    columns : that differ, of `rows`, which have all of them by name; constant : the others, as (name, value)
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, str | float | None]]
    constant: Sequence[tuple[str, str]]


def _candidates(search: Mapping[str, Sequence[CandidateRecord]]) -> _Candidates | None:
    """What was compared, the best first; None where nothing was."""
    found = [(output, one) for output, some in search.items() for one in some]
    found.sort(key=lambda pair: -_signed(pair[1]))
    shared = _shared([one.params for _, one in found])
    rows = [_candidate_row(output, one, shared) for output, one in found[:_MOST_CANDIDATES]]
    if not rows:
        return None
    names = list(rows[0])
    same = [name for name in names if name != "score" and len(rows) > 1 and len({row[name] for row in rows}) == 1]
    constant = [(name, str(rows[0][name])) for name in same if rows[0][name]]
    constant += [(name, _plain(value)) for name, value in shared.items()]
    return _Candidates([name for name in names if name not in same], rows, constant)


def _shared(params: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """The parameters of several heads that are the same for all of them."""
    if len(params) < 2:
        return {}
    first, *others = params
    return {name: value for name, value in first.items() if all(name in one and one[name] == value for one in others)}


def _candidate_row(output: str, one: CandidateRecord, shared: Collection[str]) -> dict[str, str | float | None]:
    return {
        "head": head_name(one),
        "features": output,
        "parameters": _words({name: value for name, value in one.params.items() if name not in shared}),
        "score": one.score,
        "metric": metric_label(one.metric),
        "where": one.where,
    }


def _signed(candidate: CandidateRecord) -> float:
    """What candidates are sorted by, more being better; those that could not be measured come last."""
    return -np.inf if candidate.score is None else signed_score(candidate.metric, candidate.score)


def _words(values: Mapping[str, Json]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items())


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return " x ".join(map(_plain, value))
    return str(value)


def _model(manifest: Manifest) -> list[tuple[str, str]]:
    """Where the model comes from, as (name, value); what is not recorded is left out."""
    backbone, head, origin = manifest.backbone, manifest.head, manifest.origin
    network = (backbone.name, backbone.weights, backbone.input_size)
    rows = [
        ("data", _words(manifest.data.as_json())),
        ("backbone", ", ".join(_plain(value) for value in network if value)),
        ("layers", ", ".join(manifest.output_names)),
        ("head", f"{head.clf} {_words(head.params)}".strip()),
        ("temperature", _plain(head.temperature)),
        ("fine-tuned from", "" if origin is None else origin.bundle),
        ("fine-tuning", "" if manifest.finetune is None else _words(manifest.finetune.as_json())),
        ("from scratch", "" if manifest.baseline is None else _words(manifest.baseline.as_json())),
        ("split", manifest.split.digest[:16]),
        ("made", manifest.created),
        ("seconds", "" if manifest.seconds is None else _plain(manifest.seconds)),
        ("command", manifest.command),
        ("versions", _words(manifest.versions)),
    ]
    return [(name, value) for name, value in rows if value]
