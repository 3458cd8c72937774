"""The commands that are disturbed, what each begins with, and what it has to have made in the end."""

from __future__ import annotations

import io
import os
import shutil
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = ["--backbone", "tiny.keras", "--cache", "cache"]
FIT = ["pictures", *FEATURES, "--strength", "0.01", "--split", "0.5,0.25,0.25", "--no-html", "--name", "lab"]
SHORT = ["--epochs", "1", "--batch-size", "8", "--unfreeze", "last"]
BUNDLE = "runs/lab/1-logreg"


@dataclass(frozen=True)
class Command:
    """One command line. start : the folder that it begins with (`prepare`)"""

    start: str
    arguments: tuple[str, ...]


COMMANDS = {
    "extract": Command("network", ("extract", "pictures", *FEATURES)),
    "extract-cold": Command("images", ("extract", "pictures", *FEATURES)),
    "fit": Command("features", ("fit-head", *FIT)),
    "finetune": Command("bundle", ("finetune", *FIT[:5], *FIT[7:], *SHORT)),
    "pack": Command("bundle", ("bundle", "pack", BUNDLE, "--out", "packed.featx")),
    "export": Command("bundle", ("export", BUNDLE, "--format", "openvino", "--out", "exported", "--force")),
    "prune": Command("parts", ("cache", "prune", "--cache", "cache")),
    "repair": Command("damaged", ("cache", "verify", "--repair", "--cache", "cache")),
    "compare": Command("features", ("compare", "-p", "compare.yaml", "--clf", "logreg,ridge", "--name", "both")),
}

WITHOUT_TENSORFLOW = {"extract", "fit", "pack", "prune", "repair"}  # their process is small, and quickly forked


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""

    @property
    def fault(self) -> str | None:
        """What is wrong with how it ended; None for success and for one clear sentence."""
        text = self.out + self.err
        for word in ("Traceback", "Unexpected", "mistake in featx", "Exception ignored"):
            if word in text:
                return f"{word}: {text.strip()[-600:]}"
        if self.status == 0:
            return None
        return None if self.status in {1, 2} and self.sentence else f"status {self.status}: {text.strip()[-600:]}"


def call(arguments: tuple[str, ...]) -> Ended:
    """Run a command in this process, in its working directory."""
    from featx.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(arguments))
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return Ended(status, out.getvalue(), err.getvalue())


def prepare(root: Path, whole: bool = True, per_class: int = 4) -> None:
    """Make the folders that commands begin with: `images`, `network`, `features`, `parts`, `damaged`, `bundle`."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from fitted import write_backbone, write_pictures

    write_pictures(root / "images" / "pictures", per_class)
    for path in (root / "images").rglob("*.png"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    write_backbone(root / "images" / "tiny.keras")
    os.utime(root / "images" / "tiny.keras", (1_600_000_000, 1_600_000_000))
    (root / "images" / "compare.yaml").write_text(
        "data: {path: pictures, split: [0.5, 0.25, 0.25]}\nfeatures: {backbone: tiny.keras, cache: cache}\n"
        "head: {strength: 0.01}\n"
    )
    _then(root, "images", "features", COMMANDS["extract"].arguments)
    _then(root, "features", "network")
    for part in (root / "network" / "cache").rglob("*@*/*.h5"):
        part.unlink()
    if not whole:
        return
    _then(root, "features", "bundle", COMMANDS["fit"].arguments)
    classes = sorted(path.name for path in (root / "images" / "pictures").iterdir())
    _then(root, "network", "parts", *[("extract", f"pictures/{name}", *FEATURES) for name in classes])
    _then(root, "parts", "damaged")
    for part in sorted((root / "damaged" / "cache").rglob("*@*/*.h5"))[:2]:
        content = bytearray(part.read_bytes())
        content[-3] ^= 1  # of the last row of features
        part.write_bytes(content)


def _then(root: Path, start: str, name: str, *commands: tuple[str, ...]) -> None:
    """Go on from one folder to the next, in the place of the trials: networks are remembered by their whole path."""
    place, before = root.parent / "trial", Path.cwd()
    copy(root / start, place)
    os.chdir(place)
    try:
        for arguments in commands:
            ended = call(arguments)
            assert ended.status == 0, ended
    finally:
        os.chdir(before)
    place.rename(root / name)


def copy(source: Path, target: Path) -> None:
    """A copy of a folder with the times of its files, so that what is remembered of them holds."""
    shutil.copytree(source, target, copy_function=shutil.copy2)


def result(folder: Path) -> dict[str, Any]:
    """What there is: the rows of every store, the bundles of every run, the packed and exported files."""
    from featx.bundle.bundle import load_bundle
    from featx.bundle.sealing import MANIFEST
    from featx.store.cache import Cache

    found: dict[str, Any] = {}
    with Cache(folder / "cache") as cache:
        for store in cache.stores():
            for name, table in store.tables().items():
                rows = {}
                for part in table.parts:
                    lookup = part.digest[~table.missing(part.digest, part.view)]
                    if len(lookup):
                        values = table.read(lookup).asarray()
                        rows |= {
                            digest.tobytes().hex(): row.tobytes() for digest, row in zip(lookup, values, strict=True)
                        }
                if rows:
                    found[f"rows {name}"] = rows
    for path in sorted(folder.glob(f"runs/*/[0-9]*-*/{MANIFEST}")):
        bundle = load_bundle(path.parent)
        found[f"bundle {path.parent.parent.name} {bundle.manifest.fingerprint}"] = _numbers(path.parent)
    packed = folder / "packed.featx"
    if packed.exists():
        with zipfile.ZipFile(packed) as archive:
            found["packed"] = {one.filename: one.CRC for one in archive.infolist()}
    for path in sorted(folder.glob("exported/[a-z]*/*")):
        found[f"exported {path.relative_to(folder)}"] = path.stat().st_size if path.suffix == ".bin" else True
    return found


def _numbers(bundle: Path) -> dict[str, np.ndarray]:
    head = bundle / "head.npz"
    if not head.exists():
        return {}
    with np.load(head) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files if arrays[name].dtype.kind == "f"}


def difference(found: Any, expected: Any, place: str = "") -> str | None:
    """In what two results differ; None where they are the same, to the last digits that threads may change."""
    if isinstance(expected, dict):
        if found.keys() != expected.keys():
            return f"{place}: {sorted(found)[:4]} ({len(found)}) in place of {sorted(expected)[:4]} ({len(expected)})"
        return next((d for key in expected if (d := difference(found[key], expected[key], f"{place} {key}"))), None)
    if isinstance(expected, np.ndarray):
        same = found.shape == expected.shape and np.allclose(found, expected, 1e-3, 1e-4)
        return None if same else f"{place}: other numbers"
    return None if found == expected else f"{place}: {str(found)[:80]} in place of {str(expected)[:80]}"


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders that an ended command has left."""
    named = [*folder.rglob(".tmp-*"), *(folder / "tmp").glob("*")]
    return sorted(str(path.relative_to(folder)) for path in named)
