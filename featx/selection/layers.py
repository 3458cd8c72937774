"""Choose among layers and poolings, and combine the best of them.

With `auto` the search goes in stages, not through the whole product: every layer is judged by logistic regression, the
best is joined with others as long as that helps, then all are put side by side, and only on what has won are all kinds
of heads compared; the radial kernel also on all outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featx.features import Features, FeaturesError, width
from featx.heads.table import head_kind
from featx.heads.transform import join
from featx.io.counting import counted
from featx.selection.auto import why_not
from featx.selection.choice import Candidate, Choice
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.store.key import file_name

_MOST_JOINED = 3  # layers side by side, one after another
_MOST_JOINED_VALUES = 50_000_000  # rows x features up to which `auto` tries all outputs side by side

Tried = Mapping[str, tuple[Candidate, ...]]
"""What was tried, "mixed7@avg + mixed2@grid:4" -> candidates"""


@dataclass(frozen=True)
class LayersChoice:
    """The layers that were chosen, and the head on them.

    outputs : names, in the order in which their features stand side by side
    """

    outputs: tuple[str, ...]
    choice: Choice
    tried: Tried

    def logits(self, tables: Mapping[str, Features]) -> np.ndarray:
        """Logits float32 (n, k) of the features of n images by output name."""
        return self.choice.logits(join([tables[name] for name in self.outputs]))


class LayerError(FeaturesError):
    """Features of one output that are not finite."""

    def __init__(self, output: str, rows: np.ndarray) -> None:
        super().__init__(rows)
        self.output = output


def joined(tables: Mapping[str, Features], names: Sequence[str]) -> Features:
    """The features of these outputs side by side."""
    return join([tables[name] for name in names])


def choose_layers(tables: Mapping[str, Features], problem: Problem, settings: SearchSettings) -> LayersChoice:
    """Choose layers and a head by validation.

    tables : features of the same n images by output name
    problem : of these images; whatever its features are, those of `tables` are taken instead

    Raises
    ------
    LayerError
        Features that are not finite.
    HeadError
        What `choose_head` raises.
    """
    search, options = _LayerSearch(tables, problem), settings.options
    if len(tables) == 1 or options.combine == "all":
        return search.choose(tuple(tables), settings)
    screen = settings.changed(clf="logreg", strength=None) if options.clf == "auto" else settings
    singles = [search.choose((name,), screen) for name in tables]
    best = max(singles, key=lambda one: one.choice.score)
    tried = {title: found for one in singles for title, found in one.tried.items()}
    if options.combine == "greedy" or (options.combine == "auto" and options.clf == "auto"):
        best, more = search.join(singles, screen)
        tried |= more
    if options.clf == "auto":
        return search.compare_kinds(best, tried, settings, screen)
    return LayersChoice(best.outputs, best.choice, tried)


@dataclass(frozen=True)
class _LayerSearch:
    """The features by output name, and what is known of their rows."""

    tables: Mapping[str, Features]
    problem: Problem

    def choose(self, names: tuple[str, ...], settings: SearchSettings, without: Collection[str] = ()) -> LayersChoice:
        """The best head on these outputs side by side."""
        title = " + ".join(names)
        here = settings.titled(title).logged(file_name(title))
        try:
            choice = choose_head(replace(self.problem, features=joined(self.tables, names)), here, without)
        except FeaturesError as error:
            raise LayerError(title, error.rows) from None
        return LayersChoice(names, choice, {title: choice.candidates})

    def join(self, singles: Sequence[LayersChoice], settings: SearchSettings) -> tuple[LayersChoice, Tried]:
        """Join the best of single outputs with others as long as that helps; also returns what was tried for it."""
        ranked = sorted(singles, key=lambda one: -one.choice.score)
        best, tried = ranked[0], dict[str, tuple[Candidate, ...]]()
        while len(best.outputs) < _MOST_JOINED:
            others = [one for one in ranked if one.outputs[0] not in best.outputs]
            rivals = [self.choose((*best.outputs, *one.outputs), settings) for one in others]
            for one in rivals:
                tried |= one.tried
            winner = max(rivals, key=lambda one: one.choice.score, default=None)
            if winner is None or winner.choice.score <= best.choice.score:
                break
            best = winner
        return best, tried

    def compare_kinds(
        self, best: LayersChoice, tried: Tried, settings: SearchSettings, screen: SearchSettings
    ) -> LayersChoice:
        """All kinds of heads on the best outputs, and on all outputs side by side what they suit.

        best : by logistic regression, whose settings are `screen`
        """
        found, left_out = [best], list[str]()
        if settings.options.combine in {"auto", "greedy"} and len(best.outputs) < len(self.tables):
            found, left_out = self._all_outputs(best, tried, settings, screen)
        others = self.choose(found[0].outputs, settings, without=(screen.options.clf,))
        left_out += others.choice.left_out
        found.append(others)
        merged: dict[str, tuple[Candidate, ...]] = {}
        for some in (tried, *(one.tried for one in found)):
            for title, candidates in some.items():
                known = merged.get(title, ())
                merged[title] = known + tuple(one for one in candidates if one not in known)
        winner = max(found, key=lambda one: one.choice.score)
        notes = tuple(dict.fromkeys((*winner.choice.notes, *left_out)))
        return LayersChoice(winner.outputs, replace(winner.choice, notes=notes), merged)

    def _all_outputs(
        self, best: LayersChoice, tried: Tried, settings: SearchSettings, screen: SearchSettings
    ) -> tuple[list[LayersChoice], list[str]]:
        """The best by logistic regression, now also of all outputs, then the radial kernel on these; what was left out.

        A linear head seldom gains by outputs that say the same in other words; a kernel does, of all of them at once.
        """
        names, rows = tuple(self.tables), len(self.problem.train)
        whole = replace(self.problem, features=joined(self.tables, names))
        values, where = rows * width(whole.features), f"on all {len(names)} outputs side by side"
        if values > _MOST_JOINED_VALUES:
            text = (
                f"Heads {where} were not tried: {counted(rows, 'image')} x {counted(width(whole.features), 'feature')} "
                "are more than "
            )
            return [best], [text + f"{_MOST_JOINED_VALUES:,} numbers. By hand: --combine all."]
        if not any(set(title.split(" + ")) == set(names) for title in tried):
            rival = self.choose(names, screen)
            found = [rival, best] if rival.choice.score > best.choice.score else [best, rival]
        else:
            found = [best]
        if set(found[0].outputs) == set(names):
            return found, []
        kind = head_kind("svm", "rbf")
        reason = why_not(kind, whole, settings)
        if reason:
            return found, [f"{kind.title} {where} was not tried: {reason}"]
        return [*found, self.choose(names, settings.changed(clf="svm", kernel="rbf", strength=None, gamma=None))], []
