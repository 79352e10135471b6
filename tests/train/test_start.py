import dataclasses
import hashlib

import judging
import pytest
import safetensors.torch
import torch
from run_records import check_same_run

from iqazoo import create, registry, state_dict
from iqazoo.errors import CheckpointError, InputError, WeightsError
from iqazoo.metric_spec import Weights
from iqazoo.metrics.lpips import LPIPS
from iqazoo.train.start import bapps_trainer, datasets, prepared_network


@pytest.fixture
def lpips(tmp_path):
    """LPIPS's spec with published files that are here, and what its trunk's file holds."""
    torch.manual_seed(3)
    published = LPIPS("alex")
    files = []
    for prefix in ("trunk", "heads"):
        path = tmp_path / f"{prefix}.pth"
        torch.save(getattr(published, prefix).state_dict(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(Weights(url=path.as_uri(), sha256=digest, license="", prefix=prefix))
    return dataclasses.replace(registry.spec("lpips"), weights=tuple(files)), published


def trains(network):
    return {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}


def prepared(spec, folder, options=None, **facts):
    torch.manual_seed(7)
    return prepared_network(spec, options or {}, judging.config(folder, **facts))[0]


@pytest.mark.parametrize(
    ("variant", "trained", "from_published"),
    [("auto", {"heads"}, True), ("lin", {"heads"}, True), ("tune", {"trunk", "heads"}, True),
     ("scratch", {"trunk", "heads"}, False)],
)  # fmt: skip
def test_variants_of_lpips(lpips, tmp_path, variant, trained, from_published):
    spec, published = lpips
    network = prepared(spec, tmp_path, variant=variant)
    assert trains(network) == trained
    trunk = network.trunk.features[0].weight
    assert torch.equal(trunk, published.trunk.features[0].weight) == from_published
    heads = [p.detach() for p in network.heads.parameters()]
    assert all(h.min() >= 0 for h in heads), "heads are kept non-negative from the start"
    assert not torch.equal(heads[0], published.heads.lin0.model[1].weight), "heads begin anew, as in the recipe"
    assert {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)} == {0.5}


def test_only_heads_are_clamped(lpips, tmp_path):
    network = prepared(lpips[0], tmp_path, variant="tune")
    assert all((p < 0).any() for name, p in network.trunk.named_parameters() if name.endswith("weight"))


def test_every_kind_of_dropout(tmp_path):
    kinds = [torch.nn.Dropout(), torch.nn.Dropout1d(), torch.nn.Dropout3d(), torch.nn.AlphaDropout()]
    spec = judging.spec(lambda: torch.nn.Sequential(*kinds))
    assert [m.p for m in prepared(spec, tmp_path, dropout=0.25)] == [0.25] * len(kinds)


@pytest.mark.parametrize(("facts", "rate"), [({"dropout": 0.25}, 0.25), ({"cache_features": True}, 0.0)])
def test_dropout(lpips, tmp_path, facts, rate):
    network = prepared(lpips[0], tmp_path, **facts)
    assert {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)} == {rate}


def test_random_weights_only_when_asked_for(lpips, tmp_path):
    spec, published = lpips
    network = prepared(spec, tmp_path, variant="lin", weights="none")
    assert not torch.equal(network.trunk.features[0].weight, published.trunk.features[0].weight)
    with pytest.raises(InputError, match="publishes no weights to start from"):
        prepared(judging.spec(), tmp_path, variant="tune")


@pytest.fixture
def start(tmp_path):
    """A file to start from, of a network whose options are not the default ones."""
    path = tmp_path / "start.safetensors"
    network = judging.Tiny(width=6)
    state_dict.save(path, network, metric="tiny", options={"width": 6})
    return path, network


@pytest.mark.parametrize("variant", ["auto", "lin", "tune"])
def test_a_whole_file_to_start_from(tmp_path, start, variant):
    path, network = start
    again = prepared(judging.spec(), tmp_path, variant=variant, weights=str(path))
    assert torch.equal(again.heads, network.heads)
    assert again.trunk.weight.requires_grad == (variant != "lin")


