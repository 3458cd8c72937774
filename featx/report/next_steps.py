"""The next steps that a model's figures suggest, each with the command to copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from featx.bundle.manifest import Manifest
from featx.io.counting import counted
from featx.metrics.digits import outward
from featx.report.standing import ClassTally, Standing
from featx.report.words import a_few, counted_images, named

_MOST = 4  # steps; who reads more does none of them
_NAMED = 3  # classes
_WIDE = 0.15  # an interval that more images should narrow
_GOOD = 0.98  # a share that leaves little to gain, and is suspicious where images belong together
_SUSPICIOUS = (2, 0.2)  # confident mistakes: at least so many, and such a share of all mistakes
_COPIES = 0.05  # the share of copies from which on other images are likely alike, too
_UNEVEN = 3  # times as many images of the usual class as of a weak one
_TUNABLE = 200  # training images from which on fine-tuning is worth its time
_MANY = 5000  # training images below which `featx look` advises against it
_WEIGHTED = frozenset({"logreg", "svm", "ridge", "dense"})  # heads that take weights of classes


@dataclass(frozen=True)
class Step:
    """Something to do. command : to copy; empty where none does it"""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Typed:
    """What the commands about a run begin with.

    data : the arguments of `featx fit-head` and others; empty where the images are not files, and there is no command
    unsplit : the same without shares of the parts
    trainable : whether the network can be fine-tuned
    unlayered : `data` without layers and poolings, for what tries others; None: `data` has none
    """

    data: str = ""
    unsplit: str = ""
    trainable: bool = True
    unlayered: str | None = None

    def command(self, name: str, more: str = "") -> str:
        """A command on the data of the run."""
        return " ".join(filter(None, ["featx", name, self.data, more])) if self.data else ""

    def look(self) -> str:
        """The command that tries other layers."""
        return replace(self, data=self.data if self.unlayered is None else self.unlayered).command("look")


UNTYPED = Typed()
"""The name of images that are not files"""


@dataclass(frozen=True)
class _Case:
    """All that a step can be decided by."""

    found: Standing
    manifest: Manifest
    duplicates: int
    typed: Typed

    @property
    def mistakes(self) -> int:
        """Images that are wrong."""
        return self.found.images - self.found.right

    @property
    def trained_on(self) -> dict[str, int]:
        """Class -> training images, where they are recorded."""
        return dict(self.manifest.split.classes.get("train", {}))

    @property
    def is_head(self) -> bool:
        """Whether the network is frozen."""
        return self.manifest.finetune is None and self.manifest.baseline is None


def advise_next(found: Standing | None, manifest: Manifest, duplicates: int, typed: Typed) -> tuple[Step, ...]:
    """The steps, the most urgent first. found : None where nothing was measured"""
    if found is None:
        return (_keep_images_back(manifest, typed),)
    case = _Case(found, manifest, duplicates, typed)
    steps = [step for rule in _RULES if (step := rule(case)) is not None]
    return tuple(steps[:_MOST])


def _keep_images_back(manifest: Manifest, typed: Typed) -> Step:
    text = "Hold back test images, which are not used to fit or choose anything."
    trained = manifest.split.classes.get("train", {})
    if trained and max(trained.values()) == 1 and not manifest.split.images.get("val"):  # no share would keep one back
        return Step("Add images: a class has one in test from two images on, and one in val from three on.")
    if manifest.split.declared:
        return Step(f"{text} The data declares its parts, and this one is missing.")
    return Step(text, f"featx fit-head {typed.unsplit} --split 0.6,0.2,0.2" if typed.unsplit else "")


def _test_part(case: _Case) -> Step | None:
    if case.found.part != "val" or case.manifest.split.images.get("test"):
        return None
    return _keep_images_back(case.manifest, case.typed)


def _labels(case: _Case) -> Step | None:
    """Mistakes that the model is sure of may be mistakes of the labels."""
    least, share = _SUSPICIOUS
    sure = case.found.sure
    if sure < least or sure < share * case.mistakes:
        return None
    text = (
        f"Look at the labels: {sure:,} of the {counted(case.mistakes, 'mistake')} are made with a confidence of 90 % "
        "or more."
    )
    return Step(text, case.typed.command("check", "--features"))


def _together(case: _Case) -> Step | None:
    """Figures that are too good where images of one thing are in two parts."""
    split, images = case.manifest.split, case.manifest.data.images or sum(case.manifest.split.images.values())
    copied = bool(images) and case.duplicates >= _COPIES * images
    if split.grouped or split.declared or case.found.part in {"train", "all"}:
        return None
    if not copied and case.found.share < _GOOD:
        return None
    why = (
        counted(case.duplicates, "image is a copy of another", "images are copies of others")
        if copied
        else "Nearly everything is right"
    )
    text = f"{why}: if several images show one thing, person or scene, keep them together with --group-column."
    return Step(text, case.typed.command("check", "--features"))


def _more_images(case: _Case) -> Step | None:
    weakest, trained = case.found.weakest()[:_NAMED], case.trained_on
    if not weakest or case.found.share >= _GOOD:
        return None
    names = a_few([_with_count(one, trained) for one in weakest], _NAMED)
    usual = median(trained.values()) if trained else 0
    few = [one for one in weakest if 0 < _UNEVEN * trained.get(one.label, usual) <= usual]
    weigh = bool(few) and case.manifest.head.clf in _WEIGHTED and case.manifest.head.class_weight == "none"
    command = case.typed.command("fit-head", f"--clf {case.manifest.head.clf} --class-weight balanced") if weigh else ""
    also = " Until there are, give all classes the same weight." if command else ""
    return Step(f"More training images of {names}.{also}", command)


def _with_count(one: ClassTally, trained: dict[str, int]) -> str:
    count = trained.get(one.label)
    return named(one.label) + ("" if count is None else f" (so far {count:,})")


def _other_head(case: _Case) -> Step | None:
    tried = {one.clf for some in case.manifest.search.values() for one in some}
    if not case.is_head or len(tried) > 1 or not case.mistakes or case.found.share >= _GOOD:
        return None
    return Step("Compare all kinds of heads on the cached features.", case.typed.command("fit-head", "--clf auto"))


def _other_layer(case: _Case) -> Step | None:
    if not case.is_head or len(case.manifest.search) > 1 or not case.mistakes or case.found.share >= _GOOD:
        return None
    return Step("See whether another layer of the network suits these images.", case.typed.look())


def _finetune(case: _Case) -> Step | None:
    images = case.manifest.split.images.get("train", 0)
    if not case.is_head or not case.typed.trainable or images < _TUNABLE or case.found.share >= _GOOD:
        return None
    text = f"Fine-tune the network: {counted(images, 'training image is', 'training images are')} enough to try."
    if images < _MANY:
        text += " It may memorise so few; the result is taken only where it is better."
    return Step(text, case.typed.command("finetune"))


def _sharper(case: _Case) -> Step | None:
    low, high = case.found.interval
    if high - low < _WIDE:
        return None
    between = "between {} and {} %".format(*outward(case.found.interval, 0, 2))
    return Step(f"Measure on more images: by {counted_images(case.found)} the share that is right is {between}.")


_RULES: tuple[Callable[[_Case], Step | None], ...] = (
    _test_part,
    _labels,
    _together,
    _more_images,
    _other_head,
    _other_layer,
    _finetune,
    _sharper,
)
