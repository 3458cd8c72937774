"""The sections of a model card that consist of commands."""

from __future__ import annotations

import shlex

from featx.bundle.manifest import Manifest
from featx.card.markdown import NOT_RECORDED, code_block, code_span, escape, one_line

_ANYWHERE = (
    "It needs neither the internet nor the training images. `featx export` writes it for runtimes without featx: ONNX, "
    "OpenVINO, LiteRT, SavedModel."
)


def describe_use(manifest: Manifest, place: str) -> str:
    """How to predict with the bundle at `place`."""
    where, answer = shlex.quote(one_line(place)), "labels" if manifest.multilabel else "class"
    named = manifest.head.to_be_named
    trusting = "".join(f" --import {shlex.quote(one_line(name))}" for name in named)
    commands = (
        f"featx predict IMAGE... --model {where}{trusting}    # {answer} and confidence\n"
        f"featx bundle verify {where}{trusting}"
    )
    loaded = f"{one_line(place)!r}" + (f", imports={[one_line(name) for name in named]!r}" if named else "")
    python = f'import featx\n\nprint(featx.load({loaded}).predict(["image.jpg"]).labels)'
    return "\n\n".join([code_block(commands, "sh"), code_block(python, "python"), _ANYWHERE])


def describe_making(manifest: Manifest, place: str) -> str:
    """The command that made it, the versions, and how it is measured again."""
    versions = dict(manifest.versions)
    took = "" if manifest.seconds is None else f" in {manifest.seconds:,.1f} s"
    made = f"Made with Python {escape(versions.pop('python', NOT_RECORDED))}{took}."
    own = versions.pop("featx", None)
    source = (
        [] if own is None else [f"pip install .    # in the source folder of featx {own}, which no package index has"]
    )
    pins = " ".join(f"{package}=={version}" for package, version in versions.items())
    images = "-p PIPELINE" if manifest.multilabel else "--data IMAGES"  # the pipeline knows what separates labels
    part = "test" if manifest.split.images.get("test") else "val"
    commands = [
        *source,
        *([f"pip install {pins}"] if pins else []),
        manifest.command or f"# the command that made it is {NOT_RECORDED}",
        f"featx evaluate {shlex.quote(one_line(place))} {images} --split {part}",
    ]
    digest = manifest.split.digest[:16]
    kept = f"Which image was in which part is kept in the bundle by the images' content (digest {code_span(digest)})."
    return "\n\n".join(
        [
            f"{made} The same again, with the same images and pipeline file:",
            code_block("\n".join(commands), "text"),
            kept,
        ]
    )