def test_a_file_brings_its_options(tmp_path, start):
    path, _ = start
    config = judging.config(tmp_path, weights=str(path))
    assert prepared_network(judging.spec(), {"dropout": 0.25}, config)[1] == {"dropout": 0.25, "width": 6}
    with pytest.raises(InputError, match="saved with width=6, asked for 4"):
        prepared_network(judging.spec(), {"width": 4}, config)
    with pytest.raises(WeightsError, match="saved from 'tiny'"):
        prepared_network(judging.spec(name="other"), {}, config)


def test_a_run_from_a_file_keeps_its_options(tmp_path, start, monkeypatch):
    """In what it exports, and when it is resumed without the file."""
    path, _ = start
    spec = judging.spec()
    monkeypatch.setattr(registry, "spec", lambda _: spec)
    judging.write_bapps(tmp_path, {"train/cnn": 8, "val/cnn": 3})
    facts = {"size": 16, "batch_size": 4, "epochs": 2, "decay_epochs": 0, "weights": str(path)}
    made = bapps_trainer(judging.config(tmp_path, **facts))
    made.stop.received = True
    assert not made.fit()
    path.unlink()
    read, load_file = [], safetensors.torch.load_file
    monkeypatch.setattr(safetensors.torch, "load_file", lambda file: (read.append(file.name), load_file(file))[1])
    assert bapps_trainer(judging.config(tmp_path, resume=True, **facts)).fit()
    assert read == ["model.safetensors", "optimizer.safetensors", "rng.safetensors"], "each of them once"
    exported = state_dict.read_metadata(tmp_path / "run" / "best.safetensors")
    assert exported is not None
    assert exported.options == {"width": 6}


def test_images_that_are_too_small(tmp_path):
    judging.write_bapps(tmp_path, {"train/cnn": 8, "val/cnn": 3}, size=40)
    with pytest.raises(InputError, match="lpips takes images of 31 x 31 pixels or more; got --size 16"):
        bapps_trainer(judging.config(tmp_path, name="lpips", weights="none", size=16))


def test_lin_needs_a_trunk(tmp_path):
    with pytest.raises(InputError, match="has no trunk to keep as it is; take --variant tune or scratch"):
        prepared(judging.spec(judging.Plain), tmp_path, variant="lin")


def test_data(tmp_path):
    judging.write_bapps(tmp_path, {"train/cnn": 3, "train/mix": 2, "val/cnn": 2})
    train, val = datasets(judging.config(tmp_path, train_subsets=("cnn",), size=8, augment=True))
    assert (len(train), len(val)) == (3, 2)
    assert train[0]["ref_img"].shape == (3, 8, 8)
    plain, _ = datasets(judging.config(tmp_path, train_subsets=("cnn",), size=8))
    flipped = [not torch.equal(a["ref_img"], b["ref_img"]) for a, b in zip(train, plain, strict=True)]
    for epoch in range(4):
        train.set_epoch(epoch)
        flipped += [not torch.equal(a["ref_img"], b["ref_img"]) for a, b in zip(train, plain, strict=True)]
    assert any(flipped)


def test_tables(tmp_path):
    judging.write_bapps(tmp_path, {"val/cnn": 1})
    home = tmp_path / "2afc/val/cnn"
    row = ",".join(str(home / part / "000000.png") for part in ("ref", "p0", "p1"))
    for name, count in (("train.csv", 3), ("val.csv", 2)):
        (tmp_path / name).write_text("reference,a,b,preference\n" + f"{row},0.25\n" * count)
    config = judging.config(tmp_path / "train.csv", out=tmp_path, val_data=tmp_path / "val.csv")
    assert [len(data) for data in datasets(config)] == [3, 2]
    (tmp_path / "train.csv").rename(tmp_path / "judged.txt")
    assert len(datasets(dataclasses.replace(config, data=tmp_path / "judged.txt"))[0]) == 3
    with pytest.raises(InputError, match="give another with --val-data"):
        datasets(dataclasses.replace(config, val_data=None))


