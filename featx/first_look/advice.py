"""From a few numbers to advice: which of the four transfer-learning cases applies, and what to try.

The rule is that of the notes of Stanford's CS231n on transfer learning: few images or many, like those that the
backbone was trained on or unlike them. It rests on how features change with depth (Yosinski, Clune, Bengio and Lipson,
"How transferable are features in deep neural networks?", 2014): the lower layers suit all pictures, the upper ones suit
ImageNet, and transfer the worse the further a task is from it, unless they are trained on.

Nothing here reads an image: numbers come in, sentences go out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from featx.first_look.separation import Separation
from featx.io.counting import counted
from featx.io.jsontypes import Json

Size = Literal["small", "large"]
Similarity = Literal["similar", "different"]

MANY = 5_000
"""Images, and"""
MANY_OF_A_CLASS = 100
"""images in the median class, from which on a set is large: rules of thumb, which the sources leave open."""
ALIKE = 0.3
"""Adjusted mutual information of the user's and ImageNet's classes from which on they are alike."""
_LEAST_MARGIN = 0.01  # of scores; a difference below it is worth no other layer
_MARGIN_OF_LABELS = 0.02  # where there is no standard error: of several labels per image


@dataclass(frozen=True)
class ScoredOutput:
    """The score of a linear head on one output.

    name : of the output, layer@pooling; share : of the network's multiply-adds up to there
    """

    name: str
    share: float
    score: float


@dataclass(frozen=True)
class Numbers:
    """What advice is given on.

    Attributes
    ----------
    images, classes : how many there are
    median : images of the median class
    inner : the best output of the layers below the last one; None where none was judged
    last : the best output of the last layer
    error : standard error of `inner.score - last.score`, on the same images; None where it is not known
    judged : how many images they were judged on
    metric : of the scores, in words
    separation : how far ImageNet's classes distinguish these; None if not measured
    """

    images: int
    classes: int
    median: float
    inner: ScoredOutput | None
    last: ScoredOutput
    judged: int
    error: float | None = None
    metric: str = "accuracy"
    separation: Separation | None = None

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints of them."""
        numbers = {name: value for name, value in asdict(self).items() if name != "separation"}
        separation = {} if self.separation is None else self.separation.as_json()
        return numbers | {name: separation.get(name) for name in ("information", "told", "chance")}


