"""Images meet their references by relative stem, whatever the order, and no file is lost or counted twice."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqazoo.errors import InputError
from iqazoo.pairing import SUFFIXES, Pair, Pairing, find_images, pair


@pytest.fixture
def sides(tmp_path):
    """Two folders, made with the given files; returns their paths."""

    def make(images=(), references=()):
        for side, names in (("out", images), ("gt", references)):
            (tmp_path / side).mkdir()
            for name in names:
                file = tmp_path / side / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        return tmp_path / "out", tmp_path / "gt"

    return make


def test_stems_pair_across_suffixes_and_folders(sides):
    out, gt = sides(["b.png", "a.JPG", "night/a.webp"], ["night/a.tiff", "a.png", "b.png"])
    assert pair(out, gt) == Pairing(
        (
            Pair("a", out / "a.JPG", gt / "a.png"),
            Pair("b", out / "b.png", gt / "b.png"),
            Pair("night/a", out / "night/a.webp", gt / "night/a.tiff"),
        ),
        (),
        (),
    )


def test_position_does_not_pair(sides):
    out, gt = sides(["a.png", "b.png", "c.png"], ["b.png", "c.png", "d.png"])
    result = pair(out, gt)
    assert [(each.image, each.reference) for each in result.pairs] == [
        (out / "b.png", gt / "b.png"),
        (out / "c.png", gt / "c.png"),
    ]
    assert result.unmatched_images == (out / "a.png",)
    assert result.unmatched_references == (gt / "d.png",)


def test_the_folder_belongs_to_the_stem(sides):
    out, gt = sides(["x/a.png"], ["y/a.png", "a.png"])
    assert pair(out, gt) == Pairing((), (out / "x/a.png",), (gt / "a.png", gt / "y/a.png"))


def test_without_references_every_image_is_alone(sides):
    out, _ = sides(["b.png", "x/a.bmp"])
    result = pair(out, None)
    assert result == Pairing((Pair("b", out / "b.png", None), Pair("x/a", out / "x/a.bmp", None)), (), ())


def test_only_the_last_suffix_is_cut(sides):
    out, _ = sides(["a.v2.png", "a.png.jpg", "v1.0/b.png", "c d.tif"])
    assert list(find_images(out)) == ["a.png", "a.v2", "c d", "v1.0/b"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_suffixes_in_any_case(sides, suffix):
    out, _ = sides([f"lower{suffix}", f"upper{suffix.upper()}", f"mixed{suffix.title()}"])
    assert list(find_images(out)) == ["lower", "mixed", "upper"]


def test_other_files_and_hidden_ones_are_skipped(sides):
    out, _ = sides(["a.png", "notes.txt", "png", ".b.png", ".png", ".cache/c.png", "x/.y/d.png", "a.gif"])
    assert find_images(out) == {"a": (out / "a.png",)}


def test_a_hidden_folder_may_be_asked_for(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/a.png").touch()
    assert list(find_images(tmp_path / ".cache")) == ["a"]


def test_a_folder_with_an_image_suffix_is_a_folder(sides):
    out, _ = sides(["x.png/a.png"])
    assert list(find_images(out)) == ["x.png/a"]


def test_one_name_in_both_unicode_forms(sides):
    decomposed = unicodedata.normalize("NFD", "é/ü.png")
    out, gt = sides([decomposed], ["é/ü.jpg"])
    assert pair(out, gt).pairs == (Pair("é/ü", out / decomposed, gt / "é/ü.jpg"),)


def test_two_files_of_one_stem_are_an_error_row(sides):
    out, gt = sides(["a.png", "a.jpg", "b.png"], ["a.png", "b.png"])
    broken, good = pair(out, gt).pairs
    assert good == Pair("b", out / "b.png", gt / "b.png")
    assert (broken.id, broken.image, broken.reference) == ("a", None, gt / "a.png")
    assert broken.error == f"expected one image named a, got {out / 'a.jpg'}, {out / 'a.png'}; keep one of them"


def test_two_references_of_one_stem_are_an_error_row(sides):
    out, gt = sides(["a.png"], ["a.bmp", "a.png"])
    (broken,) = pair(out, gt).pairs
    assert (broken.image, broken.reference) == (out / "a.png", None)
    assert broken.error == f"expected one reference named a, got {gt / 'a.bmp'}, {gt / 'a.png'}; keep one of them"


def test_an_ambiguous_stem_is_an_error_even_without_counterpart(sides):
    out, gt = sides(["a.png", "a.jpg"], ["b.png", "b.jpg"])
    result = pair(out, gt)
    assert [each.id for each in result.pairs] == ["a", "b"]
    assert all(each.error and each.image is None and each.reference is None for each in result.pairs)
    assert result.unmatched_images == result.unmatched_references == ()
    assert pair(out, None).pairs == (result.pairs[0],)


def test_both_sides_ambiguous_names_all_four(sides):
    out, gt = sides(["a.png", "a.jpg"], ["a.png", "a.jpg"])
    (broken,) = pair(out, gt).pairs
    assert all(str(side / name) in broken.error for side in (out, gt) for name in ("a.png", "a.jpg"))


def test_two_files_pair_whatever_their_names(sides):
    out, gt = sides(["result.final.png"], ["original.heic"])
    image, reference = out / "result.final.png", gt / "original.heic"
    assert pair(image, reference) == Pairing((Pair("result.final", image, reference),), (), ())
    assert pair(image, None) == Pairing((Pair("result.final", image, None),), (), ())


def test_the_same_folder_pairs_with_itself(sides):
    out, _ = sides(["a.png"])
    assert pair(out, out).pairs == (Pair("a", out / "a.png", out / "a.png"),)


def test_a_file_and_a_folder_are_refused(sides):
    out, gt = sides(["a.png"], ["a.png"])
    with pytest.raises(InputError, match="a file for the images and a folder for the references"):
        pair(out / "a.png", gt)
    with pytest.raises(InputError, match="a folder for the images and a file for the references"):
        pair(out, gt / "a.png")


def test_a_missing_path_and_an_empty_folder_name_the_suffixes(sides, tmp_path):
    out, gt = sides(["a.png"], ["a.txt"])
    for images, references, blamed in ((tmp_path / "no", gt, "no"), (out, tmp_path / "no", "no"), (out, gt, "gt")):
        with pytest.raises(InputError, match=r"\.png, \.jpg, \.jpeg, \.webp, \.tif, \.tiff, \.bmp") as caught:
            pair(images, references)
        assert str(tmp_path / blamed) in str(caught.value)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed_is_not_passed_over(sides):
    out, _ = sides(["a.png", "x/b.png"])
    (out / "x").chmod(0)
    try:
        with pytest.raises(InputError, match=r"x: Permission denied"):
            find_images(out)
    finally:
        (out / "x").chmod(0o700)


def test_links_are_followed_but_never_in_circles(sides):
    out, gt = sides(["a.png", "x/b.png"], ["c.png"])
    (out / "x/up").symlink_to(out)
    (out / "other").symlink_to(gt)
    (gt / "back").symlink_to(out / "x")
    (out / "broken.png").symlink_to(out / "nothing.png")
    assert list(find_images(out)) == ["a", "broken", "other/back/b", "other/c", "x/b"]


names = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from(["", "f/", "f/g/"]), st.sampled_from([".png", ".JPG", ".bmp"])),
    unique=True,
    min_size=1,
)


def made(root, order):
    """A folder with the named files, created in the given order."""
    for stem, folder, suffix in order:
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{stem}{suffix}").touch()
    return root


@settings(max_examples=60, deadline=None)
@given(images=names, references=names, data=st.data())
def test_every_file_counts_once_in_any_order(images, references, data):
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        out, gt = made(Path(first, "out"), images), made(Path(first, "gt"), references)
        result = pair(out, gt)
        told = [*result.unmatched_images, *result.unmatched_references]
        for each in result.pairs:
            told += [path for path in (each.image, each.reference) if path]
            told += [file for file in (*out.rglob("*.*"), *gt.rglob("*.*")) if str(file) in each.error]
        assert sorted(told) == sorted(file for file in Path(first).rglob("*") if file.is_file())
        assert [each.id for each in result.pairs] == sorted({each.id for each in result.pairs})

        out, gt = (
            made(Path(second, side), data.draw(st.permutations(files)))
            for side, files in (("out", images), ("gt", references))
        )
        assert str(pair(out, gt)).replace(second, first) == str(result)


def test_importing_needs_neither_torch_nor_pillow():
    code = "import sys, iqazoo.pairing; sys.exit(bool({'torch', 'PIL', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
