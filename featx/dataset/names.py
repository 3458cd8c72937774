"""What the name of a file or folder gives away: litter of file managers, and documents that lie beside images."""

from __future__ import annotations

from pathlib import PurePosixPath

# Of file managers, file systems and servers, in lower case
_LITTER = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx", "network trash folder"),
    *("temporary items", "thefindbyfolder", "thevolumesettingsfolder", "lost+found", "system volume information"),
    *("$recycle.bin", "recycler", "recycled", "wpsettings.dat", "indexervolumeguid", "found.000"),
    *("#recycle", "#snapshot", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "~snapshot"),
    "__pycache__",
    *("aquota.user", "aquota.group", "quota.user", "quota.group"),
}
TABLES = (".csv", ".tsv")  # endings of a list of images
# Files without an ending may be images; these are not.
_DOCUMENTS = {"readme", "license", "licence", "copying", "notice", "authors", "changelog", "citation", "makefile"}
_DOCUMENTS |= {"md5sums", "sha1sums", "sha256sums", "dockerfile", "version"}
_ENDINGS = {
    *(".md", ".markdown", ".rst", ".txt", ".tex", ".bib", ".rtf", ".pdf", ".doc", ".docx", ".odt", ".ppt", ".pptx"),
    *(*TABLES, ".xls", ".xlsx", ".ods", ".parquet", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
    *(".xml", ".html", ".htm", ".css", ".js", ".py", ".ipynb", ".r", ".m", ".sh", ".bat", ".log", ".cff", ".url"),
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
    *(".md5", ".sha1", ".sha256", ".sha512", ".db", ".sqlite", ".h5", ".hdf5", ".npy", ".npz", ".mat", ".pkl"),
}


def is_left_aside(name: str) -> bool:
    """Whether a file or folder is hidden, or litter of file managers, file systems and servers."""
    return name.startswith(".") or name.lower() in _LITTER


def is_document(name: str) -> bool:
    """Whether a file is, by its name, what lies beside images: a text, a table, an archive."""
    path = PurePosixPath(name.lower())
    return path.suffix in _ENDINGS or path.name in _DOCUMENTS
