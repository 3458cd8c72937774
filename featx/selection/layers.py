"""Choose among layers and poolings, and the best of them side by side.

With `auto` the search goes in stages, not through the whole product: every layer is judged by logistic regression, the
best is joined with others as long as that helps, and only on what has won are all kinds of heads compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featx.config import HeadOptions
from featx.features import Features, FeaturesError
from featx.heads.transform import join
from featx.selection.choice import Choice
from featx.selection.heads import choose_head
from featx.store.key import file_name
from featx.training.callbacks import Recording

_MOST_JOINED = 3  # layers side by side


@dataclass(frozen=True)
class LayersChoice:
    """The layers that were chosen, and the head on them.

    outputs : names, in the order in which their features stand side by side
    tried : what was tried, "mixed7@avg + mixed2@grid:4" -> candidates as in `Choice`
    """

    outputs: tuple[str, ...]
    choice: Choice
    tried: dict[str, list[dict[str, Any]]]

    def logits(self, tables: Mapping[str, Features]) -> np.ndarray:
        """Logits float32 (n, k) of the features of n images by output name."""
        return self.choice.logits(join([tables[name] for name in self.outputs]))


class LayerError(FeaturesError):
    """Features of one output that are not finite."""

    def __init__(self, output: str, rows: np.ndarray) -> None:
        super().__init__(rows)
        self.output = output


def choose_layers(
    tables: Mapping[str, Features],
    y: np.ndarray,
    split: np.ndarray,
    classes: tuple[str, ...],
    options: HeadOptions,
    *,
    groups: np.ndarray | None = None,
    view_of: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
    recording: Recording | None = None,
) -> LayersChoice:
    """Choose layers and a head by validation; the parameters are those of `choose_head`.

    tables : features of the same n images by output name
    """

    def fit(names: tuple[str, ...], options: HeadOptions, without: Collection[str] = ()) -> LayersChoice:
        title = " + ".join(names)
        try:
            choice = choose_head(
                join([tables[name] for name in names]),
                y,
                split,
                classes,
                options,
                groups=groups,
                view_of=view_of,
                sample_weight=sample_weight,
                seed=seed,
                without=without,
                progress=lambda line: tell(f"{title}: {line}"),
                recording=None if recording is None else recording.of(file_name(title)),
            )
        except FeaturesError as error:
            raise LayerError(title, error.rows) from None
        return LayersChoice(names, choice, {title: choice.candidates})

    if len(tables) == 1 or options.combine == "all":
        return fit(tuple(tables), options)
    joins = options.combine == "greedy" or (options.combine == "auto" and options.clf == "auto")
    screen = replace(options, clf="logreg", strength=None) if options.clf == "auto" else options
    singles = [fit((name,), screen) for name in tables]
    tried = {title: found for one in singles for title, found in one.tried.items()}
    ranked = sorted(singles, key=lambda one: -one.choice.score)
    best = ranked[0]
    while joins and len(best.outputs) < _MOST_JOINED:
        rivals = [fit((*best.outputs, *one.outputs), screen) for one in ranked if one.outputs[0] not in best.outputs]
        for one in rivals:
            tried |= one.tried
        winner = max(rivals, key=lambda one: one.choice.score, default=None)
        if winner is None or winner.choice.score <= best.choice.score:
            break
        best = winner
    if options.clf == "auto":
        others = fit(best.outputs, options, without=(screen.clf,))
        tried = {title: found + others.tried.get(title, []) for title, found in tried.items()}
        best = others if others.choice.score > best.choice.score else best
    return LayersChoice(best.outputs, best.choice, tried)
