"""A run: the results folder of one name. Only this module knows its layout.

split/            which image is in which part (`featx.runs.split`)
data.json         where its images were (`featx.runs.known_data`)
labels.json       what a person has said of their labels (`featx.runs.labels`)
<n>-<clf>/        a bundle; beside its sealed files `report/`, and `checkpoints/` where a fine-tune keeps networks
.training-<id>/   what the fit of a head resumes from; .finetune-<id>/, .baseline-<id>/ : the other trainings
look/, check/, next/, label/   what `featx look`, `featx check --features`, `featx next` and `featx label` write
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featx.bundle.bundle import Bundle, save_bundle
from featx.bundle.manifest import Manifest
from featx.bundle.sealing import MANIFEST, read_manifest
from featx.config import Pipeline
from featx.dataset import ImageSet
from featx.errors import BundleError
from featx.runs.best import choose_best
from featx.runs.known_data import KnownData
from featx.runs.split import KeptSplit

Training = Literal["training", "finetune", "baseline"]


@dataclass(frozen=True)
class Run:
    """The folder of the results of one name; it need not exist yet.

    path : the folder
    """

    path: Path

    @classmethod
    def of(cls, pipeline: Pipeline, images: ImageSet | None = None) -> Run:
        """The run of a pipeline: `<runs>/<name of the pipeline or the data>`."""
        name = pipeline.report.name or (images.name if images else "default")
        return cls(Path(pipeline.report.runs) / name)

    @classmethod
    def of_list(cls, path: Path) -> Run | None:
        """The run in which a list of images to label next, or to check, lies; None where it lies elsewhere."""
        folder = path.resolve().parent
        run = cls(folder.parent)
        return run if folder in {run.next, run.check} else None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def split(self) -> KeptSplit:
        """Which image is in which part."""
        return KeptSplit(self.path / "split")

    @property
    def data(self) -> KnownData:
        """Which data set it is of."""
        return KnownData(self.path)

    @property
    def look(self) -> Path:
        """Where a first look at the data goes."""
        return self.path / "look"

    @property
    def check(self) -> Path:
        """Where the lists of what is suspicious in the data go."""
        return self.path / "check"

    @property
    def next(self) -> Path:
        """Where the lists of what to label next go."""
        return self.path / "next"

    @property
    def label(self) -> Path:
        """Where the labels that a person gives go."""
        return self.path / "label"

    @property
    def enough(self) -> Path:
        """Where the curve of accuracy against the number of images goes."""
        return self.path / "enough"

    @property
    def drift(self) -> Path:
        """Where the comparison of its images with those of a model goes."""
        return self.path / "drift"

    def training_state(self, training: Training, state: str) -> Path:
        """The folder that a training resumes from.

        state : digest, as hexadecimal text, of all that its weights depend on
        """
        return self.path / f".{training}-{state[:12]}"

    def bundles(self) -> list[Bundle]:
        """Its bundles, the oldest first; their files are not verified. Unreadable ones are left out."""
        found = []
        for path in self.path.glob(f"*-*/{MANIFEST}"):
            if not bundle_number(path.parent):  # such as what a killed process has left under its temporary name
                continue
            try:
                found.append(Bundle(path.parent, read_manifest(path.parent)))
            except BundleError:
                continue
        return sorted(found, key=lambda bundle: bundle_number(bundle.path))

    def best_of(self, is_wanted: Callable[[Bundle], bool]) -> Bundle | None:
        """The best of the bundles that are wanted; None where there is none of them."""
        return self.best(is_wanted) if any(map(is_wanted, self.bundles())) else None

    def best(self, is_wanted: Callable[[Bundle], bool] = lambda _: True) -> Bundle:
        """The best bundle by `choose_best`, among those with the newest one's split and metric.

        Of equal scores the older one is taken; a fine-tuned network has to be clearly better than its head.

        is_wanted : whether a bundle is chosen from

        Raises
        ------
        BundleError
            There is none.
        """
        found = [bundle for bundle in self.bundles() if is_wanted(bundle)]
        if not found:
            raise BundleError(f"No bundle in {self.path} yet. Make one: featx fit-head DATA")
        newest = found[-1].manifest
        rivals = [bundle for bundle in found if _is_rival(bundle.manifest, newest)]
        return choose_best(rivals) if rivals else found[-1]

    def rivals(self) -> list[Bundle]:
        """The bundles that the best one was chosen among, the oldest first."""
        found = self.bundles()
        return [bundle for bundle in found if _is_rival(bundle.manifest, found[-1].manifest)]

    def find(self, fingerprint: str) -> Bundle | None:
        """The newest bundle that was made of exactly this, its files not verified; None where there is none."""
        made = [bundle for bundle in self.bundles() if bundle.manifest.fingerprint == fingerprint]
        return made[-1] if made else None

    def add(self, label: str, manifest: Manifest, sources: Mapping[str, Path]) -> Bundle:
        """Save a bundle as `<n>-<label>`, n being the next free number; another process may take that number first.

        manifest, sources : as in `save_bundle`
        """
        while True:
            directory = self.next_directory(label)
            try:
                return save_bundle(directory, manifest, sources)
            except OSError:
                if not directory.exists():
                    raise

    def next_directory(self, label: str) -> Path:
        """`<n>-<label>` with the next free number."""
        return self.path / f"{max(map(bundle_number, self.path.glob('*-*')), default=0) + 1}-{label}"


def bundle_number(path: Path) -> int:
    """The n of `<n>-<label>`; 0 for a folder that is not one of a run's."""
    number = path.name.split("-")[0]
    return int(number) if number.isdecimal() else 0


def report_folder(bundle: Path) -> Path:
    """Where the report of a bundle is, in its directory; not one of the bundle's files, which are sealed before."""
    return bundle / "report"


def checkpoints_folder(folder: Path) -> Path:
    """Where networks of single epochs are kept: in the state of a fine-tune, and then in the directory of its bundle.

    They are not among the bundle's files, all of which are read when it is loaded.
    """
    return folder / "checkpoints"


def _is_rival(one: Manifest, newest: Manifest) -> bool:
    same = one.split.digest == newest.split.digest and one.score.metric == newest.score.metric
    return same and one.score.value is not None