def test_a_table_beside_a_folder(tmp_path):
    """Which of the two it is, is asked of each path; subsets are chosen in both."""
    judging.write_bapps(tmp_path, {"train/cnn": 3, "val/cnn": 1, "val/color": 1})
    row = ",".join(str(tmp_path / "2afc/val/cnn" / part / "000000.png") for part in ("ref", "p0", "p1"))
    path = tmp_path / "j.csv"
    path.write_text("reference,a,b,preference,subset\n" + "".join(f"{row},0.25,{name}\n" for name in ("x", "y", "x")))
    lengths = {}
    for data, val_data in ((tmp_path, path), (path, tmp_path), (path, path)):
        config = judging.config(data, out=tmp_path, val_data=val_data)
        lengths[data, val_data] = [len(one) for one in datasets(config)]
    assert list(lengths.values()) == [[3, 3], [3, 2], [3, 3]]
    chosen = judging.config(path, out=tmp_path, val_data=path, train_subsets=("x",), val_subsets=("y",))
    assert [len(one) for one in datasets(chosen)] == [2, 1]
    with pytest.raises(InputError, match=r"expected z in .*j\.csv, got x, y"):
        datasets(dataclasses.replace(chosen, val_subsets=("z",)))


def test_a_metric_that_cannot_be_trained(tmp_path):
    with pytest.raises(InputError, match="psnr has nothing to train"):
        bapps_trainer(judging.config(tmp_path, name="psnr"))


@pytest.mark.parametrize("cache", [False, True])
def test_lpips_itself(tmp_path, cache):
    """The recipe with a random trunk: what is trained are the heads, and the file is used without options."""
    judging.write_bapps(tmp_path, {"train/cnn": 8, "val/cnn": 3, "val/color": 2}, size=40)
    facts = {"name": "lpips", "variant": "lin", "weights": "none", "size": 40, "batch_size": 4}
    config = judging.config(tmp_path, epochs=1, decay_epochs=0, cache_features=cache, **facts)
    made = bapps_trainer(config)
    before = {k: v.clone() for k, v in made.objective.network.state_dict().items()}
    assert made.fit()
    changed = {k.split(".")[0] for k, v in made.objective.network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"heads"}
    metric = create("lpips", weights=tmp_path / "run" / "best.safetensors")
    item = made.val_data[0]
    made.feed_data(next(iter(made.val_loader())))
    made.test()
    score = metric(item["distA_img"][None], item["ref_img"][None])
    torch.testing.assert_close(score.double(), made.outputs[:1, 0], rtol=2e-3, atol=1e-6)


def test_cached_features_of_a_resumed_run_are_those_of_the_published_trunk(lpips, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "spec", lambda _: lpips[0])
    judging.write_bapps(tmp_path, {"train/cnn": 8, "val/cnn": 3}, size=40)
    facts = {"name": "lpips", "data": tmp_path, "size": 40, "batch_size": 4, "cache_features": True, "epochs": 1}
    assert bapps_trainer(judging.config(tmp_path / "straight", **facts)).fit()
    made = bapps_trainer(judging.config(tmp_path / "parts", **facts))
    made.stop.received = True
    assert not made.fit()
    again = judging.config(tmp_path / "parts", resume=True, **facts)
    assert bapps_trainer(again).fit()
    check_same_run(tmp_path / "parts", tmp_path / "straight")
    (trunk, heads), other = lpips[0].weights, tmp_path / "other.pth"
    torch.save(LPIPS("alex").trunk.state_dict(), other)
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    changed = (dataclasses.replace(trunk, url=other.as_uri(), sha256=digest), heads)
    monkeypatch.setattr(registry, "spec", lambda _: dataclasses.replace(lpips[0], weights=changed))
    with pytest.raises(CheckpointError, match="is of another run: judgments: was"):
        bapps_trainer(again)
