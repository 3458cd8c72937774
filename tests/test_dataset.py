from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from unkind import encode, gradient, make_unkind_folder

from featx.config import DataOptions
from featx.dataset import (
    NONE,
    TEST,
    TRAIN,
    VAL,
    ImageSet,
    check_images,
    conflicts,
    digest_images,
    read_images,
    require_usable,
    split_images,
    write_split,
)
from featx.dataset.split import Placed
from featx.errors import DataError, UsageError
from featx.io.digest_arrays import NO_DIGEST, digest_array
from featx.io.digests import digest_bytes
from featx.io.index import StatIndex

OPTIONS = DataOptions()


def tree(root: Path, *names: str) -> Path:
    """Files that hold their own name; a name that ends in "/" is a folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(name)
    return root


def shown(images: ImageSet, root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in images.paths]


@pytest.fixture
def index(tmp_path_factory: pytest.TempPathFactory):
    index = StatIndex(tmp_path_factory.mktemp("cache") / "index.sqlite")
    yield index
    index.close()


# Folders


def test_a_folder_per_class_in_the_order_of_keras(tmp_path: Path) -> None:
    tree(
        tmp_path / "My plants", "b/2.jpg", "b/10.jpg", "a/sub/x.png", "a/sub-b/y.png", "a/sub/d/z.png", "a/w.jpg", "C/1"
    )
    images = read_images(tmp_path / "My plants", OPTIONS)
    expected = ["C/1", "a/w.jpg", "a/sub/x.png", "a/sub-b/y.png", "a/sub/d/z.png", "b/10.jpg", "b/2.jpg"]
    assert shown(images, tmp_path / "My plants") == expected
    assert images.classes == ("C", "a", "b")
    np.testing.assert_array_equal(images.labels, [0, 1, 1, 1, 1, 2, 2])
    assert (images.name, images.declared, images.groups, images.weights, images.notes) == (
        "My plants", None, None, None, (),
    )  # fmt: skip
    assert not images.multilabel
    assert images.label_names(1) == ("a",)


@pytest.mark.slow
def test_the_order_is_that_of_keras(tmp_path: Path) -> None:
    from keras.src.utils.dataset_utils import index_directory

    names = [
        "B/2.png",
        "B/10.png",
        "a/s/x.png",
        "a/s-b/y.png",
        "a/s/d/z.png",
        "a/w.png",
        "C/1.png",
        "Ä/1.png",
        "_/0.png",
    ]
    tree(tmp_path, *names)
    paths, labels, classes = index_directory(
        str(tmp_path), "inferred", (".png",), class_names=None, shuffle=False, verbose=False
    )
    images = read_images(tmp_path, OPTIONS)
    assert (list(images.paths), images.classes) == (list(paths), tuple(classes))
    np.testing.assert_array_equal(images.labels, labels)


def test_same_names_in_two_folders_stay_apart(tmp_path: Path, index: StatIndex) -> None:
    tree(tmp_path, "a/1.jpg", "b/1.jpg", "a/x/1.jpg")
    images = read_images(tmp_path, OPTIONS)
    assert len(set(images.paths)) == len(images) == 3
    assert len(set(digest_images(images.paths, index).digest.tolist())) == 3


def test_what_is_left_aside_is_counted(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.jpg", "b/2.txt", "README.md", "a/.hidden", ".git/config", "a/Thumbs.db", "b/desktop.ini", "e/")
    images = read_images(tmp_path, OPTIONS)
    assert shown(images, tmp_path) == ["a/1.jpg", "b/2.txt"]  # a text in a class folder is found out when it is decoded
    assert images.classes == ("a", "b", "e")
    assert sorted(images.notes) == [
        "Left aside, files outside the class folders: 1 (such as 'README.md')",
        next(
            note for note in images.notes if note.startswith("Left aside, hidden files and those of file managers: 4")
        ),
    ]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validate"])
def test_train_val_test_folders_declare_a_split(tmp_path: Path, val: str) -> None:
    tree(tmp_path, "train/b/1.jpg", "train/a/1.jpg", f"{val}/a/1.jpg", "test/c/1.jpg", "extra/1.jpg", "train/stray.txt")
    images = read_images(tmp_path, OPTIONS)
    assert shown(images, tmp_path) == ["train/a/1.jpg", "train/b/1.jpg", f"{val}/a/1.jpg", "test/c/1.jpg"]
    assert images.classes == ("a", "b", "c")
    np.testing.assert_array_equal(images.labels, [0, 1, 0, 2])
    np.testing.assert_array_equal(images.declared, [TRAIN, TRAIN, VAL, TEST])
    assert any("'extra'" in note for note in images.notes)
    assert any("'train/stray.txt'" in note for note in images.notes)


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    images = read_images(tree(tmp_path, "train/1.jpg", "bus/1.jpg", "test/1.jpg"), OPTIONS)
    assert images.classes == ("bus", "test", "train")
    assert images.declared is None


def test_a_test_folder_without_classes_is_left_aside(tmp_path: Path) -> None:
    images = read_images(tree(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "test/3.jpg"), OPTIONS)
    assert len(images) == 3
    assert any("'test'" in note for note in images.notes)


def test_a_folder_of_files_and_lists_of_files_have_no_labels(tmp_path: Path) -> None:
    tree(tmp_path, "flat/2.jpg", "flat/1.jpg", "flat/.x", "deep/a/1.jpg", "deep/1.jpg", "one.jpg")
    flat = read_images(tmp_path / "flat", OPTIONS)
    assert shown(flat, tmp_path) == ["flat/1.jpg", "flat/2.jpg"]
    assert (flat.labels, flat.classes, flat.name) == (None, (), "flat")
    several = read_images([tmp_path / "one.jpg", tmp_path / "deep", str(tmp_path / "one.jpg")], OPTIONS)
    assert shown(several, tmp_path) == ["one.jpg", "deep/1.jpg", "deep/a/1.jpg"]
    assert several.labels is None
    assert several.label_names(0) == ()
    assert shown(read_images(tmp_path / "one.jpg", OPTIONS), tmp_path) == ["one.jpg"]


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "data/a/1.jpg")
    monkeypatch.chdir(tmp_path / "data")
    images = read_images(".", OPTIONS)
    assert (images.source, images.name) == (".", "data")
    assert images.paths == (str(tmp_path / "data" / "a" / "1.jpg"),)


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    tree(tmp_path, "else/1.jpg", "data/a/1.jpg")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "else", target_is_directory=True)
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data" / "a" / "gone.jpg").symlink_to("nowhere")
    images = read_images(tmp_path / "data", OPTIONS)
    assert shown(images, tmp_path / "data") == ["a/1.jpg", "a/gone.jpg", "b/1.jpg"]
    assert any("lead back" in note for note in images.notes)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="file names are text there")
def test_names_that_are_not_utf8_are_read_and_come_back_from_a_csv(tmp_path: Path) -> None:
    tree(tmp_path / "d", "a/1.jpg")
    for name in (b"a/bad\xff.jpg", b"k\xe4the/\xc3\xa4\xe4.jpg"):
        path = tmp_path / "d" / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    images = read_images(tmp_path / "d", OPTIONS)
    assert len(images) == 3
    assert images.classes == ("a", "k\\xe4the")
    write_split(tmp_path / "s.csv", images, np.zeros(3, np.uint8))
    again = read_images(tmp_path / "s.csv", OPTIONS)
    assert (again.paths, again.classes) == (images.paths, images.classes)


def test_classes_can_be_given(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.jpg", "b/1.jpg", "c/1.jpg")
    images = read_images(tmp_path, DataOptions(classes=("c", "a", "b", "d")))
    assert images.classes == ("c", "a", "b", "d")
    np.testing.assert_array_equal(images.labels, [1, 2, 0])
    with pytest.raises(DataError, match=r"label 'b'.*Nor is another label"):
        read_images(tmp_path, DataOptions(classes=("a",)))
    with pytest.raises(DataError, match="twice"):
        read_images(tmp_path, DataOptions(classes=("a", "b", "c", "a")))


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file or folder: .*nowhere"):
        read_images(tmp_path / "nowhere", OPTIONS)
    with pytest.raises(DataError, match="it is empty"):
        read_images(tmp_path, OPTIONS)
    with pytest.raises(DataError, match="2 folders are empty"):
        read_images(tree(tmp_path, "a/", "b/"), OPTIONS)
    with pytest.raises(DataError, match="No images given"):
        read_images([], OPTIONS)


@pytest.mark.parametrize("empty", [("later/",), ("a/deep/", "b/"), ("train/a/", "val/a/", "later/.hidden")])
def test_files_beside_empty_folders_are_the_images(tmp_path: Path, empty: tuple[str, ...]) -> None:
    images = read_images(tree(tmp_path, "1.jpg", "2.jpg", *empty), OPTIONS)
    assert shown(images, tmp_path) == ["1.jpg", "2.jpg"]
    assert (images.labels, images.classes, images.declared) == (None, (), None)
    assert "have no labels: the " in images.notes[-1]
    assert not any("outside the class folders" in note for note in images.notes)


@pytest.mark.parametrize(("names", "reason"), [
    (("README.md", "a/", "b/"), "its 2 folders are empty, and 'README.md' beside them is not an image by its name."),
    (("LICENSE", "a.txt", "a/"), "its folder is empty, and 'LICENSE' and 'a.txt' beside it are not images by their "),
    (("notes.txt",), "'notes.txt' in it is not an image by its name. Put images into a folder per class, or"),
    (("train/a/", "val/a/", "train/1.jpg", "info.json"), "the class folders in 'train' and 'val' are empty, and 'info"),
    (("labels.csv", "a/"), "Put images into a folder per class, or give the CSV if it lists them: "),
])  # fmt: skip
def test_documents_beside_empty_folders_are_not_images(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(DataError, match=rf"No images in .*{re.escape(reason)}"):
        read_images(tree(tmp_path, *names, "Thumbs.db"), OPTIONS)


def test_documents_beside_images_without_labels_are_left_aside(tmp_path: Path) -> None:
    names = ("README", "b.JPG", "download", "index.html", "IMG.0001")
    images = read_images(tree(tmp_path, *names, "later/"), OPTIONS)
    assert shown(images, tmp_path) == ["IMG.0001", "b.JPG", "download"]
    assert "Left aside, files that are not images by their names: 2 (such as 'README')" in images.notes


def test_a_single_class_that_holds_folders_is_hinted_at(tmp_path: Path) -> None:
    images = read_images(tree(tmp_path, "images/cats/1.jpg", "images/dogs/1.jpg"), OPTIONS)
    assert images.classes == ("images",)
    assert str(tmp_path / "images") in images.notes[0]


def test_take_keeps_everything_together(tmp_path: Path) -> None:
    images = ImageSet("x", "x", ("p", "q", "r"), np.array([0, 1, -1]), ("a", "b"), np.array([0, 1, 3], np.uint8),
                      ("g", "", "h"), np.array([1.0, 2.0, 3.0]))  # fmt: skip
    for rows in (np.array([2, 0]), np.array([True, False, True])):
        taken = images.take(rows)
        assert set(taken.paths) == {"p", "r"}
        position = taken.paths.index("r")
        assert taken.labels is not None
        assert taken.declared is not None
        assert taken.groups is not None
        assert taken.weights is not None
        row = (taken.labels[position], taken.declared[position], taken.groups[position], taken.weights[position])
        assert row == (-1, 3, "h", 3.0)
    assert images.take(np.array([], int)).paths == ()


# CSV


def csv_file(tmp_path: Path, text: str, name: str = "index.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_csv_with_everything(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        '\ufefffile;kind;part;plant;w;note\r\n'
        'a/1.jpg;rust;train;p1;1.5;"semi; colon"\r\n'
        "\r\n"
        "b/1.jpg;healthy;Validation;;;\r\n"
        ";rust;;;;\r\n"
        "/abs/Ü 2.jpg; rust ;TEST;p1;0;\r\n"
        "gone.jpg;;;p2\r\n",
    )  # fmt: skip
    images = read_images(
        path,
        DataOptions(
            path_column="file", label_column="kind", split_column="part", group_column="plant", weight_column="w"
        ),
    )
    inside = [str(tmp_path / name) for name in ("a/1.jpg", "b/1.jpg", "gone.jpg")]
    assert images.paths == (inside[0], inside[1], os.path.normpath("/abs/Ü 2.jpg"), inside[2])
    assert images.classes == ("healthy", "rust")
    np.testing.assert_array_equal(images.labels, [1, 0, 1, -1])
    np.testing.assert_array_equal(images.declared, [TRAIN, VAL, TEST, NONE])
    assert images.groups == ("p1", "", "p1", "p2")
    np.testing.assert_array_equal(images.weights, [1.5, 1, 0, 1])
    assert images.name == "index"
    assert images.notes == ("Left aside, rows without a 'file': 1 (such as line 5)",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    rows = [["path", "label", "a,b"], ["x,1.jpg", "p;q", "t"], ["y.jpg", "z", ""]]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    images = read_images(csv_file(tmp_path, text), OPTIONS)
    assert [Path(path).name for path in images.paths] == ["x,1.jpg", "y.jpg"]
    assert images.classes == ("p;q", "z")


def test_the_split_column_is_used_if_there_is_one(tmp_path: Path) -> None:
    images = read_images(csv_file(tmp_path, "path,label,split\n1,a,dev\n2,b,training\n3,b,testing\n"), OPTIONS)
    np.testing.assert_array_equal(images.declared, [VAL, TRAIN, TEST])


def test_an_image_directory(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "path,label\nx\\1.jpg,a\n")
    images = read_images(path, DataOptions(image_dir=str(tmp_path / "pictures")))
    assert images.paths == (str(tmp_path / "pictures" / "x" / "1.jpg"),)


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "path,label\n1,a|c\n2, b \n3,\n4,c|a|b\n")
    images = read_images(path, DataOptions(label_separator="|"))
    assert images.multilabel
    assert images.labels is not None
    assert images.labels.dtype == bool
    np.testing.assert_array_equal(images.labels, [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]])
    assert images.label_names(0) == ("a", "c")


def test_a_csv_is_recognised_by_its_first_line_too(tmp_path: Path) -> None:
    assert read_images(csv_file(tmp_path, "path,label\n1.jpg,a\n", "list.txt"), OPTIONS).classes == ("a",)
    assert read_images(csv_file(tmp_path, "some text\n", "image.jpg"), OPTIONS).labels is None


def test_a_csv_without_labels_is_noted(tmp_path: Path) -> None:
    images = read_images(csv_file(tmp_path, "path,x\n1.jpg,a\n"), OPTIONS)
    assert images.labels is None
    assert "No column 'label'" in images.notes[0]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("file,label\n1,a\n", {}, r"No column 'path'.*Its columns are: file, label\. Name .* with --path-column\."),
        ("a/1.JPG,a\na/2.jpg,b\n", {}, r"Its first line is a/1\.JPG,a, but has to name the columns, like path,label"),
        (
            "path|label\na/1.jpg|a\n",
            {},
            r"Its first line is path\|label\. Separate cells by commas, semi",
        ),
        ("path,label\n1,a\n", {"label_column": "kind"}, "No column 'kind'.*path, label"),
        ("path,label\n1,a\n", {"split_column": "s"}, "No column 's'"),
        ("path,label\n1,a\n", {"group_column": "g"}, "No column 'g'"),
        ("path,label,split\n1,a,train\n2,a,holdout\n", {}, "line 3: 'holdout' is not a split"),
        ("path,label,w\n1,a,heavy\n", {"weight_column": "w"}, "line 2: 'heavy' is not a weight"),
        ("path,label,w\n1,a,-1\n", {"weight_column": "w"}, "'-1' is not a weight"),
        ("path,label,w\n1,a,inf\n", {"weight_column": "w"}, "'inf' is not a weight"),
        ("path,label\n1,a\n2,b,c\n", {}, "line 3 has 3 cells where the header has 2"),
        ("path,label\n", {}, "lists no images"),
        ("", {}, "is empty. Its first line"),
        ("path,label\n1,a\n", {"classes": ("b",)}, "label 'a'"),
        ("path,label\n1,a;x\n", {"classes": ("a",), "label_separator": ";"}, "label 'x'"),
    ],
)
def test_a_senseless_csv_is_refused(tmp_path: Path, text: str, options: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_images(csv_file(tmp_path, text), DataOptions(**options))


def test_a_csv_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("path,label\n1,grün\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not UTF-8 text \(line 2\)"):
        read_images(tmp_path / "x.csv", OPTIONS)


# Digests


def make_old(*paths: str | Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - 3600,) * 2)


def test_digests_are_remembered_and_changes_noticed(
    tmp_path: Path, index: StatIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tree(tmp_path, f"{number}.jpg") / f"{number}.jpg") for number in range(2500)]
    make_old(*paths)
    done: list[int] = []
    first = digest_images(paths, index, done.append)
    assert first.digest.tolist() == [digest_bytes(Path(path).read_bytes()) for path in paths]
    assert done == [1000, 2000, 2500]
    assert first.bad == {}
    Path(paths[7]).write_text("changed")
    hashed: list[str] = []
    from featx.dataset import digests

    digest = digests._digest
    monkeypatch.setattr(digests, "_digest", lambda path, **more: hashed.append(path) or digest(path, **more))
    second = digest_images(paths, index)
    assert hashed == [paths[7]]
    assert np.flatnonzero(first.digest != second.digest).tolist() == [7]


def test_an_interruption_keeps_what_was_done(tmp_path: Path, index: StatIndex) -> None:
    paths = [str(tree(tmp_path, f"{number}.jpg") / f"{number}.jpg") for number in range(2200)]
    make_old(*paths)

    def interrupt(done: int) -> None:
        if done >= 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        digest_images(paths, index, interrupt)
    done: list[int] = []
    digest_images(paths, index, done.append)
    assert done[0] == 1000


def test_files_that_cannot_be_read_are_named(tmp_path: Path, index: StatIndex) -> None:
    tree(tmp_path, "good.jpg", "folder/")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    names = ["good.jpg", "empty.jpg", "link.jpg", "none.jpg", "folder"]
    found = digest_images([str(tmp_path / name) for name in names], index)
    assert found.bad == {
        1: "empty file", 2: "broken symlink to gone.jpg", 3: "no such file", 4: "a folder, not a file",
    }  # fmt: skip
    np.testing.assert_array_equal(found.usable, [True, False, False, False, False])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_named(tmp_path: Path, index: StatIndex) -> None:
    tree(tmp_path, "x.jpg")
    (tmp_path / "x.jpg").chmod(0)
    assert digest_images([str(tmp_path / "x.jpg")], index).bad == {0: "not permitted to read it"}


def test_ten_thousand_unchanged_files_take_well_under_a_second(tmp_path: Path, index: StatIndex) -> None:
    paths = [str(tmp_path / f"{number}.jpg") for number in range(10_000)]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"x")
    make_old(*paths)
    digest_images(paths, index)
    start = time.process_time()
    digest_images(paths, index)
    assert time.process_time() - start < 1


# Checking


def test_an_unkind_folder_is_checked(tmp_path: Path, index: StatIndex) -> None:
    expected = make_unkind_folder(tmp_path / "data" / "a")
    good = tmp_path / "data" / "b"
    good.mkdir()
    (good / "1.png").write_bytes(encode(gradient(), "PNG"))
    (good / "2.png").write_bytes(encode(gradient()[::-1], "PNG"))
    (good / "3.png").write_bytes((good / "2.png").read_bytes())
    (good / "torn.webp").write_bytes((tmp_path / "data" / "a" / "animated.webp").read_bytes())
    images = read_images(tmp_path / "data", OPTIONS)
    done: list[int] = []
    check = check_images(images, index, progress=done.append)
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in check.unreadable}
    assert reasons.keys() == {name for name, reason in expected.items() if reason is not None}
    assert all(str(expected[name]) in reason for name, reason in reasons.items())
    assert (check.images, check.readable) == (len(images), len(images) - len(reasons))
    assert check.duplicates == [
        [str(tmp_path / "data/a/animated.webp"), str(good / "torn.webp")],
        [str(good / "2.png"), str(good / "3.png")],
    ]
    assert check.conflicts == [
        {"paths": [str(tmp_path / "data/a/animated.webp"), str(good / "torn.webp")], "labels": ["a", "b"]}
    ]
    assert check.straddling == []
    assert check.classes == {"a": sum(reason is None for reason in expected.values()), "b": 4}
    assert done[-1] == len(images)
    assert json.loads(json.dumps(check.as_json()))["bad"] == check.unreadable


def test_bad_images_are_remembered_and_good_ones_decoded_again(
    tmp_path: Path, index: StatIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "a/bad.jpg", "a/good.png")
    (tmp_path / "a" / "good.png").write_bytes(encode(gradient(), "PNG"))
    images = read_images(tmp_path, OPTIONS)
    first = check_images(images, index)
    from featx.dataset import check

    tried: list[str] = []
    decode = check.decode
    monkeypatch.setattr(check, "decode", lambda path: tried.append(path) or decode(path))
    assert check_images(images, index) == first
    assert tried == [str(tmp_path / "a" / "good.png")]


def test_declared_splits_that_are_straddled_are_reported(tmp_path: Path, index: StatIndex) -> None:
    for number, name in enumerate(["1.png", "2.png", "3.png", "4.png"]):
        (tmp_path / name).write_bytes(encode(gradient() // (1 + number // 2), "PNG", compress_level=number % 2 and 1))
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes())
    text = "path,label,split,g\n1.png,a,train,\n2.png,a,test,\n3.png,b,val,x\n4.png,b,train,x\n"
    images = read_images(csv_file(tmp_path, text), DataOptions(group_column="g"))
    assert check_images(images, index).straddling == [
        {"paths": [str(tmp_path / "1.png"), str(tmp_path / "2.png")], "splits": ["train", "test"]},
        {"paths": [str(tmp_path / "3.png"), str(tmp_path / "4.png")], "splits": ["val", "train"]},
    ]


def test_a_set_without_labels_can_be_checked(tmp_path: Path, index: StatIndex) -> None:
    check = check_images(read_images(tree(tmp_path, "1.jpg"), OPTIONS), index)
    assert (check.readable, check.classes, check.conflicts) == (0, {}, [])


def test_a_class_left_empty_is_named(tmp_path: Path) -> None:
    images = read_images(tree(tmp_path, "a/1", "b/1", "b/2", "c/"), OPTIONS)
    with pytest.raises(DataError, match=r"class 'c' has no readable image"):
        require_usable(images, np.array([True, True, True]))
    with pytest.raises(DataError, match=r"class 'a' \(and 1 more: c\)"):
        require_usable(images, np.array([False, True, True]))
    with pytest.raises(DataError, match="None of the 3 images"):
        require_usable(images, np.zeros(3, bool))
    unlabelled = read_images([tmp_path / "a" / "1", tmp_path / "b" / "1"], OPTIONS)
    require_usable(unlabelled, np.array([False, True]))


# Conflicts and splits


def make_set(labels: object, **options: object) -> tuple[ImageSet, np.ndarray]:
    array = np.array(labels)
    count = array.shape[1] if array.ndim == 2 else int(array.max(initial=0)) + 1
    classes = tuple(f"c{code:04d}" for code in range(count))
    images = ImageSet("x", "x", tuple(f"/{row}.jpg" for row in range(len(array))), array, classes, **options)
    return images, np.array([digest_bytes(str(row).encode()) for row in range(len(array))], "V32")


def split(images: ImageSet, digests: np.ndarray, kept: dict[bytes, int] | None = None, **options: object) -> np.ndarray:
    placed = None if kept is None else Placed.of(digest_array(kept), np.array(list(kept.values()), np.uint8))
    return split_images(images, digests, np.ones(len(images), bool), DataOptions(**options), placed)


def counts(images: ImageSet, parts: np.ndarray) -> np.ndarray:
    """int (classes, 3)"""
    one_hot = images.labels if images.multilabel else np.eye(len(images.classes), dtype=int)[images.labels]
    return np.stack([one_hot[parts == part].sum(axis=0) for part in (TRAIN, VAL, TEST)], axis=1)


def test_the_same_bytes_under_two_labels_conflict() -> None:
    images, digests = make_set([0, 1, 1, 0, 0, -1])
    digests[[1, 3, 5]] = digests[0]
    digests[2] = digests[4] = NO_DIGEST
    assert conflicts(images, digests) == [[0, 1, 3]]
    assert split(images, digests).tolist() == [NONE] * 6
    images, digests = make_set([[True, False], [True, False], [True, True], [False, False]])
    digests[1] = digests[0]
    assert conflicts(images, digests) == []
    digests[2] = digests[0]
    assert conflicts(images, digests) == [[0, 1, 2]]


def test_a_split_is_stratified_and_complete() -> None:
    images, digests = make_set(np.repeat(np.arange(10), [100, 50, 30, 20, 10, 10, 10, 200, 1000, 7]))
    parts = split(images, digests)
    assert parts.dtype == np.uint8
    assert NONE not in parts
    table = counts(images, parts)
    exact = table.sum(axis=1, keepdims=True) * [0.8, 0.1, 0.1]
    assert abs(table - exact)[:-1].max() < 1e-9
    assert table[-1].tolist() in ([5, 1, 1], [6, 1, 0], [6, 0, 1])
    assert (table > 0).all()


@pytest.mark.parametrize(
    ("size", "shares", "expected"),
    [
        (1, (0.8, 0.1, 0.1), [[1, 0, 0]]),
        (2, (0.8, 0.1, 0.1), [[1, 0, 1]]),
        (3, (0.8, 0.1, 0.1), [[1, 1, 1]]),
        (5, (0.8, 0.1, 0.1), [[3, 1, 1]]),
        (2, (0.8, 0.2, 0.0), [[1, 1, 0]]),
        (4, (0.75, 0.0, 0.25), [[3, 0, 1]]),
        (9, (1.0, 0.0, 0.0), [[9, 0, 0]]),
        (9, (0.0, 0.0, 1.0), [[0, 0, 9]]),
    ],
)
def test_small_classes(size: int, shares: tuple[float, float, float], expected: list[list[int]]) -> None:
    images, digests = make_set([0] * size)
    assert counts(images, split(images, digests, split=shares)).tolist() == expected


def test_many_small_classes_do_not_all_favour_one_split() -> None:
    images, digests = make_set(np.repeat(np.arange(500), 14))
    assert np.bincount(split(images, digests)).tolist() == [5600, 700, 700]
    images, digests = make_set(np.repeat(np.arange(501), [1] * 500 + [5000]))
    table = counts(images, split(images, digests))
    assert table[:-1].tolist() == [[1, 0, 0]] * 500
    assert table[-1].tolist() == [4000, 500, 500]


def test_a_split_depends_on_seed_and_contents_only() -> None:
    images, digests = make_set(np.repeat([0, 1, 2], 40), groups=tuple(str(row // 3) for row in range(120)))
    first = split(images, digests)
    order = np.random.default_rng(1).permutation(120)
    moved = images.take(order)
    renamed = ImageSet("y", "y", tuple(f"/new/{path}" for path in moved.paths), moved.labels, moved.classes,
                       groups=tuple(f"g{group}" for group in moved.groups or ()))  # fmt: skip
    np.testing.assert_array_equal(split(renamed, digests[order]), first[order])
    np.testing.assert_array_equal(split(images, digests), first)
    assert (split(images, digests, seed=1) != first).any()


def test_a_split_is_the_same_in_every_version() -> None:
    images, digests = make_set([0, 1] * 10)
    # A change of these numbers moves images of everybody's sets to other splits: it belongs in the change log.
    assert "".join(map(str, split(images, digests))) == "00020010010000002000"


def test_duplicates_and_groups_are_never_split_apart() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 600)
    groups = tuple(f"{label}-{random.integers(40)}" if random.random() < 0.7 else "" for label in labels)
    images, digests = make_set(labels, groups=groups)
    copies = random.permutation(600)[:100]
    for copy in copies[:50]:
        twin = random.choice(np.flatnonzero(labels == labels[copy]))
        digests[copy] = digests[twin]
    parts = split(images, digests)
    for value in set(groups) - {""}:
        assert len(set(parts[[group == value for group in groups]])) == 1
    for digest in np.unique(digests):
        assert len(set(parts[digests == digest])) == 1
    table = counts(images, parts)
    assert abs(table / table.sum(axis=1, keepdims=True) - [0.8, 0.1, 0.1]).max() < 0.05


def test_groups_of_three_large_units_reach_every_split() -> None:
    images, digests = make_set([0] * 150, groups=tuple(str(row // 50) for row in range(150)))
    assert counts(images, split(images, digests)).tolist() == [[50, 50, 50]]


def test_bad_and_unlabelled_images_are_in_no_split() -> None:
    images, digests = make_set([0, 1] * 20 + [-1])
    digests[3] = NO_DIGEST
    usable = np.ones(41, bool)
    usable[:2] = False
    parts = split_images(images, digests, usable, OPTIONS)
    assert np.flatnonzero(parts == NONE).tolist() == [0, 1, 3, 40]
    assert split_images(images, digests, np.zeros(41, bool), OPTIONS).tolist() == [NONE] * 41


def test_an_earlier_split_stays_when_images_are_added() -> None:
    images, digests = make_set([0, 1] * 300)
    digests[:3] = [bytes([number]) * 31 + b"\0" for number in (1, 2, 3)]  # NumPy takes such zero bytes off
    few = images.take(np.arange(400))
    first = split(few, digests[:400])
    kept = dict(zip(digests[:400].tolist(), first.tolist(), strict=True))
    parts = split(images, digests, kept)
    np.testing.assert_array_equal(parts[:400], first)
    assert counts(images, parts).tolist() == [[240, 30, 30], [240, 30, 30]]


def test_declared_splits_stay() -> None:
    declared = np.array([TRAIN, VAL, TEST] * 40, np.uint8)
    images, digests = make_set([0, 1] * 60, declared=declared)
    np.testing.assert_array_equal(split(images, digests), declared)
    kept = dict.fromkeys(digests.tolist(), TRAIN)
    np.testing.assert_array_equal(split(images, digests, kept), declared)


def test_rows_without_a_declared_split_get_one() -> None:
    declared = np.repeat(np.array([TRAIN, VAL, TEST, NONE], np.uint8), [70, 10, 10, 10])
    images, digests = make_set([0] * 100, declared=declared)
    parts = split(images, digests)
    np.testing.assert_array_equal(parts[:90], declared[:90])
    assert counts(images, parts).tolist() == [[80, 10, 10]]


def test_val_is_carved_from_train_where_only_train_and_test_are_declared() -> None:
    declared = np.repeat(np.array([TRAIN, TEST], np.uint8), [180, 40])
    images, digests = make_set([0, 1] * 110, declared=declared)
    parts = split(images, digests)
    np.testing.assert_array_equal(parts == TEST, declared == TEST)
    assert counts(images, parts)[:, :2].tolist() == [[80, 10], [80, 10]]
    kept = dict(zip(digests.tolist(), parts, strict=True))
    np.testing.assert_array_equal(split(images, digests, kept, seed=5), parts)
    whole_train = split(images, digests, split=(0.9, 0.0, 0.1))
    np.testing.assert_array_equal(whole_train, declared)


@pytest.mark.parametrize("kind", ["several labels", "groups"])
def test_val_has_its_share_of_train_however_large_the_declared_test_part_is(kind: str) -> None:
    declared = np.repeat(np.array([TRAIN, TEST], np.uint8), [900, 900])
    random = np.random.default_rng(0)
    if kind == "groups":
        groups = tuple(f"{part}-{row // 3}" for row, part in enumerate(declared.tolist()))
        images, digests = make_set(np.arange(1800) // 3 % 3, declared=declared, groups=groups)
    else:
        images, digests = make_set(random.random((1800, 4)) < [0.5, 0.4, 0.3, 0.1], declared=declared)
    parts = split(images, digests)
    np.testing.assert_array_equal(parts == TEST, declared == TEST)
    alone = replace(images.take(np.arange(900)), declared=None)
    np.testing.assert_array_equal(parts[:900], split(alone, digests[:900], split=(8 / 9, 1 / 9, 0.0)))
    shares = counts(images, parts)[:, VAL] / counts(images, parts)[:, :2].sum(axis=1)
    assert abs(shares - 1 / 9).max() < 0.02


def test_a_training_copy_of_a_declared_test_image_stays_in_train() -> None:
    declared = np.array([TRAIN] * 9 + [TEST] * 3, np.uint8)
    images, digests = make_set([0] * 12, declared=declared)
    digests[0] = digests[9]
    parts = split(images, digests)
    assert parts[0] == TRAIN
    assert parts[9:].tolist() == [TEST] * 3


def test_max_train_takes_the_same_share_of_every_class() -> None:
    images, digests = make_set(np.repeat([0, 1, 2], [1000, 500, 10]))
    full = split(images, digests)
    parts = split(images, digests, max_train=121)
    np.testing.assert_array_equal(parts[full != TRAIN], full[full != TRAIN])
    assert counts(images, parts)[:, TRAIN].tolist() in ([80, 40, 1], [79, 40, 1], [80, 41, 0], [79, 41, 1])
    assert (parts == NONE).sum() == (full == TRAIN).sum() - (parts == TRAIN).sum()
    assert (parts == TRAIN).sum() <= 121
    np.testing.assert_array_equal(split(images, digests, max_train=5000), full)
    smallest = split(images, digests, max_train=3)
    assert counts(images, smallest)[:, TRAIN].tolist() == [1, 1, 1]
    with pytest.raises(DataError, match="max_train 2 is too few"):
        split(images, digests, max_train=2)


def test_max_train_keeps_groups_whole() -> None:
    groups = tuple(str(row // 4) for row in range(400))
    images, digests = make_set(np.arange(400) // 100, groups=groups)
    parts = split(images, digests, max_train=100)
    assert 90 <= (parts == TRAIN).sum() <= 100
    for value in set(groups):
        assert len(set(parts[[group == value for group in groups]])) == 1


def test_several_labels_are_stratified_iteratively() -> None:
    random = np.random.default_rng(3)
    images, digests = make_set(random.random((2000, 12)) < np.linspace(0.005, 0.6, 12))
    parts = split(images, digests)
    assert abs(np.bincount(parts) / 2000 - [0.8, 0.1, 0.1]).max() < 0.01
    table = counts(images, parts)
    assert (table > 0).all()
    assert abs(table / table.sum(axis=1, keepdims=True) - [0.8, 0.1, 0.1])[2:].max() < 0.02
    assert (split(images, digests, max_train=300) == TRAIN).sum() in range(290, 301)


def test_a_million_images_take_seconds() -> None:
    count = 200_000
    random = np.random.default_rng(0)
    digests = random.integers(0, 256, (count, 32), np.uint8).view("V32")[:, 0].copy()
    images, _ = make_set([0, 1])
    images = ImageSet("x", "x", ("",) * count, random.integers(0, 100, count), tuple(map(str, range(100))))
    start = time.process_time()
    parts = split(images, digests)
    assert time.process_time() - start < 5
    assert abs(np.bincount(parts) - [160_000, 20_000, 20_000]).max() <= 2


@pytest.mark.parametrize("shares", [(0.8, 0.1), (0.8, 0.3, 0.1), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)])
def test_senseless_shares_are_refused(shares: tuple[float, ...]) -> None:
    images, digests = make_set([0, 1])
    with pytest.raises(UsageError, match="add up to 1"):
        split(images, digests, split=shares)


def test_a_set_without_labels_cannot_be_split() -> None:
    images = ImageSet("pictures", "x", ("/1.jpg",))
    with pytest.raises(DataError, match="pictures has no labels"):
        split(images, np.array([b"x"], "V32"))


# The split as a CSV


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_written_split_reads_back_the_same(tmp_path: Path, multilabel: bool) -> None:
    classes = ("a, b", 'c "quoted"', "ü$")
    labels = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]], bool) if multilabel else np.array([0, 1, 2, 0])
    paths = (str(tmp_path / "in" / "1, 2.jpg"), os.path.abspath(os.sep + "else/ü.jpg"), str(tmp_path / "3.jpg"),
             str(tmp_path / "dropped.jpg"))  # fmt: skip
    images = ImageSet("x", "x", paths, labels, classes)
    parts = np.array([TRAIN, TEST, VAL, NONE], np.uint8)
    write_split(tmp_path / "split.csv", images, parts)
    text = (tmp_path / "split.csv").read_text(encoding="utf-8")
    assert text.startswith("path,label,split\n")
    assert '"in/1, 2.jpg"' in text
    again = read_images(tmp_path / "split.csv", DataOptions(label_separator="|" if multilabel else None))
    assert again.paths == paths[:3]
    assert again.classes == classes
    np.testing.assert_array_equal(again.labels, labels[:3])
    np.testing.assert_array_equal(again.declared, parts[:3])


def test_a_split_of_real_files_from_end_to_end(tmp_path: Path, index: StatIndex) -> None:
    make: Callable[[int], bytes] = lambda number: encode(np.full((4, 4, 3), number, np.uint8), "PNG")  # noqa: E731
    for number in range(60):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make(number))
    images = read_images(tmp_path / "data", OPTIONS)
    found = digest_images(images.paths, index)
    parts = split_images(images, found.digest, found.usable, OPTIONS)
    assert counts(images, parts).tolist() == [[24, 3, 3], [24, 3, 3]]
    Path(images.paths[0]).rename(tmp_path / "data" / "a" / "zz renamed.png")
    again = read_images(tmp_path / "data", OPTIONS)
    moved = split_images(again, digest_images(again.paths, index).digest, np.ones(60, bool), OPTIONS)
    before = dict(zip(found.digest.tolist(), parts.tolist(), strict=True))
    assert before == dict(zip(digest_images(again.paths, index).digest.tolist(), moved.tolist(), strict=True))
