"""Decoded images are kept on disk: each file is read once, and a damaged or outdated cache is never believed."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
from failing_disk import full_disk
from judged_images import make_table, make_two_afc, save_image, save_judgment
from PIL import Image

from iqazoo.data import shards
from iqazoo.data.listing import list_bapps, list_table
from iqazoo.data.shards import Shards
from iqazoo.environment import cache_folder
from iqazoo.errors import InputError


@pytest.fixture
def root(tmp_path):
    return make_two_afc(tmp_path / "set")


def opened(root, size=64):
    return Shards(list_bapps(root, "2afc", "train"), size)


def rows(held, count=5):
    return [held.row(i) for i in range(count)]


def check_same(found, expected):
    for (images, judgment), (wanted, wanted_judgment) in zip(found, expected, strict=True):
        assert judgment == wanted_judgment
        assert all(torch.equal(image, other) for image, other in zip(images, wanted, strict=True))


def files():
    return sorted((cache_folder() / "judgments").rglob("*.safetensors"))


@pytest.fixture
def count_decodes(monkeypatch):
    """The files that were decoded."""
    decoded, decode = [], shards.decode

    def counting(path):
        decoded.append(path)
        return decode(path)

    monkeypatch.setattr(shards, "decode", counting)
    return decoded


def test_rows_hold_the_pixels_and_the_judgment(root):
    for i, (images, judgment) in enumerate(rows(opened(root))):
        subset, place = ("traditional", i) if i < 3 else ("cnn", i - 3)
        assert judgment == pytest.approx(place / 10, abs=1e-7)
        for part, image in zip(("ref", "p0", "p1"), images, strict=True):
            path = root / "2afc" / "train" / subset / part / f"{place:06}.png"
            assert image.dtype == torch.uint8
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))


def test_every_file_is_decoded_once(root, count_decodes):
    first = rows(opened(root))
    assert len(count_decodes) == len(set(count_decodes)) == 15
    check_same(rows(opened(root)), first)
    assert len(count_decodes) == 15


def test_a_resize_is_that_of_the_recipe(tmp_path):
    """LPIPS was trained with torchvision's Resize(64) of Pillow images, which is Pillow's own bilinear resize."""
    make_two_afc(tmp_path, counts={"cnn": 1}, size=(256, 256))
    (images, _) = opened(tmp_path).row(0)
    path = tmp_path / "2afc" / "train" / "cnn" / "ref" / "000000.png"
    expected = np.asarray(Image.open(path).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), expected)
    # A crop, or a resize that does not smooth, would be far off: random pixels average out.
    assert images[0].float().std() < 25


def test_images_keep_their_own_size_if_asked(tmp_path):
    for name, size in (("a", (20, 30)), ("b", (21, 10)), ("c", (7, 7))):
        save_image(tmp_path / f"{name}.png", 1, size)
    table = make_table(tmp_path, [("a.png", "b.png", "c.png", 0.5), ("c.png", "b.png", "a.png", 0.5)])
    held = Shards(list_table(table), None)
    assert [[tuple(image.shape) for image in held.row(i)[0]] for i in range(2)] == [
        [(3, 30, 20), (3, 10, 21), (3, 7, 7)],
        [(3, 7, 7), (3, 10, 21), (3, 30, 20)],
    ]
    assert torch.equal(held.row(0)[0][0], held.row(1)[0][2])


def test_large_images_share_a_file_with_fewer(tmp_path, monkeypatch):
    make_two_afc(tmp_path, counts={"cnn": 5})
    whole = rows(opened(tmp_path, None))
    monkeypatch.setattr(shards, "FORMAT", -1)
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 3 * 3 * 64 * 64 + 100)
    held = opened(tmp_path, None)
    assert len(held) == 3
    check_same(rows(held), whole)
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    assert len(opened(tmp_path, None)) == 5


def test_files_are_cut_by_what_their_rows_hold(tmp_path, monkeypatch):
    """A small first row says nothing of the next."""
    sides = (8, 64, 64, 8, 8)
    for i, side in enumerate(sides):
        for part in "rab":
            save_image(tmp_path / f"{part}{i}.png", i, (side, side))
    table = make_table(tmp_path, [(f"r{i}.png", f"a{i}.png", f"b{i}.png", 0.5) for i in range(5)])
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * 3 * (64 * 64 + 2 * 8 * 8))
    held = Shards(list_table(table), None)
    assert [held.row(i)[0][0].shape[1] for i in range(5)] == list(sides)
    assert [len(file["judgments"]) for file in map(safetensors.torch.load_file, files())] == [2, 3]
    with pytest.raises(IndexError):
        held.row(5)
    monkeypatch.setattr(shards, "_byte_count", lambda path: pytest.fail("where files are cut should be known"))
    check_same(rows(Shards(list_table(table), None)), rows(held))
    monkeypatch.setattr(shards, "_byte_count", lambda path: 1)
    monkeypatch.setattr(shards, "ROWS", 2)
    assert len(Shards(list_table(table), None)) == 3


def test_many_rows_are_divided(root, monkeypatch):
    whole = rows(opened(root))
    monkeypatch.setattr(shards, "FORMAT", -1)
    monkeypatch.setattr(shards, "ROWS", 2)
    held = opened(root)
    check_same(rows(held), whole)
    assert len(held) == 3
    with pytest.raises(IndexError):
        held.row(5)


def test_large_squares_share_a_file_with_fewer(root, monkeypatch):
    whole = rows(opened(root))
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 3 * 3 * 64 * 64 + 100)
    held = opened(root)
    assert len(held) == 3
    check_same(rows(held), whole)
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    assert len(opened(root)) == 5


def test_what_divides_rows_is_part_of_the_key(root):
    """A cache of 64 x 64 keeps its key, for 1024 rows of it are within the bytes of a file; 256 x 256 are not."""
    listing = list_bapps(root, "2afc", "train")
    for size, count in ((64, 1024), (None, 1024), (256, 113)):
        opened(root, size).row(0)
        key = hashlib.sha256(json.dumps([2, count, 2**26, listing.digest, size]).encode()).hexdigest()[:32]
        assert (cache_folder() / "judgments" / key / "00000.safetensors").is_file()


def test_gray_images_have_three_equal_planes(tmp_path):
    make_two_afc(tmp_path, counts={"cnn": 1})
    Image.new("L", (64, 64), 77).save(tmp_path / "2afc" / "train" / "cnn" / "p0" / "000000.png")
    images, _ = opened(tmp_path).row(0)
    assert torch.equal(images[1], torch.full((3, 64, 64), 77, dtype=torch.uint8))


@pytest.mark.parametrize("damage", ["cut", "cut deep", "emptied", "garbage", "other rows"])
def test_a_torn_cache_is_made_again(root, damage, count_decodes):
    expected = [([image.clone() for image in images], judgment) for images, judgment in rows(opened(root))]
    (path,) = files()
    whole = path.read_bytes()
    if damage == "other rows":
        other = make_two_afc(root.parent / "other", counts={"cnn": 2})
        rows(opened(other), 2)
        damaged = next(file for file in files() if file != path).read_bytes()
    else:
        damaged = {"cut": whole[:-1], "cut deep": whole[:100], "emptied": b"", "garbage": b"\xff" * 5000}[damage]
    path.write_bytes(damaged)
    count_decodes.clear()
    check_same(rows(opened(root)), expected)
    assert len(count_decodes) == 15
    assert path.read_bytes() == whole


def test_a_cache_with_too_few_pixels_is_made_again(root):
    expected = rows(opened(root))[4][0][2].clone()
    (path,) = files()
    held = safetensors.torch.load_file(path)
    safetensors.torch.save_file(held | {"pixels": held["pixels"][:-1].clone()}, path, {"sha256": "x"})
    assert torch.equal(opened(root).row(4)[0][2], expected)


def test_a_copy_with_other_judgments_has_its_own_cache(tmp_path):
    for name, value in (("a", 0.25), ("b", 0.75)):
        home = make_two_afc(tmp_path / name, counts={"cnn": 1})
        save_judgment(home / "2afc" / "train" / "cnn" / "judge" / "000000.npy", value)
        for path in home.rglob("*.*"):
            os.utime(path, ns=(0, 0))
        assert opened(home).row(0)[1] == value


def test_a_changed_file_or_another_size_is_decoded_anew(root, count_decodes):
    rows(opened(root))
    changed = root / "2afc" / "train" / "traditional" / "p1" / "000000.png"
    pixels = save_image(changed, 999)
    assert np.array_equal(opened(root).row(0)[0][2].permute(1, 2, 0).numpy(), pixels)
    assert opened(root, 16).row(0)[0][0].shape == (3, 16, 16)
    assert len(files()) == 3
    assert len(count_decodes) == 45


def test_the_fingerprint_is_of_what_is_seen(root, tmp_path):
    fingerprint = opened(root).fingerprint()
    copy = make_two_afc(tmp_path / "copy")  # other times of change, equal content
    assert opened(copy).fingerprint() == fingerprint
    assert opened(root, 32).fingerprint() != fingerprint
    save_judgment(copy / "2afc" / "train" / "cnn" / "judge" / "000001.npy", 0.7)
    assert opened(copy).fingerprint() != fingerprint
    home = make_two_afc(tmp_path / "other") / "2afc" / "train" / "cnn"
    os.replace(home / "p0" / "000000.png", tmp_path / "kept.png")
    os.replace(home / "p1" / "000000.png", home / "p0" / "000000.png")
    os.replace(tmp_path / "kept.png", home / "p1" / "000000.png")
    assert opened(tmp_path / "other").fingerprint() != fingerprint


def test_pickling_takes_no_pixels_along(root):
    held = opened(root)
    expected = rows(held)
    pickled = pickle.dumps(held)
    assert len(pickled) < 10_000
    check_same(rows(pickle.loads(pickled)), expected)


def test_the_pixels_are_mapped_not_read(root):
    """What is written into the file shows in a row that was taken before: it is the file's own page."""
    image = opened(root).row(0)[0][0]
    (path,) = files()
    content = path.read_bytes()
    start = content.index(image.numpy().tobytes())
    before = int(image[0, 0, 0])
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(bytes([255 - before]))
    assert int(opened(root).row(0)[0][0][0, 0, 0]) == 255 - before
    assert image.untyped_storage().nbytes() >= 15 * 3 * 64 * 64  # one storage for the whole file


