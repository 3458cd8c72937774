"""Hugging Face's client, imported only for downloads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from featx.errors import BackboneError

Client = Any


def import_client() -> Client:
    """The package huggingface_hub.

    Raises
    ------
    BackboneError
        It is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise BackboneError(f"hf: needs Hugging Face's client: pip install 'featx[hub]' ({error}).") from error
    return huggingface_hub


def byte_bar(title: str) -> type:
    """A class of progress bars that shows the bytes of all files as one bar, on a terminal alone."""
    tqdm: Any = import_module("huggingface_hub.utils").tqdm

    class ByteBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: object, **options: object) -> None:
            counts_files = options.get("unit") != "B"
            if counts_files or str(options.get("name")).endswith(".transfer"):
                options["disable"] = True
            super().__init__(*args, **(options | {"desc": title}))

        def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
            """Keep the title."""

    return ByteBar