@dataclass(frozen=True)
class Advice:
    """What to try, and why.

    Attributes
    ----------
    size, similarity : the case
    output : layer@pooling for a head on frozen features; clf : its kind
    tune : layer@pooling whose head a fine-tune starts from; None: do not fine-tune
    summary : in a sentence; reasons : the numbers behind it, in sentences
    """

    size: Size
    similarity: Similarity
    output: str
    clf: str
    tune: str | None
    summary: str
    reasons: tuple[str, ...]

    @property
    def case(self) -> str:
        """As in "few images, unlike ImageNet's"."""
        return f"{_WORDS[self.size]}, {_WORDS[self.similarity]}"

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints of it."""
        return {"case": self.case, **asdict(self)}


_WORDS = {"small": "few images", "large": "many images", "similar": "like ImageNet's", "different": "unlike ImageNet's"}
_SUMMARIES = {
    ("small", "similar"): "A linear head on {layer}. With so few images, fine-tuning would just memorise them.",
    ("small", "different"): "A linear SVM on {layer}. With so few images, fine-tuning would just memorise them.",
    ("large", "similar"): "A linear head on {layer}, then a fine-tune of the whole network from there.",
    ("large", "different"): (
        "A fine-tune of the whole network: there are enough images, and pretrained weights are a better start than "
        "random ones here too. A linear SVM on {layer} sets the score to beat."
    ),
}


def margin(error: float | None) -> float:
    """How large a difference between scores could be chance; error : its standard error, None if it is not known."""
    return max(_LEAST_MARGIN, 2 * error) if error is not None else _MARGIN_OF_LABELS


def advise(numbers: Numbers) -> Advice:
    """Which case these numbers are, what to try, and why. A pure function."""
    size, by_size = _judge_size(numbers)
    similarity, by_similarity = _judge_similarity(numbers)
    inner = numbers.inner if similarity == "different" else None
    best = inner if inner is not None and inner.score >= numbers.last.score else numbers.last
    return Advice(
        size,
        similarity,
        output=best.name,
        clf="logreg" if similarity == "similar" else "svm",
        tune=numbers.last.name if size == "large" else None,
        summary=_SUMMARIES[size, similarity].format(layer="an inner layer" if best is inner else "the last layer"),
        reasons=(by_size, *by_similarity),
    )


def _judge_size(numbers: Numbers) -> tuple[Size, str]:
    size: Size = "large" if numbers.images >= MANY and numbers.median >= MANY_OF_A_CLASS else "small"
    return size, (
        f"{counted(numbers.images, 'image')} in {counted(numbers.classes, 'class', 'classes')}, {numbers.median:,.0f} "
        f"in the median class: {_WORDS[size]} (many begins, by a rule of thumb, at {MANY:,} and {MANY_OF_A_CLASS} per "
        "class)."
    )


def _judge_similarity(numbers: Numbers) -> tuple[Similarity, list[str]]:
    """Layers decide where they differ; where they do not, what ImageNet calls the images."""
    by_layers, reason = _compare_layers(numbers)
    by_names = _compare_names(numbers)
    if by_layers is not None:
        agrees = by_names is None or by_names[0] == by_layers
        others = (
            []
            if by_names is None
            else [by_names[1] + ("" if agrees else " The scores of the layers are better evidence.")]
        )
        return by_layers, [reason, *others]
    if by_names is not None:
        return by_names[0], [reason, by_names[1]]
    return "similar", [reason]


def _compare_layers(numbers: Numbers) -> tuple[Similarity | None, str]:
    """Which layer wins by more than noise; None: neither."""
    last, inner = numbers.last, numbers.inner
    on = f"on {counted(numbers.judged, 'image')}, by cross-validation"
    if inner is None:
        return None, (
            f"A linear head on the last layer ({last.name}) has {_a(numbers.metric)} of {last.score:.3f} {on}; no "
            "layer below it was judged."
        )
    chance = margin(numbers.error)
    gain = inner.score - last.score
    scores = (
        f"A linear head has {_a(numbers.metric)} of {inner.score:.3f} on the best inner layer ({inner.name}, after "
        f"{inner.share:.0%} of the network's work) and of {last.score:.3f} on the last one ({last.name}), {on}: "
    )
    if gain > chance:
        return "different", (
            f"{scores}{gain:.3f} more, where {chance:.3f} could be chance. The upper layers have lost what separates "
            "these classes."
        )
    if gain < -chance:
        return "similar", f"{scores}{-gain:.3f} less, where {chance:.3f} could be chance. The upper layers suit these."
    return None, f"{scores}a difference below {chance:.3f}, which could be chance."


def _compare_names(numbers: Numbers) -> tuple[Similarity, str] | None:
    """How far ImageNet's classes distinguish the user's; None if not measured."""
    found = numbers.separation
    if found is None:
        return None
    similarity: Similarity = "similar" if found.information >= ALIKE else "different"
    return similarity, (
        f"The predicted ImageNet class identifies the class for {found.purity:.0%} of the images (the largest class "
        f"has {found.largest:.0%}); adjusted mutual information {found.information:.2f}, where {ALIKE} and more is "
        f"{_WORDS['similar']}."
    )


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def difference_error(one: Sequence[bool], other: Sequence[bool]) -> float | None:
    """Standard error of the difference of two accuracies on the same images; None for fewer than two images."""
    if len(one) < 2:
        return None
    gaps = [int(a) - int(b) for a, b in zip(one, other, strict=True)]
    mean = sum(gaps) / len(gaps)
    return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))
