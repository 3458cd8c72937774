"""How pixel values are transformed before a network, as one text: a name, or its numbers.

`imagenet`, or `scale=0.00392156863 mean=0.48,0.46,0.41 std=0.27,0.26,0.28 bgr`: the text is in the key of the features,
in bundles and on the command line of other people's networks.
"""

from __future__ import annotations

from collections.abc import Mapping

from featx.backbones.preprocessing import FORMULAS, Factor, Preprocessing, named_preprocessing
from featx.errors import UsageError

ALIASES: Mapping[str, str] = {"imagenet": "torch", "half": "tf", "inception": "tf"}
"""Other people's names of the same numbers"""
_CLIP = Preprocessing(
    (0, 0),
    scale=1 / 255,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
NAMES = (*FORMULAS, *ALIASES, "clip")


def write_values(values: Preprocessing) -> str:
    """The text of what is done to values; its name where it has one."""
    if values.name is not None:
        return values.name
    parts = [f"scale={values.scale:.12g}", f"mean={_write(values.mean)}", f"std={_write(values.std)}"]
    return " ".join([*parts, *(["bgr"] if values.channels == "bgr" else [])])


def read_values(text: str, size: tuple[int, int]) -> Preprocessing:
    """The preprocessing of a text at a size (height, width).

    Raises
    ------
    UsageError
        Neither a name nor such a text.
    """
    name = ALIASES.get(text, text)
    if name in FORMULAS:
        return named_preprocessing(name, size)
    if name == "clip":
        return read_values(write_values(_CLIP), size)
    try:
        fields = dict(part.split("=") for part in text.split() if part != "bgr")
        channels = "bgr" if "bgr" in text.split() else "rgb"
        scale, mean, std = float(fields["scale"]), _read(fields["mean"]), _read(fields["std"])
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"No preprocessing {text!r}. Choose one of auto, {', '.join(NAMES)}, or give --mean and --std."
        ) from error
    return Preprocessing(size, scale=scale, mean=mean, std=std, channels=channels)


def _write(value: Factor) -> str:
    return ",".join(f"{one:.9g}" for one in (value if isinstance(value, tuple) else (value,)))


def _read(text: str) -> Factor:
    numbers = tuple(float(one) for one in text.split(","))
    if len(numbers) not in {1, 3}:
        raise ValueError(text)
    return numbers if len(set(numbers)) > 1 else numbers[0]
