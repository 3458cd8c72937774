"""Hooks of MkDocs: pages that are made of files outside of docs/, and links that lead to them.

Links in the repository lead from file to file (`../CHANGELOG.md`, `docs/heads.md`), as its own page shows them. In the
site they lead to the pages that were made of these files.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {  # file in the repository -> page of the site; all of docs/ keeps its name
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "pipelines/README.md": "pipelines.md",
    "examples": "examples.md",
}
FILES = {page: file for file, page in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made of other files."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = list_examples() if source == "examples" else (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page from those of the repository into those of the site."""
    return relink(markdown, page.file.src_uri)


def list_examples() -> str:
    """The page of all examples: their code, one after the other."""
    about = "Each script is a file of its own, to be copied. [Export](docs/export.md) explains more."
    scripts = sorted((ROOT / "examples").glob("*.py"))
    listed = [f"## {script.name}\n\n```python\n{script.read_text(encoding='utf-8')}```" for script in scripts]
    return "\n\n".join(["# Predict without featx", about, *listed]) + "\n"


def relink(markdown: str, page: str) -> str:
    """Links to files of the repository as links to pages.

    page : where the text stands in the site, as `tutorial.md` or `reference/python.md`
    """
    file = FILES.get(page, f"docs/{page}")
    folder = "" if file == "examples" else posixpath.dirname(file)  # its text is written as if it stood at the root

    def target(match: re.Match[str]) -> str:
        wanted = posixpath.normpath(posixpath.join(folder, match[1]))
        if not (ROOT / wanted).exists():
            return match[0]
        anchor = match[2] or ""
        if wanted.startswith("examples/"):
            anchor = f"#{posixpath.basename(wanted).replace('.', '')}" if wanted.endswith(".py") else ""
            wanted = "examples"
        place = PAGES.get(wanted, PAGES.get(f"{wanted}/README.md", wanted.removeprefix("docs/")))
        return posixpath.relpath(place, posixpath.dirname(page) or ".") + anchor

    return _LINK.sub(target, markdown)
