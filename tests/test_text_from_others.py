"""Names and tables that others have written: what is read is what was meant, and what is shown is harmless."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from fitted import Lab, call
from unkind import encode, gradient

from featx.backbones.other_files import describe_other_file
from featx.bundle.bundle import load_bundle
from featx.config import DataOptions
from featx.dataset import read_images, write_split
from featx.dataset.folders import read_files
from featx.errors import DataError, UsageError
from featx.io.commands import without_folders
from featx.io.csvtext import csv_text, read_rows
from featx.io.files import temporary_beside, write_atomic
from featx.io.index import StatIndex
from featx.io.shown import as_json, as_line, as_utf8, from_utf8

ROWS = "path,label\n1.png,cat\n2.png,dog\n3.png,cat\n"


def folder(root: Path, *classes: str, images: int = 3) -> Path:
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(images):
            picture = encode(np.roll(gradient(), 7 * (c * images + k) + 1, axis=1), "PNG")
            (root / name / f"{k}.png").write_bytes(picture)
    return root


def read_bytes(tmp_path: Path, content: bytes, **options: object):
    (tmp_path / "t.csv").write_bytes(content)
    return read_images(tmp_path / "t.csv", DataOptions(**options))


def test_every_table_reads_back_as_it_was_written() -> None:
    draw = random.Random(0)
    alphabet = [*"=+-@'\t\r\n ab,\"1.;\uff1d\u3000\xa0\x1b\u202e\x0b"]
    for _ in range(3000):
        rows = [["x", *("".join(draw.choices(alphabet, k=draw.randint(0, 5))) for _ in range(3))] for _ in range(2)]
        assert [cells for _, cells in read_rows(csv_text(rows), ",")] == rows


def test_a_spreadsheet_gets_no_formula_and_every_number() -> None:
    texts = ["=1+1", "+cmd", "-x", "@sum", "\tx", "\rx", " =1", "'=1", "\uff1d1", "-3", "+2.5e-3", "a=b", "'n", -0.5, 7]
    written = [cell.strip('"') for cell in csv_text([texts]).rstrip("\n").split(",")]
    expected = ["'=1+1", "'+cmd", "'-x", "'@sum", "'\tx", "'\rx", "' =1", "''=1", "'\uff1d1"]
    assert written == [*expected, "-3", "+2.5e-3", "a=b", "'n", "-0.5", "7"]


@pytest.mark.parametrize("text", [ROWS.replace("\n", "\r"), "sep=,\r\n" + ROWS, '"sep=;"\n' + ROWS.replace(",", ";")])
def test_line_ends_and_directives_of_spreadsheets(tmp_path: Path, text: str) -> None:
    images = read_bytes(tmp_path, text.encode())
    assert images.classes == ("cat", "dog")
    assert [Path(path).name for path in images.paths] == ["1.png", "2.png", "3.png"]


def test_a_huge_cell_is_read(tmp_path: Path) -> None:
    text = f"path,label,{'x' * 200_000}\n1.png,cat,{'y' * 200_000}\n"
    assert read_bytes(tmp_path, text.encode()).classes == ("cat",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path,label\n1.png,a\n2\0.png,b\n", "line 3 holds a NUL"),
        (b"path,label\r1.png,a\r2\0.png,b\r", "line 3 holds a NUL"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (ROWS.encode("utf-16-le"), "UTF-16"),
        (ROWS.encode("utf-16"), "UTF-16"),
        (ROWS.encode("utf-32-be"), "UTF-16 or UTF-32"),
        (b'path,label\n1.png,"[""a"", ""b""]"\n', "line 2: the label .* is a list.*--label-separator json"),
        (b"path,label\n1.png,\"['a']\"\n", "is a list"),
    ],
)
def test_what_is_wrong_with_a_csv_is_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_bytes(tmp_path, content)


def test_an_empty_separator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--label-separator"):
        read_bytes(tmp_path, ROWS.encode(), label_separator="")


@pytest.mark.parametrize(
    ("labels", "options", "mark"),
    [
        (["cat|pet", "dog|pet", "cat", "dog"], {}, "|"),
        (["cat;dog", "cat", "dog"], {}, ";"),
        (["a, b", "b, c", "a,b,c", ""], {}, ","),
        (["cat|pet", "dog|pet", "cat", "dog"], {"label_separator": ";"}, "|"),
        (["cat|pet", "dog|pet", "cat", "dog"], {"label_separator": "|"}, None),
        (["animal/cat", "animal/dog", "plant/rose"], {}, None),
        (["New York, NY", "Austin, TX", "Dallas, TX"], {}, None),
        (["red oak", "white oak", "red pine", "white pine"], {}, None),
        (["sun sea", "sun", "sea", "sun sand", "sea sand", "sun sea sand"], {}, None),
        (["a b", "a c", "b c", "a d", "b d", "c d", "a b c", "a b d"], {}, " "),
    ],
)
def test_classes_that_look_like_several_labels_are_named_with_the_option(
    tmp_path: Path, labels: list[str], options: dict[str, str], mark: str | None
) -> None:
    text = "path,label\n" + "".join(f'{row}.png,"{label}"\n' for row, label in enumerate(labels))
    notes = read_bytes(tmp_path, text.encode(), **options).notes
    if mark is None:
        assert notes == ()
    else:
        (note,) = notes
        assert "like several labels. If they are: --label-separator " + repr(mark) in note


def test_lists_are_several_labels(tmp_path: Path) -> None:
    text = 'path,label\n1.png,"[""b"", ""a""]"\n2.png,"[\'a\']"\n3.png,[]\n4.png,\n'
    images = read_bytes(tmp_path, text.encode(), label_separator="json")
    assert images.classes == ("a", "b")
    np.testing.assert_array_equal(images.labels, [[1, 1], [1, 0], [0, 0], [0, 0]])


def test_a_column_for_each_class(tmp_path: Path) -> None:
    text = "path,dog,cat,note\n1.png,0,1,x\n2.png,1,0,\n3.png,0,0,\n"
    images = read_bytes(tmp_path, text.encode(), label_columns=("dog", "cat"))
    assert images.classes == ("cat", "dog")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, -1]
    several = read_bytes(tmp_path, b"path,dog,cat\n1.png,1,1\n2.png,true,0.0\n", label_columns=("*",))
    np.testing.assert_array_equal(several.labels, [[1, 1], [0, 1]])
    with pytest.raises(DataError, match="line 2: 'x' in the column 'note' is neither 0 nor 1"):
        read_bytes(tmp_path, text.encode(), label_columns=("note",))
    assert "--label-columns dog,cat" in read_bytes(tmp_path, text.encode()).notes[0]


def test_names_without_endings(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "c.jpg"):
        (tmp_path / name).touch()
    images = read_bytes(tmp_path, b"path,label\na,x\nb,y\nc,y\n")
    assert [Path(path).name for path in images.paths] == ["a.png", "b.png", "c"]
    assert any("a is taken for a.png" in note for note in images.notes)


def test_white_space_in_names_comes_back(tmp_path: Path) -> None:
    names = ("cat ", " cat", "cat", "\u3000owl\xa0", "=1 ")
    folder(tmp_path / "d", *names, images=1)
    (tmp_path / "d" / "cat" / "0.png").rename(tmp_path / "d" / "cat" / "0.png ")
    images = read_images(tmp_path / "d", DataOptions())
    write_split(tmp_path / "s.csv", images, np.zeros(len(images), np.uint8))
    again = read_images(tmp_path / "s.csv", DataOptions())
    assert (again.paths, again.classes) == (images.paths, images.classes)
    assert again.labels is not None
    assert images.labels is not None
    assert again.labels.tolist() == images.labels.tolist()


def test_litter_of_file_systems_is_no_class(tmp_path: Path) -> None:
    folder(tmp_path / "d", "a", "b", "lost+found", "System Volume Information", "#recycle", "@Recently-Snapshot")
    images = read_images(tmp_path / "d", DataOptions())
    assert images.classes == ("a", "b")
    assert any("Left aside" in note and ": 4" in note for note in images.notes)


def test_the_folders_of_featx_are_no_classes(tmp_path: Path) -> None:
    folder(tmp_path / "d", "a", "b", "__pycache__")
    (tmp_path / "d" / "cache").mkdir()
    (tmp_path / "d" / "cache" / "index.sqlite").touch()
    (tmp_path / "d" / "runs" / "lab" / "1-logreg").mkdir(parents=True)
    (tmp_path / "d" / "runs" / "lab" / "1-logreg" / "bundle.json").touch()
    for images in (read_images(tmp_path / "d", DataOptions()), read_files([tmp_path / "d"])):
        assert {Path(path).parent.name for path in images.paths} == {"a", "b"}
        assert any("folders of featx itself: 2" in note for note in images.notes)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_however_their_accents_are_written(tmp_path: Path, form: Literal["NFC", "NFD"]) -> None:
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "caf\xe9.png")
    (tmp_path / unicodedata.normalize(form, "caf\xe9.png")).touch()
    images = read_bytes(tmp_path, f"path,label\n{other},x\n".encode())
    assert Path(images.paths[0]).exists()


def test_bytes_that_are_not_utf8_are_written_and_read() -> None:
    path = os.fsdecode(b"/k\xe4the/\xc3\xa4\xff.png")
    assert as_utf8(path) == "/k\\xe4the/ä\\xff.png"
    assert from_utf8(as_utf8(path)) == path
    assert json.loads(as_json({path: [path]}).encode()) == {as_utf8(path): [as_utf8(path)]}
    assert as_line("a\x1b[31m\n\u202eb\x9b") == "a\\x1b[31m\\n\\u202eb\\x9b"


def test_no_control_character_reaches_a_terminal(tmp_path: Path) -> None:
    evil = "a\x1b[2Jb\n\u202ec"
    folder(tmp_path / "d", evil, "dog")
    (tmp_path / "d" / "dog" / "x\x1b]0;t\x07.png").write_text("no image")
    for arguments in (["check", "d"], ["split", "d", "--out", "s.csv"], ["check", f"d/{evil}/none"]):
        found = call(*arguments, cwd=tmp_path)
        assert not set(found.out + found.err) & set("\x1b\x07\u202e")
    assert "a\\x1b[2Jb\\n\\u202ec" in call("check", "d", cwd=tmp_path).out
    assert evil in call("check", "d", "--json", cwd=tmp_path).json["classes"]


def run(arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    command = f"'{sys.executable}' -m featx {arguments}"
    return subprocess.run(["/bin/sh", "-c", command], cwd=cwd, env={**os.environ, **env}, capture_output=True)


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    folder(tmp_path / "d", "图像", "dog", images=2)
    narrow = run("check d", tmp_path, PYTHONIOENCODING="cp1252")
    assert narrow.returncode == 0, narrow.stderr
    assert b"\\u56fe\\u50cf" in narrow.stdout
    listed = run("check d --json", tmp_path, PYTHONIOENCODING="latin-1")
    assert json.loads(listed.stdout)["classes"] == {"dog": 2, "图像": 2}
    closed = run("check d >&-", tmp_path)
    assert closed.returncode == 0
    assert closed.stderr == b"featx: The output cannot be written: stdout is closed. What was finished is kept.\n"
    lost = run("cache ls --json >&-", tmp_path)
    assert (lost.returncode, lost.stderr) == (1, closed.stderr)  # a script would take no output for an answer
    assert run("check d >&- 2>&- <&-", tmp_path).returncode == 0
    if Path("/dev/full").exists():
        full = run("check d >/dev/full", tmp_path)
        assert full.returncode == 1
        assert full.stderr.decode().startswith("featx: The output cannot be written: No space left on device")
        assert len(full.stderr.splitlines()) == 1
        assert run("check d 2>/dev/full", tmp_path).returncode == 0
        assert run("--help >/dev/full", tmp_path).stderr == full.stderr


@pytest.mark.parametrize(
    "option", ["--seed=-1", "--seed=4294967296", "--infer-batch=1000000", "--input-size=100000", "--weights-seed=-1"]
)
def test_values_out_of_range_are_refused(tmp_path: Path, option: str) -> None:
    found = call("fit-head", "d", option, cwd=tmp_path)
    assert found.status == 2
    assert option.partition("=")[0].strip("-").replace("-", "_") in found.err
    assert "must be at" in found.err


def test_long_names_and_times_before_all_clocks(tmp_path: Path) -> None:
    path = tmp_path / ("ö" * 120 + ".csv")
    assert len(os.fsencode(temporary_beside(path).name)) <= 255
    assert temporary_beside(path).suffix == ".csv"
    write_atomic(path, "x")
    assert path.read_text() == "x"
    file = tmp_path / "old.png"
    file.touch()
    for seconds in (-11_644_473_600, 20_000_000_000):  # 1601, which Windows begins with, and 2603
        os.utime(file, ns=(0, seconds * 10**9))
        with StatIndex(tmp_path / "index.sqlite") as index:
            index.remember_digests([(str(file), file.stat(), b"x" * 32)])
            index.known_digests([str(file)], [file.stat()])


def test_files_that_are_no_backbone_are_named(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    with h5py.File(tmp_path / "weights.h5", "w"):
        pass
    (tmp_path / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "net.pth").write_bytes(b"PK\3\4")
    for name, words in (
        ("whole.h5", "whole.keras"),
        ("weights.h5", "--weights"),
        ("damaged.h5", "damaged.keras"),
        ("net.pth", "torch.onnx.export"),
    ):
        assert words in describe_other_file(tmp_path / name)
        assert words in call("layers", name, cwd=tmp_path).sentence


@pytest.mark.parametrize(
    ("command", "passed_on"),
    [
        ("featx fit-head data/flowers --layer a/b", "featx fit-head data/flowers --layer a/b"),
        ("featx fit-head /home/ada/flowers --cache=/home/ada/c", "featx fit-head flowers --cache=c"),
        ("featx fit-head '../ada/my flowers/' -p ~/p.yaml", "featx fit-head 'my flowers' -p p.yaml"),
        ("featx fit-head 'C:\\Users\\ada\\x' --set data.path=/home/ada/x", "featx fit-head x --set data.path=x"),
        ("featx fit-head s3://bucket/x", "featx fit-head s3://bucket/x"),
    ],
)
def test_a_command_is_passed_on_without_folders(command: str, passed_on: str) -> None:
    assert without_folders(command) == passed_on


def test_a_packed_bundle_names_no_folder(lab: Lab, tmp_path: Path) -> None:
    from dataclasses import replace

    from featx.bundle.sealing import seal

    home = tmp_path / "home-of-ada" / "1-logreg"
    shutil.copytree(lab.bundle("logreg").path, home)
    seal(home, replace(load_bundle(home).manifest, command=f"featx fit-head {home.parent}/flowers"))
    packed = call("bundle", "pack", str(home), "--out", "m.featx", "--json", cwd=tmp_path)
    assert packed.status == 0, packed.err
    assert packed.json["command"] == "featx fit-head flowers"
    with zipfile.ZipFile(tmp_path / "m.featx") as archive:
        assert {"bundle.json", *packed.json["files"]} == set(archive.namelist())
        assert not any(b"home-of-ada" in archive.read(name) for name in archive.namelist())
    assert call("bundle", "verify", "m.featx", cwd=tmp_path).status == 0
    assert "home-of-ada" not in call("bundle", "card", str(home), cwd=tmp_path).out.partition("featx fit-head")[2][:40]
    kept = call("bundle", "pack", str(home), "--out", "k.featx", "--keep-paths", cwd=tmp_path)
    assert "home-of-ada" in kept.out
    assert "It holds bundle.json" in kept.out


def test_text_is_made_in_a_font_that_has_its_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    from featx.images import fonts
    from featx.images.grid import GridImage, draw_grid

    families = list[list[str]]()
    draw = Axes.text

    def record(self, *arguments, **options):
        text = draw(self, *arguments, **options)
        families.append(text.get_fontfamily())
        return text

    monkeypatch.setattr(fonts, "_more_fonts", lambda letters: ("DejaVu Serif",) if "图" in letters else ())
    monkeypatch.setattr(Axes, "text", record)
    for caption in ("图像", "dog"):
        draw_grid([GridImage("", (caption,), pixels=np.zeros((4, 4, 3), np.uint8))], tmp_path / "x.png")
    assert families == [["DejaVu Sans", "DejaVu Serif"], ["DejaVu Sans"]]


@pytest.mark.parametrize(
    ("name", "package"), [("图像", "fonts-noto-cjk"), ("ก", "fonts-noto-core"), ("😀", "fonts-symbola")]
)
def test_letters_of_no_font_are_noted_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    from featx.images import fonts

    monkeypatch.setattr(fonts, "_letters", lambda file, wanted: frozenset())
    fonts._more_fonts.cache_clear()
    fonts._note_missing.cache_clear()
    for _ in range(2):
        with fonts.fonts_for([name]):
            pass
    fonts._more_fonts.cache_clear()
    assert len(caplog.messages) == 1
    assert package in caplog.messages[0]


def test_a_quote_that_is_never_closed_is_named(tmp_path: Path) -> None:
    for content in (b'path,label\n1.png,cat\n"2.png,dog\n3.png,cat\n', b'path,label\n1.png,"cat\n2.png,dog'):
        with pytest.raises(
            DataError, match=r"t\.csv, after line [12]: a quote that is never closed, in the row that ends"
        ):
            read_bytes(tmp_path, content)
    inches = read_bytes(
        tmp_path, b'path,label\n1.png,5" nail\n2.png,"a ""b"""\n'
    )  # quotes that are none, and closed ones
    assert set(inches.classes) == {'5" nail', 'a "b"'}


def test_an_error_of_hdf5_is_shown_in_the_words_of_the_system(tmp_path: Path) -> None:
    from featx.export.flow import _explain
    from featx.io.files import explain_os_error

    error = OSError(27, "Unable to extend file properly, errno = 27, buf = 0x560caf8bd138, offset = 8192)")
    assert str(explain_os_error(error, tmp_path / "x.h5")) == (
        f"Cannot write {tmp_path / 'x.h5'}: File too large. Check the disk and its limits, then run again."
    )
    (tmp_path / "openvino").mkdir()
    made = _explain(RuntimeError("basic_ios::clear: iostream error"), tmp_path / "openvino")
    assert str(made).startswith(f"Cannot write {tmp_path}: a file in it cannot be written to its end.")
