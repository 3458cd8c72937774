"""The effect of an augmentation policy on an image, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.images.augment import Augmenter, Change
from featx.images.decoder import load_image
from featx.images.grid import GridImage, draw_grid
from featx.io.digests import digest_file


def draw_policy(augmenter: Augmenter, path: str, size: tuple[int, int], resize: str, out: Path, count: int = 5) -> Path:
    """Draw an image and its first views; under them what each operation does by itself, where there are several.

    path : of the image; size : (height, width) of the network's input; resize : as in `featx.images.decoder.load_image`

    Raises
    ------
    UsageError
        A policy that does nothing.
    BadImage
        When no image can be made of the file.
    """
    operations = augmenter.policy.operations
    if not operations:
        raise UsageError(
            "No operation is on, so every view is the image itself. Add one, like --flip horizontal or --rotation 20, "
            "or name a pipeline file with a section augment: -p FILE."
        )
    image = load_image(path, size, resize)
    digest = digest_file(path)

    def row(one: Augmenter, title: tuple[str, ...], operation: str | None) -> list[GridImage]:
        cells = [GridImage(path, title, pixels=image)]
        for view in range(1, count + 1):
            caption = f"view {view}" if operation is None else describe(operation, one.draw(digest, view))
            cells.append(GridImage(path, (caption,), pixels=one(image, digest, view)))
        return cells

    cells = row(augmenter, (Path(path).name,), operations[0] if len(operations) == 1 else None)
    if len(operations) > 1:
        for name in operations:
            cells += row(augmenter.only(name), (f"{name} {getattr(augmenter.policy, name)}",), name)
    return draw_grid(cells, out, columns=count + 1)


def describe(operation: str, change: Change) -> str:
    """What an operation does in one draw, in a few words."""
    value: Any = getattr(change, operation)
    match operation:
        case "flip":
            return {(True, False): "left to right", (False, True): "upside down", (True, True): "both"}.get(value, "-")
        case "rotation":
            return f"{value:+.1f}°"
        case "shift":
            return f"{value[0]:+.2f}, {value[1]:+.2f}"
        case "shear":
            return f"{value:+.2f}"
        case "crop" | "erasing":
            left, top, right, bottom = value
            return f"{(right - left) * (bottom - top):.0%}"
        case _:
            return f"x {value:.2f}"
