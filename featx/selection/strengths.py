"""The best strength of one head: a grid from strong to weak regularisation, extended beyond its ends if needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featx.config import HeadOptions
from featx.heads.table import HeadKind
from featx.metrics.table import is_better
from featx.selection.arena import Arena, Found
from featx.selection.choice import Candidate
from featx.selection.kernel import kernel_border_note, search_kernel
from featx.selection.settings import SearchSettings

_MOST_STEPS = 4  # beyond an end of the strengths, where the best one is there
_GIVE_UP = 2  # so many weaker regularisations with neither a better score nor a lower loss end a search
_FEW = 1_000  # images, of which scores go up and down by chance: all strengths are tried


def search_strength(kind: HeadKind, arena: Arena, settings: SearchSettings) -> tuple[Found, list[Candidate]]:
    """The best strength of a kind of head, and what was tried."""
    options = settings.options
    if kind.radial and (options.clf == "auto" or options.strength is None):
        return search_kernel(kind, arena, settings)
    best: Found | None = None
    tried: list[Candidate] = []
    lowest, stale = np.inf, 0
    for trial in arena.trials(kind, _strengths(kind, options), settings):
        found = arena.judge(kind, trial, settings)
        tried.append(arena.candidate(found, settings))
        settings.show(arena.line(tried[-1], kind))
        loss = arena.score("log_loss", trial, kind)
        better = best is None or is_better(options.metric, found.score, best.score)
        if better:
            best = found
        stale = 0 if better or loss < lowest else stale + 1
        lowest = min(lowest, loss)
        if stale >= _GIVE_UP and _ends(kind, trial.strength, arena):
            break
    assert best is not None
    if kind.strength_name and len(kind.strengths) > 1 and len(tried) > 1:
        best = _extend(best, arena, settings, tried)
    return best, tried


def _ends(kind: HeadKind, strength: float, arena: Arena) -> bool:
    """Whether weaker regularisations than `strength` need not be tried where two have brought nothing.

    Under strong regularisation accuracy may stand still (all of one class) and the loss as well, or rise. So a search
    goes beyond the usual strength whatever it finds on the way. Numbers of neighbours are few and cheap, parameters of
    --grid are in no order: all of them are tried.
    """
    return kind.linear and strength > kind.default and arena.images >= _FEW


def _extend(best: Found, arena: Arena, settings: SearchSettings, tried: list[Candidate]) -> Found:
    """Go on beyond the end at which the best strength is, by the last step's ratio, as long as that is better."""
    kind, metric = best.kind, settings.options.metric
    strengths = [float(one.params[str(kind.strength_name)]) for one in tried]
    if best.trial.strength not in {strengths[0], strengths[-1]}:
        return best
    ends = strengths[1::-1] if best.trial.strength == strengths[0] else strengths[-2:]
    ratio, strength = ends[1] / ends[0], ends[1]
    for _ in range(_MOST_STEPS):
        strength = float(f"{strength * ratio:.3g}") if kind.clf != "knn" else float(round(strength * ratio))
        if strength <= 0:
            break
        (trial,) = arena.trials(kind, (strength,), settings)
        found = arena.judge(kind, trial, settings)
        tried.append(arena.candidate(found, settings))
        settings.show(arena.line(tried[-1], kind))
        if not is_better(metric, found.score, best.score):
            break
        best = found
    return best


def border_note(best: Found, candidates: Sequence[Candidate], settings: SearchSettings) -> tuple[str, ...]:
    """Say that the best strength is the last one that was tried in its direction, where it may go on getting better."""
    if best.kind.radial:
        return kernel_border_note(best, settings)
    name = best.kind.strength_name
    own = [one for one in candidates if one.clf == best.kind.clf and name in one.params and "gamma" not in one.params]
    strengths = sorted({float(one.params[str(name)]) for one in own})
    found = best.trial.strength
    others = {one.score for one in own if float(one.params[str(name)]) != found}
    if len(strengths) < 2 or found not in {strengths[0], strengths[-1]} or best.score in others:
        return ()
    if best.kind.clf == "knn" and found == 1:
        return ()
    beyond = "below" if found == strengths[0] else "above"
    text = (
        f"The best {name} of {best.kind.clf}, {found:g}, is at the end of what was tried ({strengths[0]:g} to "
        f"{strengths[-1]:g}): one {beyond} may be better. Try it with --clf {best.kind.clf} --strength."
    )
    return (text,)


def _strengths(kind: HeadKind, options: HeadOptions) -> tuple[float, ...]:
    if options.clf != "auto" and options.strength is not None:
        return (options.strength,)
    if not kind.grid:
        return kind.strengths or (kind.default,)
    from featx.heads.classifiers import grid_points

    return tuple(map(float, range(len(grid_points(options)))))
