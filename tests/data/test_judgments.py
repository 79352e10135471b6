"""The datasets: what an item holds, and what augmentation does to it."""

import pickle

import numpy as np
import pytest
import torch
from judged_images import make_jnd, make_table, make_two_afc, save_image
from PIL import Image
from torch.utils.data import DataLoader

from iqazoo.data import JND, RatingTable, TripletTable, TwoAFC
from iqazoo.data.augment import flipped_axes
from iqazoo.errors import InputError

IMAGES = ("ref_img", "distA_img", "distB_img")


@pytest.fixture
def root(tmp_path):
    return make_two_afc(tmp_path)


def pixels(path):
    return torch.from_numpy(np.asarray(Image.open(path)).transpose(2, 0, 1) / np.float32(255))


def test_an_item_is_what_the_trainers_call_a_batch(root):
    data = TwoAFC(root)
    assert len(data) == 5
    item = data[4]
    assert list(item) == [*IMAGES, "mos_label", "img_path"]
    home = root / "2afc" / "train" / "cnn"
    for name, part in zip(IMAGES, ("ref", "p0", "p1"), strict=True):
        torch.testing.assert_close(item[name], pixels(home / part / "000001.png"), rtol=0, atol=1e-7)
        assert item[name].dtype == torch.float32
    assert item["mos_label"].shape == (1,)
    assert item["mos_label"].item() == pytest.approx(0.1)
    assert item["img_path"] == str(home / "ref" / "000001.png")
    assert (data.subset_names, data.subset_of(2), data.subset_of(3)) == (("traditional", "cnn"), "traditional", "cnn")
    assert torch.equal(data[-1]["ref_img"], item["ref_img"])
    with pytest.raises(IndexError):
        data[5]


def test_an_item_may_be_written_to(root):
    data = TwoAFC(root)
    expected = data[0]["ref_img"].clone()
    data[0]["ref_img"].zero_()
    assert torch.equal(data[0]["ref_img"], expected)


def test_a_loader_collates_with_and_without_workers(root):
    alone = list(DataLoader(TwoAFC(root), batch_size=2))
    assert [tuple(batch["mos_label"].shape) for batch in alone] == [(2, 1), (2, 1), (1, 1)]
    for batch, other in zip(alone, DataLoader(TwoAFC(root), batch_size=2, num_workers=2), strict=True):
        assert batch["img_path"] == other["img_path"]
        assert all(torch.equal(batch[name], other[name]) for name in (*IMAGES, "mos_label"))


def test_augmentation_is_a_function_of_seed_epoch_and_index(root):
    plain = TwoAFC(root)
    seen = set()
    for seed in (0, 5):
        data = TwoAFC(root, augment=True, seed=seed)
        for epoch in (3, 0, 3, 1):  # any order, any number of times
            data.set_epoch(epoch)
            for i in (4, 0, 2, 1, 3, 0):
                axes = flipped_axes(seed, epoch, i)
                seen.add(axes)
                for name in IMAGES:  # the same for the three images
                    assert torch.equal(data[i][name], plain[i][name].flip(axes))
                assert torch.equal(data[i]["mos_label"], plain[i]["mos_label"])
    assert len(seen) == 4


def test_workers_that_live_on_see_the_epoch(root):
    data = TwoAFC(root, augment=True)
    loader = DataLoader(data, batch_size=5, num_workers=1, persistent_workers=True)
    for epoch in (0, 1, 2):
        data.set_epoch(epoch)
        (batch,) = loader
        for i in range(5):
            assert torch.equal(batch["ref_img"][i], data[i]["ref_img"])


def test_nothing_is_mirrored_unless_asked(root):
    data = TwoAFC(root)
    before = [data[i]["distA_img"] for i in range(5)]
    data.set_epoch(9)
    assert all(torch.equal(data[i]["distA_img"], before[i]) for i in range(5))


