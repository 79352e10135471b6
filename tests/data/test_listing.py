"""Which files make up a set, and what is said of those that are missing."""

import os

import pytest
from judged_images import make_jnd, make_table, make_two_afc, save_image, save_judgment

from iqazoo.data.listing import is_table, list_bapps, list_ratings, list_table
from iqazoo.errors import InputError


def names(listing):
    return [(row.subset, *(os.path.basename(image) for image in row.images)) for row in listing.rows]


def test_rows_pair_by_stem_in_the_order_of_the_paper(tmp_path):
    make_two_afc(tmp_path, "val", {"zebra": 1, "color": 1, "ape": 1, "cnn": 2, "traditional": 1})
    (tmp_path / "2afc" / "val" / ".hidden").mkdir()
    (tmp_path / "2afc" / "val" / "cnn" / "ref" / ".000007.png").write_bytes(b"")
    (tmp_path / "2afc" / "val" / "cnn" / "ref" / "notes.txt").write_bytes(b"")
    listing = list_bapps(tmp_path, "2afc", "val")
    assert [row.subset for row in listing.rows] == ["traditional", "cnn", "cnn", "color", "ape", "zebra"]
    assert names(listing)[2] == ("cnn", "000001.png", "000001.png", "000001.png")
    assert [os.path.basename(os.path.dirname(image)) for image in listing.rows[0].images] == ["ref", "p0", "p1"]
    assert str(listing.rows[2].judgment).endswith("cnn/judge/000001.npy")
    assert listing.missing == ()


def test_subsets_are_chosen_in_the_order_given(tmp_path):
    make_two_afc(tmp_path)
    listing = list_bapps(tmp_path, "2afc", "train", ["cnn", "traditional", "cnn"])
    assert [row.subset for row in listing.rows] == ["cnn"] * 2 + ["traditional"] * 3
    with pytest.raises(InputError, match=r"expected deblur in .*, got traditional, cnn"):
        list_bapps(tmp_path, "2afc", "train", ["cnn", "deblur"])
    with pytest.raises(InputError, match="a subset or more"):
        list_bapps(tmp_path, "2afc", "train", [])


def test_jnd_has_two_images(tmp_path):
    listing = list_bapps(make_jnd(tmp_path), "jnd", "val")
    assert [len(row.images) for row in listing.rows] == [2] * 5
    assert str(listing.rows[0].judgment).endswith("traditional/same/000000.npy")


def test_a_suffix_may_differ_from_folder_to_folder(tmp_path):
    home = make_two_afc(tmp_path, counts={"cnn": 1}) / "2afc" / "train" / "cnn"
    save_image(home / "p0" / "000000.BMP", 0)
    (home / "p0" / "000000.png").unlink()
    assert names(list_bapps(tmp_path, "2afc", "train")) == [("cnn", "000000.png", "000000.BMP", "000000.png")]


@pytest.mark.parametrize("part", ["ref/000001.png", "p0/000001.png", "p1/000001.png", "judge/000001.npy"])
def test_missing_files_are_named(tmp_path, part):
    home = make_two_afc(tmp_path) / "2afc" / "train" / "cnn"
    (home / part).unlink()
    wanted = f"2afc/train/cnn/{part.split('.')[0]}"
    with pytest.raises(InputError, match=wanted) as error:
        list_bapps(tmp_path, "2afc", "train")
    assert "allow_missing" in str(error.value)
    listing = list_bapps(tmp_path, "2afc", "train", allow_missing=True)
    assert listing.missing == (wanted,)
    assert [row.subset for row in listing.rows] == ["traditional"] * 3 + ["cnn"]


def test_a_link_to_nothing_is_one_missing_file(tmp_path):
    """Not a missing folder, and no second file of a stem."""
    home = make_two_afc(tmp_path) / "2afc" / "train" / "cnn"
    (home / "p0" / "000000.jpg").symlink_to(tmp_path / "gone.jpg")
    (home / "p1" / "000001.png").unlink()
    (home / "p1" / "000001.png").symlink_to(tmp_path / "gone.png")
    listing = list_bapps(tmp_path, "2afc", "train", allow_missing=True)
    assert listing.missing == ("2afc/train/cnn/p1/000001",)
    assert len(listing.rows) == 4


