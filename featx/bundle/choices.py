"""Which figures of a bundle were used to choose, and among how many: such figures are optimistic."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from featx.bundle.manifest import Manifest
from featx.bundle.records import CandidateRecord
from featx.io.jsontypes import Json


@dataclass(frozen=True)
class ChoiceMade:
    """what : was chosen; among : how many; by : val, or folds of train ("cv")"""

    what: str
    among: int
    by: Literal["val", "cv"]

    def as_json(self) -> dict[str, Json]:
        """An object of the list under `chosen` in `--json`."""
        return asdict(self)


def choices_of(manifest: Manifest) -> tuple[ChoiceMade, ...]:
    """Every choice that was made by figures of this bundle."""
    tried = {output: list(some) for output, some in manifest.search.items()}
    found = []
    for where in ("cv", "val"):
        some = {output: [one for one in ones if one.where == where] for output, ones in tried.items()}
        what, among = _what({output: ones for output, ones in some.items() if ones}), sum(map(len, some.values()))
        if what:
            found.append(ChoiceMade(what, among, "cv" if where == "cv" else "val"))
    epochs = len(manifest.history)
    if epochs > 1 and manifest.split.images.get("val"):
        found.append(ChoiceMade("epoch", epochs, "val"))
    if manifest.multilabel and manifest.calibrated_on:
        by_folds = manifest.finetune is None and any(one.where == "cv" for ones in tried.values() for one in ones)
        found.append(ChoiceMade("threshold of each label", len(manifest.classes), "cv" if by_folds else "val"))
    return tuple(found)


def describe_choices(manifest: Manifest, by: str = "") -> tuple[str, ...]:
    """A sentence for val and for folds, each where it has chosen something. by : only of "val" or "cv"."""
    sentences = []
    for where, name in (("cv", "Folds of train"), ("val", "Val")):
        found = [one for one in choices_of(manifest) if one.by == where]
        if found and by in {"", where}:
            listed = " and ".join(_phrase(one) for one in found)
            verb, whose = ("have", "their scores") if where == "cv" else ("has", "its figures")
            sentences.append(f"{name} {verb} chosen {listed}, so {whose} are somewhat better than new images will be.")
    return tuple(sentences)


def _phrase(one: ChoiceMade) -> str:
    if one.what.startswith("threshold"):
        return f"a {one.what} ({one.among:,})"
    return f"the {one.what} among {one.among:,}"


def _what(tried: dict[str, list[CandidateRecord]]) -> str:
    """What differs among candidates by output, in words; empty where there is one, or none."""
    if sum(map(len, tried.values())) < 2:
        return ""
    of_each = [len([one for one in ones if one.clf == clf]) for ones in tried.values() for clf in {o.clf for o in ones}]
    words = [
        *(["layers"] if len(tried) > 1 else []),
        *(["head"] if len({one.clf for ones in tried.values() for one in ones}) > 1 else []),
        *(["strength"] if max(of_each) > 1 else []),
    ]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
