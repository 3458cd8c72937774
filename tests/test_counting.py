"""Numbers agree with their words: 1 image, 2 images."""

from __future__ import annotations

import ast
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

from conftest import write_images

import featx
from featx.io.counting import agreeing, counted, counted_of, enumerated, none_of

_ROOM = Path(featx.__file__).parent
_NOUNS = (
    "images|files|classes|rows|labels|groups|views|epochs|models|lines|columns|folders|mistakes|features|parts|tokens|"
    "duplicates|copies|layers|networks|heads|predictions|answers|points|pairs|pictures|options|runs|errors|cells|steps"
)
_KINDS = "new|more|other|train|training|val|test|different|held|likely|cached|position"
_PLURAL = re.compile(rf" (?:(?:{_KINDS}) )?(?:{_NOUNS})\b")
_NUMBER = re.compile(r"len\(.*|int\(.*|.*\.sum\(\)|.*\.shape\[\d\]|(.*\W)?(n|d|count|number|images|rows|classes)")
_IN_PAGES = re.compile(rf"\| (?:number|length) \}}\}} (?:[a-z-]+ )?(?:{_NOUNS})\b.{{0,30}}")


def test_a_number_brings_the_form_of_its_noun() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
    assert [counted(n, "image is", "images are") for n in (1, 3)] == ["1 image is", "3 images are"]
    assert [counted_of(*n, "image") for n in ((1, 1), (1, 45), (0, 0))] == [
        "1 of 1 image",
        "1 of 45 images",
        "0 of 0 images",
    ]
    assert [agreeing(n, "is", "are") for n in (0, 1, 2)] == ["are", "is", "are"]
    assert [none_of(n, "image") for n in (1, 45)] == ["No image", "None of the 45 images"]


def _plurals(path: Path) -> list[str]:
    """Numbers in the sentences of a module that a noun in the plural follows whatever they are."""
    found, source = [], path.read_text(encoding="utf-8")
    if not re.search(rf"\}}{_PLURAL.pattern}", source):
        return []
    tree = list(ast.walk(ast.parse(source)))
    agree = [one.args for one in tree if isinstance(one, ast.Call) and ast.unparse(one.func) == "agreeing"]
    chosen = {id(argument) for arguments in agree for argument in arguments}
    for text in tree:
        parts = text.values if isinstance(text, ast.JoinedStr) and id(text) not in chosen else []
        for number, words in itertools.pairwise(parts):
            if not isinstance(number, ast.FormattedValue) or not isinstance(words, ast.Constant):
                continue
            value, size = ast.unparse(number.value), ast.unparse(number.format_spec) if number.format_spec else ""
            is_number = "," in size or (not size and _NUMBER.fullmatch(value))
            if is_number and not value.lstrip("_").isupper() and _PLURAL.match(str(words.value)):
                found.append(f"{path.relative_to(_ROOM)}:{number.lineno}: {value}{words.value}")
    return found


def test_no_sentence_says_1_images() -> None:
    assert not [one for path in sorted(_ROOM.rglob("*.py")) for one in _plurals(path)]
    pages = {path.name: _IN_PAGES.findall(path.read_text(encoding="utf-8")) for path in _ROOM.rglob("*.html")}
    assert not {name: found for name, found in pages.items() if found}


def test_a_run_with_one_image_in_each_part(featx: Any, cache: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """One bad file, one copy, one image of val, one of test that is wrong: neither a line nor a page says 1 images."""
    counts = {"train/cat": 3, "train/dog": 3, "val/cat": 1, "test/dog": 1, "new": 1}
    for seed, (name, count) in enumerate(counts.items()):
        write_images(tmp_path / "data" / name, count, seed=10 * seed)
    (tmp_path / "data/new").rename(tmp_path / "new")
    shutil.copy(next(tmp_path.glob("data/train/cat/*")), tmp_path / "data/train/cat/copy.png")
    (tmp_path / "data/train/dog/bad.png").write_bytes(b"no image")
    options = ("--backbone", tiny_backbone, "--layer", "high")
    commands = [
        ("check", "data"),
        ("fit-head", "data", "--dry-run", *options),
        ("fit-head", "data", *options),
        ("check", "data", "--features", *options),
        ("evaluate", "--data", "data", "--mistakes", "mistakes"),
        ("next", "new"),
        ("models",),
    ]
    said = "\n".join(done.stdout + done.stderr for done in (featx(*one) for one in commands))
    pages = sorted(
        [*tmp_path.rglob("runs/**/*.html"), *tmp_path.rglob("runs/**/README.md"), *tmp_path.rglob("mistakes/*.html")]
    )
    assert len(pages) >= 4
    for text in (said, *(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")) for page in pages)):
        assert not re.findall(rf".*(?<![\d.,/-])1 (?:(?:{_KINDS}) )?(?:{_NOUNS})\b.*", text)


def test_names_are_enumerated_as_in_a_sentence() -> None:
    assert [enumerated(["a", "b", "c"][:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