def test_the_advice_says_what_takes_the_option(tmp_path):
    """`iqazoo train` has no --allow-missing."""
    home = make_two_afc(tmp_path) / "2afc" / "train" / "cnn"
    (home / "p0" / "000000.png").unlink()
    with pytest.raises(InputError, match="`iqazoo eval` takes --allow-missing"):
        list_bapps(tmp_path, "2afc", "train")


def test_many_missing_files_are_counted(tmp_path):
    home = make_two_afc(tmp_path, counts={"cnn": 9}) / "2afc" / "train" / "cnn"
    for i in range(8):
        (home / "p1" / f"{i:06}.png").unlink()
    with pytest.raises(InputError, match="cnn/p1/000004 and 3 more"):
        list_bapps(tmp_path, "2afc", "train")


def test_an_empty_subset_is_an_error_even_if_files_may_be_missing(tmp_path):
    make_two_afc(tmp_path)
    (tmp_path / "2afc" / "train" / "mix").mkdir()
    with pytest.raises(InputError, match=r"train/mix, got no stem"):
        list_bapps(tmp_path, "2afc", "train", allow_missing=True)
    save_judgment(tmp_path / "2afc" / "train" / "mix" / "judge" / "000003.npy", 1)
    with pytest.raises(InputError, match="missing 2afc/train/mix/ref/000003"):
        list_bapps(tmp_path, "2afc", "train", allow_missing=True)


def test_a_folder_that_is_not_there_is_named_with_what_to_do(tmp_path):
    make_two_afc(tmp_path)
    with pytest.raises(InputError, match=r"2afc/val, got No such file .*bapps-like"):
        list_bapps(tmp_path, "2afc", "val")
    (tmp_path / "2afc" / "val").mkdir()
    with pytest.raises(InputError, match="got no folder"):
        list_bapps(tmp_path, "2afc", "val")


def test_two_files_of_a_stem_are_refused(tmp_path):
    make_two_afc(tmp_path, counts={"cnn": 1})
    save_image(tmp_path / "2afc" / "train" / "cnn" / "p0" / "000000.jpg", 0)
    with pytest.raises(InputError, match="holds both"):
        list_bapps(tmp_path, "2afc", "train")


def test_the_digest_goes_by_names_lengths_and_times_not_by_place(tmp_path):
    first = list_bapps(make_two_afc(tmp_path / "a"), "2afc", "train")
    os.rename(tmp_path / "a", tmp_path / "b")
    assert list_bapps(tmp_path / "b", "2afc", "train").digest == first.digest
    assert list_bapps(tmp_path / "b", "2afc", "train", ["cnn", "traditional"]).digest != first.digest
    judge = tmp_path / "b" / "2afc" / "train" / "cnn" / "judge" / "000000.npy"
    os.utime(judge, ns=(0, 12345))
    assert list_bapps(tmp_path / "b", "2afc", "train").digest != first.digest


def test_the_digest_knows_judgments_of_equal_stamps(tmp_path):
    """A copy with other judgments, every time of change set to one, as reproducible archives have it."""
    digests = set()
    for name, value in (("a", 0.25), ("b", 0.75), ("c", 0.25)):
        home = make_two_afc(tmp_path / name, counts={"cnn": 2})
        save_judgment(home / "2afc" / "train" / "cnn" / "judge" / "000000.npy", value)
        for path in home.rglob("*.*"):
            os.utime(path, ns=(0, 0))
        digests.add(list_bapps(home, "2afc", "train").digest)
    assert len(digests) == 2


def test_a_judgment_that_cannot_be_read_is_named(tmp_path):
    judge = make_two_afc(tmp_path) / "2afc" / "train" / "cnn" / "judge" / "000001.npy"
    judge.unlink()
    judge.mkdir()
    with pytest.raises(InputError, match=r"cnn/judge/000001\.npy cannot be read: Is a directory"):
        list_bapps(tmp_path, "2afc", "train")


