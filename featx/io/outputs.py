"""Output files: existing ones are replaced only if that was requested."""

from __future__ import annotations

from pathlib import Path

from featx.errors import UsageError


def require_new(out: Path | None, force: bool, allowing: str = "--force", naming: str = "--out") -> None:
    """Refuse a file that exists, or a folder with anything in it, unless it may be replaced.

    allowing, naming : what does so, and what names another one, where it is said

    Raises
    ------
    UsageError
        There is something, and `force` is not set.
    """
    if out is None or force:
        return
    if out.is_file():
        raise UsageError(f"{out} exists already. Replace it with {allowing}, or name another file with {naming}.")
    if out.is_dir() and next(out.iterdir(), None) is not None:
        raise UsageError(
            f"{out} is a folder with files in it. Add to it with {allowing}, or name another with {naming}."
        )


def require_new_in_python(out: str | Path | None, force: bool) -> Path | None:
    """The path of an output, where it may be written; see `require_new`."""
    path = None if out is None else Path(out)
    require_new(path, force, "force=True", "out=")
    return path
