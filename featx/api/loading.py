"""featx.load: open an existing bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featx.api.checked import checked
from featx.api.model import Model
from featx.api.options import PathLike
from featx.bundle.bundle import load_bundle
from featx.io.modules import named_modules
from featx.runs.choosing import find_bundle


@checked
def load(bundle: PathLike, *, runs: PathLike = "runs", imports: str | Sequence[str] = ()) -> Model:
    """Load a bundle: its folder, a `.featx` file, or the folder of a run, whose best bundle is used.

    runs : the results folder, for the message if there is no bundle
    imports : modules that define layers of its network, or the classes of its head; their code is executed and then
        applies to every bundle of this process

    Raises
    ------
    BundleError
        No bundle there, or one that is damaged, changed or newer than this featx.

    Examples
    --------
    >>> import featx
    >>> featx.load("runs/flowers").classes
    ('daisy', 'rose', 'tulip')
    """
    named_modules().allow(imports)
    return Model(load_bundle(find_bundle(str(bundle), Path(runs), "")))