def test_subsets_of_a_table_are_chosen_in_the_order_given(tmp_path):
    save_image(tmp_path / "r.png", 0)
    rows = [("r.png", "r.png", "gone.png" if name == "noise" else "r.png", 1, name) for name in ("blur", "noise", "")]
    path = make_table(tmp_path, rows, ("reference", "a", "b", "preference", "subset"))
    assert [row.subset for row in list_table(path, ["blur", "all", "blur"]).rows] == ["blur", "all"]
    assert [row.subset for row in list_table(path, ["all", "blur"]).rows] == ["all", "blur"]
    with pytest.raises(InputError, match=r"expected blurr in .*judgments\.csv, got all, blur, noise"):
        list_table(path, ["blurr", "all"])
    with pytest.raises(InputError, match="a subset or more"):
        list_table(path, [])


def test_a_table_is_read_relative_to_itself(tmp_path):
    for i, name in enumerate(("r", "x", "y")):
        save_image(tmp_path / "images" / f"{name}.png", i)
    rows = [("r", "x", "y", 0.25, "hard"), ("y", "x", "r", 1, "")]
    rows = [tuple(f"images/{v}.png" if v in ("r", "x", "y") else v for v in row) for row in rows]
    columns = ("reference", "a", "b", "preference", "subset")
    listing = list_table(make_table(tmp_path, rows, columns))
    assert names(listing) == [("all", "y.png", "x.png", "r.png"), ("hard", "r.png", "x.png", "y.png")]
    assert [row.judgment for row in listing.rows] == [1, 0.25]
    changed = [(*row[:3], 0.5, row[4]) for row in rows]
    assert list_table(make_table(tmp_path, changed, columns)).digest != listing.digest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("r.png", "x.png", "y.png", "1.5"),
            "line 2: .* reference, a, b and a preference from 0 to 1",
        ),
        (("r.png", "x.png", "y.png", "nan"), "line 2"),
        (("r.png", "x.png", "y.png", "B"), "line 2"),
        (("r.png", "", "y.png", "1"), "line 2"),
        (("r.png", "x.png"), "line 2"),
        (("r.png", "x.png", "y.png", "1"), "not there: missing .*/x.png, .*/y.png"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    save_image(tmp_path / "r.png", 0)
    with pytest.raises(InputError, match=message):
        list_table(make_table(tmp_path, [row]))


@pytest.mark.parametrize("content", [b"", b"reference,a,b\n1,2,3\n", b"reference,a,b,preference\n", b"\xff\xfe\x00"])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.csv"):
        list_table(path)
    with pytest.raises(InputError, match="No such file"):
        list_table(tmp_path / "none.csv")


def test_ratings_with_and_without_a_reference(tmp_path):
    for i, name in enumerate(("r", "x")):
        save_image(tmp_path / f"{name}.png", i)
    alone = list_ratings(make_table(tmp_path, [("x.png", "-3.5"), ("r.png", 71)], ("image", "rating")))
    assert names(alone) == [("all", "x.png"), ("all", "r.png")]
    assert [row.judgment for row in alone.rows] == [-3.5, 71]
    beside = list_ratings(make_table(tmp_path, [("r.png", 1, "x.png")], ("reference", "rating", "image")))
    assert names(beside) == [("all", "x.png", "r.png")]
    with pytest.raises(InputError, match="line 2: expected a file for each of image and a rating from -inf to inf"):
        list_ratings(make_table(tmp_path, [("x.png", "inf")], ("image", "rating")))
    with pytest.raises(InputError, match="a header with image, rating"):
        list_ratings(make_table(tmp_path, [("x.png", 1)], ("image", "mos")))


def test_what_is_a_table(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "judged").write_text("")
    found = {name: is_table(f"~/{name}") for name in ("judged", "gone.csv", "gone.CSV", "folder.csv", "gone")}
    assert found == {"judged": True, "gone.csv": True, "gone.CSV": True, "folder.csv": False, "gone": False}
