"""Which heads `auto` tries on the given rows, and why it skips others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from featx.features import width
from featx.heads.table import HEADS, HeadKind, head_kind
from featx.io.counting import counted
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.selection.weights import is_weighed


@dataclass(frozen=True)
class Kinds:
    """What is tried, in this order, and a sentence for each kind that is not."""

    tried: tuple[HeadKind, ...]
    left_out: tuple[str, ...] = ()


def choose_kinds(problem: Problem, settings: SearchSettings, without: Collection[str]) -> Kinds:
    """The kinds of the options, or all that `auto` can try.

    problem : whose features are those that heads take
    without : kinds that `auto` leaves out, since they have been judged on these features already
    """
    options = settings.options
    if options.clf != "auto":
        return Kinds((head_kind(options.clf, options.kernel),))
    asked = [kind for kind in HEADS.values() if kind.in_auto and kind.clf not in without]
    reasons = {kind: why_not(kind, problem, settings) for kind in asked}
    left_out = tuple(f"{kind.title} was not tried: {reason}" for kind, reason in reasons.items() if reason)
    return Kinds(tuple(kind for kind, reason in reasons.items() if not reason), left_out)


def why_not(kind: HeadKind, problem: Problem, settings: SearchSettings) -> str:
    """Why `auto` leaves a kind of head out; empty where it does not."""
    rows, features = len(problem.train), width(problem.features)
    if is_weighed(problem, settings) and not kind.weighs:
        return "weights do not change it."
    if problem.target == "labels" and kind.one_label:
        return "it gives one class per image, not several labels."
    if kind.stops_early and not (len(problem.val) or settings.without_val):
        return "it watches val images to stop by, and there are none."
    if kind.most_rows is not None and rows > kind.most_rows:
        return (
            f"of {counted(rows, 'image')} it would take too long; auto tries it on up to {kind.most_rows:,}. "
            f"{_by_hand(kind)}"
        )
    if kind.most_values is not None and rows * features > kind.most_values:
        return (
            f"{counted(rows, 'image')} x {counted(features, 'feature')} are more than the {kind.most_values:,} numbers "
            f"up to which auto tries it. {_by_hand(kind)}"
        )
    return ""


def _by_hand(kind: HeadKind) -> str:
    return f"By hand: --clf {kind.clf}{' --kernel rbf' if kind.radial else ''}."
