"""scikit-learn trees from a file, validated, since its compiled code follows them unchecked.

skops builds no tree unasked, as a made-up one leads outside of its arrays. A tree whose every step stays inside, and
leads on, is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHECKED = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
    }
)
"""Types that may be built, since `require_sound_trees` looks at them before they are used"""


def require_sound_trees(estimator: object) -> None:
    """Raise ValueError where a tree in an estimator leads outside of itself, in a circle, or to features it never gets.

    Trees take what the estimator around them has checked the number of features of: that has to be theirs.
    """
    for holder in _holders(estimator):
        name, width = type(holder).__name__, getattr(holder, "n_features_in_", 0)
        for one in _listed(getattr(holder, "estimators_", None)):
            if name.startswith(_SHARE_ROWS) and getattr(one, "n_features_in_", 0) != width:
                raise ValueError(f"a tree of a {name} for another number of features")
        trees = [*_listed(getattr(holder, "_predictors", None)), *_listed(getattr(holder, "tree_", None))]
        for tree in trees:
            _require_sound(tree, int(width))


_SHARE_ROWS = ("RandomForest", "ExtraTrees", "GradientBoosting")  # hand their rows to their trees unchecked


def _require_sound(tree: object, width: int) -> None:
    kind = type(tree).__name__
    if kind == "TreePredictor":
        nodes = tree.nodes  # type: ignore[attr-defined]
        inner = ~nodes["is_leaf"].astype(bool)
        left, right, feature = (nodes[name].astype(np.int64) for name in ("left", "right", "feature_idx"))
        sound = not nodes["is_categorical"][inner].any()
    elif kind == "Tree":
        left, right, feature = (
            np.asarray(getattr(tree, name)) for name in ("children_left", "children_right", "feature")
        )
        inner, sound = left != -1, int(tree.n_features) == width  # type: ignore[attr-defined]
    else:
        return
    place = np.arange(len(left))[inner]
    steps = [side[inner] for side in (left, right)]
    sound = sound and len(left) > 0 and all(((step > place) & (step < len(left))).all() for step in steps)
    if not sound or not ((feature[inner] >= 0) & (feature[inner] < width)).all():
        raise ValueError(f"a {kind} that leads outside of itself")


def _holders(root: object) -> Iterator[object]:
    """Every object that an estimator is made of, each once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple | set) or (isinstance(one, np.ndarray) and one.dtype == object):
            waiting += _listed(one)
        elif hasattr(one, "__dict__") and not isinstance(one, type):
            yield one
            waiting += vars(one).values()


def _listed(value: object) -> list[object]:
    """The items of a list, a tuple or an array of objects, those of lists in it too; one thing alone."""
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype == object else []
    if isinstance(value, list | tuple | set):
        return [item for one in value for item in (_listed(one) if isinstance(one, list | tuple) else [one])]
    return [value]
