"""Whether new images differ from those of a model: read, compare, summarise in words, write the page.

open_pool       the new images, and the features that the model predicts from (`pool`)
held_out        images that the model was not fitted on (`held`)
compare_sides   four tests (`comparison`)
estimate_mix    how many images of each class there are (`metrics.labelshift`)
write           the strangest images as a CSV and a grid, one page (`report.drift`)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from featx.active.answers import PoolAnswers, ask
from featx.active.comparison import Side, TestOutcome, compare_sides
from featx.active.held import MOST, HeldOut, held_out
from featx.active.pool import Pool, open_pool
from featx.bundle.bundle import Bundle
from featx.bundle.novelty import FILE
from featx.config import Pipeline
from featx.errors import DataError
from featx.inference.predict import Unread
from featx.io.context import Context
from featx.io.counting import agreeing, counted
from featx.io.jsontypes import Json
from featx.metrics.labelshift import estimate_mix
from featx.report.drift import ClassShift, DriftText, Strange, write_drift
from featx.runs.run import Run
from featx.store.cache import Cache

_LEAST = 20  # images of either side


@dataclass(frozen=True)
class Drift:
    """Whether new images differ from those that a model was made with.

    drifted : p is at most the level; p : the least of the tests, adjusted for their number
    images, held : how many are compared of either side; verdict : in words
    tests : by name; mix : of each class, the shares; None of a model of several labels
    strangest : the images farthest from all training images; known : left out, since the model was made with them
    """

    drifted: bool
    p: float
    level: float
    images: int
    held: int
    verdict: str
    tests: dict[str, TestOutcome]
    mix: tuple[ClassShift, ...] | None
    strangest: tuple[Strange, ...]
    known: int
    notes: tuple[str, ...]
    unread: tuple[Unread, ...]
    csv: Path | None
    report: Path | None

    def as_json(self) -> dict[str, Json]:
        """What `featx drift --json` prints."""
        return {
            "drifted": self.drifted,
            "p": self.p,
            "images": self.images,
            "tests": {name: asdict(one) for name, one in self.tests.items()},
            "level": self.level,
            "held": self.held,
            "verdict": self.verdict,
            "mix": None if self.mix is None else [asdict(one) for one in self.mix],
            "strangest": [asdict(one) for one in self.strangest],
            "known": self.known,
            "notes": list(self.notes),
            "csv": str(self.csv) if self.csv else None,
            "report": str(self.report) if self.report else None,
            "bad": [asdict(one) for one in self.unread],
        }


def find_drift(
    pipeline: Pipeline, bundle: Bundle, cache: Cache, out: Path | None = None, context: Context = Context()
) -> Drift:
    """Compare the images of `data.path` with those of a model, and write the strangest and, unless it is off, a page.

    out : the folder; None: `drift` in that of the pipeline's results

    Raises
    ------
    DataError
        Fewer than 20 images can be read that the model was not made with.
    BundleError
        There are no images to compare with.
    """
    options, seed = pipeline.drift, pipeline.data.seed
    held = held_out(bundle, cache, seed)
    pool = open_pool(pipeline, bundle, cache, context.progress)
    _require_enough(pool, held, bundle)
    for note in pool.images.notes:
        context.notify(note)
    new, usual = _sides(bundle, pool, held, seed)
    tests = compare_sides(new, usual, answers=held.unseen, seed=seed)
    p = min(one.adjusted for one in tests.values())
    drifted = p <= options.level
    mix = None if bundle.multilabel or not held.unseen else _mix(bundle.classes, new, usual, seed)
    strangest = _strangest(pool, ask(bundle, pool.features, context.progress), bundle, options.strangest)
    notes = _notes(pool, held, bundle)
    text = DriftText(
        verdict=_verdict(tests, options.level, new, usual, mix),
        compared=f"{counted(len(new.rows), 'new image')} against {len(usual.rows):,}, {held.where}.",
        notes=notes,
        command=context.command if pipeline.report.html else None,
    )
    files = write_drift(out or Run.of(pipeline, pool.images).drift, tests, mix, strangest, text)
    return Drift(
        drifted=drifted,
        p=p,
        level=options.level,
        images=len(new.rows),
        held=len(usual.rows),
        verdict=text.verdict,
        tests=tests,
        mix=mix,
        strangest=strangest,
        known=pool.known,
        notes=notes,
        unread=pool.unread,
        csv=files.csv,
        report=files.page,
    )


def _require_enough(new: Pool, held: HeldOut, bundle: Bundle) -> None:
    if len(new) < _LEAST:
        known = f" {new.note_known()}" if new.known else ""
        raise DataError(
            f"The test needs at least {_LEAST} new images, and there {agreeing(len(new), 'is', 'are')} {len(new):,}."
            f"{known} Name a folder with more."
        )
    usual = held.features.shape[0]
    if usual < _LEAST:
        needed = 5 * _LEAST  # of which the suggested split puts a fifth into val
        more = (
            "val images"
            if (bundle.manifest.data.images or needed) >= needed
            else f"images, {needed} at least, and more for val"
        )
        raise DataError(
            f"{bundle.shown} has {counted(usual, 'image')} that it was not fitted on, but the test needs at least "
            f"{_LEAST}. Make it again with more {more}: featx fit-head DATA --split 0.6,0.2,0.2"
        )


def _sides(bundle: Bundle, pool: Pool, held: HeldOut, seed: int) -> tuple[Side, Side]:
    """At most 2,000 images of either side, in the type of those that are kept, so that rounding makes no difference."""
    kind = held.features.dtype
    drawn = np.sort(np.random.default_rng(seed).permutation(len(pool))[:MOST])
    largest = np.finfo(kind).max
    new = np.clip(pool.features.take(drawn).asarray(), -largest, largest).astype(kind).astype(np.float32)
    reference = bundle.reference() if FILE in bundle.manifest.files else None
    return Side.of(bundle, new, reference), Side.of(bundle, held.features.asarray(), reference)


def _mix(classes: tuple[str, ...], new: Side, usual: Side, seed: int) -> tuple[ClassShift, ...]:
    before = usual.probabilities.mean(axis=0)
    found = estimate_mix(new.probabilities, before, np.random.default_rng(seed))
    answered = new.votes.mean(axis=0)
    return tuple(
        ClassShift(
            label=name,
            before=round(float(before[code]), 6),
            now=round(float(found.shares[code]), 6),
            interval=None
            if found.low is None or found.high is None
            else (round(float(found.low[code]), 6), round(float(found.high[code]), 6)),
            answered=round(float(answered[code]), 6),
        )
        for code, name in enumerate(classes)
    )


def _strangest(pool: Pool, answers: PoolAnswers, bundle: Bundle, count: int) -> tuple[Strange, ...]:
    if answers.distance is None:
        return ()
    order = np.argsort(-answers.distance, kind="stable")[:count]
    return tuple(
        Strange(
            path=pool.path(row),
            distance=round(float(answers.distance[row]), 4),
            label=bundle.classes[int(answers.first[row])],
            confidence=round(float(answers.confidence[row]), 4),
        )
        for row in order.tolist()
    )


def _verdict(
    tests: dict[str, TestOutcome], level: float, new: Side, usual: Side, mix: tuple[ClassShift, ...] | None
) -> str:
    fired = [name for name, one in tests.items() if one.adjusted <= level]
    if not fired:
        return "The new images look like those that the model was made with."
    parts = []
    if "features" in fired:
        parts.append("they look different to the network")
    if "distance" in fired and new.distance is not None and usual.distance is not None:
        far, was = ((side > 1).mean() for side in (new.distance, usual.distance))
        parts.append(f"{100 * far:.1f} % are unlike all training images (before: {100 * was:.1f} %)")
    if "confidence" in fired:
        less = new.sureness.mean() < usual.sureness.mean()
        parts.append(f"the model is {'less' if less else 'more'} sure of them")
    if "classes" in fired:
        parts.append(_mix_text(mix))
    return f"The new images differ from those that the model was made with: {'; '.join(parts)}."


def _mix_text(mix: tuple[ClassShift, ...] | None) -> str:
    if not mix:
        return "their mix of classes differs"
    most = max(mix, key=lambda one: abs(one.now - one.before))
    return (
        f"their mix of classes differs, {most.label} most of all (about {100 * most.now:.0f} %, before "
        f"{100 * most.before:.0f} %)"
    )


def _notes(pool: Pool, held: HeldOut, bundle: Bundle) -> tuple[str, ...]:
    notes = []
    if pool.known:
        notes.append(pool.note_known())
    if not held.unseen:
        notes.append(
            "The model was fitted on its val images as well (--refit), so its predictions are not compared, only "
            "features and distances."
        )
    if bundle.multilabel:
        notes.append("Images have several labels: how often each label is given is compared, and no mix is estimated.")
    if FILE not in bundle.manifest.files:
        notes.append("The model keeps no features of training images, so distances are not compared.")
    if bundle.manifest.split.grouped:
        notes.append(
            "The images of the model come in groups, but the tests take every image for itself: other groups of the "
            "same kind differ as well. Compare one image of each group."
        )
    few = min(len(pool), held.features.shape[0])
    if few < 100:
        notes.append(f"One side has {counted(few, 'image')}: only large differences can be detected.")
    return tuple(notes)