def test_splits_subsets_and_size(root):
    make_two_afc(root, "val", {"deblur": 2}, size=(80, 70))
    data = TwoAFC(root, "val", size=None)
    assert data.subset_names == ("deblur",)
    assert data[0]["ref_img"].shape == (3, 70, 80)
    assert TwoAFC(root, "val", ["deblur"], 32)[1]["distB_img"].shape == (3, 32, 32)
    for wrong in ({"size": 0}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            TwoAFC(root, **wrong)


def test_prepare_tells_how_far_it_is(root):
    told = []
    data = TwoAFC(root)
    data.prepare(lambda done, of: told.append((done, of)))
    assert told == [(1, 1)]


def test_the_fingerprint_knows_subsets_and_content(root, tmp_path):
    fingerprint = TwoAFC(root).fingerprint()
    assert fingerprint == TwoAFC(root, augment=True, seed=3).fingerprint()
    assert len(fingerprint) == 64
    assert TwoAFC(root, subsets=["cnn"]).fingerprint() != fingerprint
    (root / "2afc" / "train" / "cnn").rename(root / "2afc" / "train" / "mix")
    assert TwoAFC(root).fingerprint() != fingerprint


def test_rows_without_a_file_are_left_out_if_allowed(root):
    (root / "2afc" / "train" / "cnn" / "p0" / "000000.png").unlink()
    with pytest.raises(InputError, match="cnn/p0/000000"):
        TwoAFC(root)
    data = TwoAFC(root, allow_missing=True)
    assert (len(data), data.missing) == (4, ("2afc/train/cnn/p0/000000",))


def test_a_dataset_can_be_pickled(root):
    data = TwoAFC(root, augment=True, seed=2)
    data.set_epoch(4)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[3]["ref_img"], data[3]["ref_img"])


def test_a_table(tmp_path):
    for i, name in enumerate(("r", "x", "y")):
        save_image(tmp_path / f"{name}.png", i, (90, 50))
    path = make_table(tmp_path, [("r.png", "x.png", "y.png", 0.75)])
    data = TripletTable(path)
    assert (len(data), data.subset_names) == (1, ("all",))
    assert data[0]["ref_img"].shape == (3, 64, 64)
    assert data[0]["mos_label"].item() == 0.75
    torch.testing.assert_close(
        TripletTable(path, size=None)[0]["distB_img"], pixels(tmp_path / "y.png"), rtol=0, atol=1e-7
    )


def test_some_subsets_of_a_table(tmp_path):
    save_image(tmp_path / "r.png", 0)
    rows = [("r.png", "r.png", "r.png", i / 4, name) for i, name in enumerate(("blur", "noise", "blur"))]
    path = make_table(tmp_path, rows, ("reference", "a", "b", "preference", "subset"))
    data = TripletTable(path, subsets=["blur"])
    assert data.subset_names == ("blur",)
    assert [item["mos_label"].item() for item in data] == [0, 0.5]


def test_just_noticeable_differences(tmp_path):
    data = JND(make_jnd(tmp_path))
    item = data[1]
    assert list(item) == ["ref_img", "dist_img", "same_label", "img_path"]
    home = tmp_path / "jnd" / "val" / "traditional"
    torch.testing.assert_close(item["ref_img"], pixels(home / "p0" / "000001.png"), rtol=0, atol=1e-7)
    torch.testing.assert_close(item["dist_img"], pixels(home / "p1" / "000001.png"), rtol=0, atol=1e-7)
    assert item["same_label"].tolist() == [1]
    assert JND(tmp_path, subsets=["cnn"]).subset_names == ("cnn",)


def test_ratings(tmp_path):
    for i, name in enumerate(("r", "x")):
        save_image(tmp_path / f"{name}.png", i, (40, 30))
    table = RatingTable(make_table(tmp_path, [("x.png", "r.png", 55.5)], ("image", "reference", "rating")))
    item = table[0]
    assert list(item) == ["img", "ref_img", "mos_label", "img_path"]
    assert item["mos_label"].tolist() == [55.5]
    for name, file in (("img", "x.png"), ("ref_img", "r.png")):
        torch.testing.assert_close(item[name], pixels(tmp_path / file), rtol=0, atol=1e-7)
    alone = RatingTable(make_table(tmp_path, [("x.png", 4)], ("image", "rating")), size=16)
    assert list(alone[0]) == ["img", "mos_label", "img_path"]
    assert alone[0]["img"].shape == (3, 16, 16)