def test_many_threads_at_once(root, count_decodes):
    found, held = [], [opened(root) for _ in range(8)]
    threads = [threading.Thread(target=lambda one=one: found.append(rows(one))) for one in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for each in found:
        check_same(each, found[0])
    assert len(count_decodes) == 15


@pytest.mark.slow
def test_two_processes_at_once_make_one_cache(root):
    code = (
        "import sys; from iqazoo.data import TwoAFC\n"
        "data = TwoAFC(sys.argv[1]); print(data.fingerprint(), len(data), float(data[4]['ref_img'].sum()))"
    )
    command = [sys.executable, "-c", code, str(root)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate()[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(answers) == 1
    assert len(files()) == 1
    assert [p.name for p in files()[0].parent.iterdir() if p.name.startswith(".")] == []


def test_a_full_disk_is_told_and_leaves_nothing(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(InputError, match=r"No space left.*IQAZOO_CACHE"):
            opened(root).row(0)
    assert files() == []
    assert len(rows(opened(root))) == 5


def test_a_cache_that_cannot_be_made_is_told(root, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IQAZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="IQAZOO_CACHE"):
        opened(root).row(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([1.5]), "from 0 to 1, got 1.5"),
        (np.array([np.nan]), "from 0 to 1"),
        (np.array([0.5, 0.5]), "one number"),
        (np.array(["x"]), "one number"),
        (np.array([{}], dtype=object), "one number"),
        (b"", "one number"),
        (b"\x93NUMPY", "one number"),
    ],
)
def test_a_bad_judgment_is_named(root, content, message):
    path = root / "2afc" / "train" / "cnn" / "judge" / "000001.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(InputError, match=message) as error:
        opened(root).row(0)
    assert str(path) in str(error.value)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickled_judgment_is_not_run(root, tmp_path):
    judge = root / "2afc" / "train" / "cnn" / "judge" / "000001.npy"
    np.save(judge, np.array([Touch(tmp_path / "touched")], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="one number"):
        opened(root).row(0)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("value", [0.25, [0.25], [[[0.25]]]])
def test_judgments_may_have_any_shape_of_one(root, value):
    np.save(root / "2afc" / "train" / "traditional" / "judge" / "000000.npy", value)
    assert opened(root).row(0)[1] == 0.25


@pytest.mark.parametrize("size", [64, None])
def test_a_broken_image_is_named_and_nothing_is_kept(root, size):
    path = root / "2afc" / "train" / "cnn" / "p1" / "000000.png"
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cnn/p1/000000\.png"):
        opened(root, size).row(0)
    assert files() == []
