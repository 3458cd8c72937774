"""A starting pipeline file: facts about the data set and the advice of a first look, as keys with comments."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from featx.config import Pipeline, listed_options
from featx.config.pipeline import key_as_yaml
from featx.dataset import SPLITS, ImageSet
from featx.dataset.check import count_classes
from featx.first_look.recommendation import DepthsResult, Recommendation
from featx.first_look.result import FirstLook
from featx.io.counting import counted
from featx.io.shown import as_line

_UNEVEN = 5  # times as many images in the largest class as in the smallest, from which on weights are worth a try
_WIDTH = 100


@dataclass(frozen=True)
class Starter:
    """What a pipeline file begins with.

    images : of the data; pipeline : with the options that were typed
    name : of the run; file : as -p takes it
    found : by a first look; None without one
    """

    images: ImageSet
    pipeline: Pipeline
    name: str
    file: str
    found: FirstLook | None = None

    @property
    def text(self) -> str:
        """The file: YAML that `featx run -p` takes as it is."""
        sections = [self._head_lines(), self._data(), self._features(), self._head(), self._finetune(), self._report()]
        return "\n\n".join("\n".join(lines) for lines in sections) + "\n"

    @property
    def _advised(self) -> Recommendation | None:
        return None if self.found is None else self.found.recommendation

    @property
    def _sizes(self) -> Mapping[str, int]:
        return count_classes(self.images, np.ones(len(self.images), bool))

    def _head_lines(self) -> list[str]:
        sizes = list(self._sizes.values())
        each = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        what = (
            f"{self.images.name}: {counted(len(self.images), 'image')} in {counted(len(sizes), 'class', 'classes')}, "
            f"{each} in each"
        )
        looked = [] if self.found is None else [f"The figures of the look: {self.found.report or self.found.out}"]
        return [
            *_comment(f"{what} (featx init, {time.strftime('%Y-%m-%d', time.gmtime())})."),
            *_comment(*looked),
            *_comment(f"Bring everything up to date: featx run -p {self.file}", "More keys: featx fit-head --help-all"),
        ]

    def _data(self) -> list[str]:
        lines = ["data:", *self._typed("data")]
        declared, groups = self.images.declared, self.images.groups
        if declared is not None:
            counts = {part: int((declared == code).sum()) for code, part in enumerate(SPLITS)}
            listed = ", ".join(f"{part} {count:,}" for part, count in counts.items())
            lines += _comment(f"The data declares its split: {listed}.", deep=1)
        elif not _has(lines, "split"):
            lines.append("  split: [0.8, 0.1, 0.1]  # shares of train, val and test; kept by the images' content")
        if groups is None and not self.pipeline.data.group_duplicates:
            lines.append("  # group_column: NAME  # of a CSV: what belongs together (a plant, a patient)")
        return lines + _comment(*self.images.notes, deep=1)

    def _features(self) -> list[str]:
        lines = ["features:", *self._typed("features")]
        if not _has(lines, "backbone"):
            lines.append(
                f"  {key_as_yaml('backbone', self.pipeline.features.backbone)}  # featx backbones lists others"
            )
        notes = _comment(*([] if self.found is None else self.found.notes), deep=1)
        advised = self._advised
        if advised is not None and advised.larger is not None:
            notes += _comment(advised.larger.sentence, deep=1)
        if advised is not None and advised.input_size is not None:
            lines = [line for line in lines if not line.startswith("  input_size:")]
            notes.append(f"  {key_as_yaml('input_size', advised.input_size)}")
        if _has(lines, "layer"):
            return [*lines, *notes]
        if self._advised is None:
            return [*lines, *notes, "  # layer: NAME  # default: the network's last; featx look judges a few of them"]
        depths = self.found.depths if self.found is not None else None
        return [
            *lines,
            *notes,
            *_comment(*_scores(depths), deep=1),
            f"  {key_as_yaml('layer', self._advised.advice.tune or self._advised.advice.output)}",
            *_comment(f"See all layers: featx layers {self.pipeline.features.backbone}", deep=1),
        ]

    def _head(self) -> list[str]:
        advice = None if self._advised is None else self._advised.advice
        clf = "logreg" if advice is None or advice.tune else advice.clf
        lines = ["head:"]
        if advice is not None:
            lines += _comment(*advice.reasons, deep=1)
        lines.append(f"  {key_as_yaml('clf', clf)}  # logreg, svm, ridge, knn, dense, or auto to try several")
        if advice is not None and advice.tune and advice.tune != advice.output:
            other = f"featx fit-head -p {self.file} --layer {advice.output} --clf {advice.clf}"
            lines += _comment(f"The score to beat, on frozen features: {other} --name {self.name}-frozen", deep=1)
        sizes = list(self._sizes.values())
        if not self.images.multilabel and min(sizes) and max(sizes) >= _UNEVEN * min(sizes):
            times = f"{max(sizes) / min(sizes):,.0f} times"
            lines += _comment(f"The largest class has {times} the images of the smallest; these two may help:", deep=1)
            lines += ["  # class_weight: balanced", "  # metric: balanced_accuracy"]
        return lines

    def _finetune(self) -> list[str]:
        advice = None if self._advised is None else self._advised.advice
        why = "Fine-tuning trains the whole network, for minutes to hours. featx look shows whether it is worth it."
        tunes = advice is not None and advice.tune is not None
        return [
            "finetune:",
            *_comment(why if advice is None else advice.summary, deep=1),
            f"  {key_as_yaml('enabled', tunes)}  # whether featx run fine-tunes; featx finetune does in any case",
            *(["  epochs: 5", "  learning_rate: 1.0e-4"] if tunes else []),
        ]

    def _report(self) -> list[str]:
        name = self.pipeline.report.name or self.name
        typed = [line for line in self._typed("report") if not line.startswith("  name:")]
        return ["report:", f"  {key_as_yaml('name', name)}  # results go to runs/NAME", *typed]

    def _typed(self, section: str) -> list[str]:
        """The keys of a section that are not at their defaults."""
        options = getattr(self.pipeline, section)
        pairs = ((entry, getattr(options, entry.name)) for entry in listed_options(type(options)))
        return [f"  {key_as_yaml(entry.name, value)}" for entry, value in pairs if value != entry.default]


def _has(lines: list[str], key: str) -> bool:
    return any(line.startswith(f"  {key}:") for line in lines)


def _scores(depths: DepthsResult | None) -> Iterator[str]:
    if depths is not None:
        yield f"A linear head on {counted(depths.images, 'image')}, by cross-validation ({depths.metric}):"
        for one in depths.probes:
            yield f"  {one.name}: {one.score:.3f}, after {one.share:.0%} of the network's work"


def _comment(*sentences: str, deep: int = 0) -> list[str]:
    """Sentences as comments of lines that are not too long."""
    import textwrap

    indent = "  " * deep + "# "
    lines = []
    for sentence in sentences:
        inner = " " * (len(sentence) - len(sentence.lstrip()))
        lines += textwrap.wrap(
            as_line(sentence).strip(),
            _WIDTH,
            initial_indent=indent + inner,
            subsequent_indent=indent + inner,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
