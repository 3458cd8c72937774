"""The verdict: how good a model is, where it fails and what to do next, without statistics.

`reach_verdict` is a pure function of what was predicted and of the manifest. The report opens with its verdict, and
`featx fit-head` ends with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featx.bundle.choices import choices_of
from featx.bundle.manifest import Manifest
from featx.io.counting import agreeing, counted
from featx.io.jsontypes import Json
from featx.metrics.digits import outward
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import metric_key, metric_label, target_of_metrics
from featx.report.next_steps import UNTYPED, Step, Typed, advise_next
from featx.report.standing import ClassTally, Standing, stand
from featx.report.words import a_few, counted_images, named, percent

_NAMED = 3  # classes
_UNEVEN = 0.05  # between the share of images that are right and its mean over classes, which is worth a sentence
_NOTHING = "Nothing was measured: there are no validation and no test images, so nobody knows how good this model is."
_FOLDS = (
    "There are no validation and no test images: only folds of the training images have measured it, and they have "
    "chosen as well."
)

FLATTERED = "trained on: the figures flatter the model."
"""How a note ends on training images among those that are measured"""


@dataclass(frozen=True)
class Verdict:
    """How good a model is, in words.

    headline : how many images are right; sentences : what to know beside it, where it fails
    steps : what the figures suggest, the most urgent first
    standing : the counts; None where nothing was measured
    """

    headline: str
    sentences: tuple[str, ...]
    steps: tuple[Step, ...]
    standing: Standing | None = None

    @property
    def lines(self) -> str:
        """Two lines for a terminal: the verdict, and what is next, up to the first step that has a command."""
        lines = [" ".join([self.headline, *self.sentences])]
        typed = next((number for number, one in enumerate(self.steps, 1) if one.command), 1)
        steps = [" ".join(filter(None, [one.text, one.command])) for one in self.steps[:typed]]
        return "\n".join([*lines, f"Next: {' '.join(steps)}"] if steps else lines)

    def as_json(self) -> dict[str, Json]:
        """The object under `summary` in `--json`."""
        found: dict[str, Json] = {
            "text": " ".join([self.headline, *self.sentences]),
            "next": [{"text": one.text, "command": one.command or None} for one in self.steps],
        }
        one = self.standing
        if one is None:
            return found | {"part": None, "images": 0, "right": None, "interval": None, "weakest": [], "mistakes": []}
        return found | {
            "part": one.part,
            "images": one.images,
            "right": one.right,
            "interval": list(one.interval),
            "weakest": [
                {"label": tally.label, "images": tally.images, "right": tally.right, "certain": tally.worse}
                for tally in one.weakest()[:_NAMED]
            ],
            "mistakes": [
                {"actual": pair.actual, "predicted": pair.predicted, "images": pair.images}
                for pair in one.mixups[:_NAMED]
            ],
        }


def reach_verdict(
    judged: Sequence[LabelledPredictions], manifest: Manifest, duplicates: int = 0, typed: Typed = UNTYPED
) -> Verdict:
    """Judge a model by the last part that has images.

    judged : the parts that were measured, test last; duplicates : images that are copies of others
    typed : what the commands of the next steps begin with
    """
    measured = [one for one in judged if len(one)]
    if not measured:
        return Verdict(_untested(manifest), (), advise_next(None, manifest, duplicates, typed))
    found = stand(measured[-1])
    sentences = (
        _origin(found, manifest),
        _unknown(found),
        _chance(found),
        _uneven(found),
        _weakest(found),
        _mistakes(found),
    )
    steps = advise_next(found, manifest, duplicates, typed)
    return Verdict(_headline(found, manifest), tuple(filter(None, sentences)), steps, found)


def _untested(manifest: Manifest) -> str:
    """What is known of a model without validation and test images: its nested estimate, where there is one."""
    nested = manifest.nested
    if nested is None or not nested.images:
        return _FOLDS if manifest.calibrated_on else _NOTHING
    key = metric_key("accuracy", target_of_metrics(nested.values))
    interval = (nested.intervals or {}).get(key)
    between = "" if interval is None else ", between {} and {} %".format(*outward(interval, 0, 2))
    return (
        f"There are no validation and no test images. By nested folds of {counted(nested.images, 'training image')}, "
        f"each predicted without it, {metric_label(key)} is {percent(nested.values.get(key) or 0.0)} %{between}."
    )


def _headline(found: Standing, manifest: Manifest) -> str:
    """`41 of 45 test images right (91 %, between 79 and 97 %).`"""
    all_of_it = "All labels right for " if found.target == "labels" else ""
    low, high = found.interval
    digits = 0 if high - low >= 0.03 else 1
    share, (least, most) = percent(found.share, digits), outward(found.interval, digits, 2)
    by = "" if manifest.split.grouped_by is None else f" by {named(manifest.split.grouped_by)}"
    over = "" if found.groups is None else f", over {counted(found.groups, 'group')}{by}"
    right = "" if found.target == "labels" else " right"
    untested = "; there are no test images" if found.part == "val" and not _is_tested(manifest) else ""
    return (
        f"{all_of_it}{found.right:,} of {counted_images(found)}{right} ({share} %, between {least} and {most} "
        f"%{over}){untested}."
    )


def _is_tested(manifest: Manifest) -> bool:
    return bool(manifest.split.images.get("test"))


def _origin(found: Standing, manifest: Manifest) -> str:
    """What a figure is worth that is not of test images."""
    if found.part == "val":
        if any(one.by == "val" for one in choices_of(manifest)):
            return "Models are chosen by these images, so new ones will do somewhat worse."
        return "" if _is_tested(manifest) else "Choose no model by these, or new images will do worse."
    if found.part in {"train", "all"}:
        return "The model was fitted to images among these, so new ones will do worse."
    return ""


def _unknown(found: Standing) -> str:
    images = sum(one.images for one in found.classes if one.label in found.unknown)
    if not images:
        return ""
    which, verb = a_few([named(label) for label in found.unknown], _NAMED), agreeing(images, "is", "are")
    return f"{images:,} of them {verb} of classes that the model does not know ({which}), and therefore wrong."


def _chance(found: Standing) -> str:
    """Whether an answer that never changes would do as well."""
    most = found.largest
    same = most.images / found.images
    if found.target == "labels" or len(found.classes) < 2 or found.interval[0] > same:
        return ""
    return f"Always answering {named(most.label)} would be right for {percent(same)} %, so this is not a clear gain."


def _uneven(found: Standing) -> str:
    shares = [one.share for one in found.classes]
    mean = sum(shares) / len(shares)
    if found.target == "labels" or found.share - mean < _UNEVEN:
        return ""
    return f"As a mean over classes that is {percent(mean)} %: it does better on classes of many images."


def _weakest(found: Standing) -> str:
    weakest = found.weakest()
    if not weakest or (len(found.classes) == 1 and not found.unknown):
        return ""
    shown, rest = weakest[:_NAMED], weakest[_NAMED:]
    alike = sum(one.share <= shown[-1].share for one in rest)
    more = f" and {alike:,} as weak" if alike else ""
    few = "" if weakest[0].worse else ": too few images of a class to be certain"
    return f"Weakest: {', '.join(map(_tallied, shown))}{more}{few}."


def _tallied(one: ClassTally) -> str:
    return f"{named(one.label)} ({one.right:,} of {one.images:,} right)"


def _mistakes(found: Standing) -> str:
    """What is taken for what: the two most frequent, or all where there are but two."""
    pairs = found.mixups
    if not pairs:
        return ""
    if pairs[0].images == 1 and len(pairs) > 2:
        return f"Its {counted(len(pairs), 'mistake')} are all of different kinds."
    some = [one for one in pairs[:2] if one.images > 1 or len(pairs) <= 2]
    texts = [f"{named(one.actual)} for {named(one.predicted)} ({one.images:,} of {one.of:,})" for one in some]
    return f"It mistakes {' and '.join(texts)}."
