import dataclasses
import os
import threading
import time

import judging
import numpy as np
import pytest
import torch
from failing_disk import full_disk

from iqazoo.environment import cache_folder
from iqazoo.errors import InputError
from iqazoo.metrics.lpips import LPIPS
from iqazoo.train.bapps import BAPPSTrainer
from iqazoo.train.channel_means import cached, combined_scores
from iqazoo.train.distributed import Processes
from iqazoo.train.judgment import Judgment
from iqazoo.train.losses import make_loss


def frozen(network=judging.Tiny, seed=0):
    torch.manual_seed(seed)
    made = network()
    made.trunk.requires_grad_(False)
    return made


def kept(network, data, config, **options):
    return cached(network, data, judging.spec(), options, judging.ALONE, config)


def folders():
    return [path for path in (cache_folder() / "features").iterdir() if path.is_dir()]


@pytest.fixture
def config(tmp_path):
    return judging.config(tmp_path, cache_features=True)


@pytest.mark.parametrize("trunk", ["alex", "squeeze"])
def test_lpips_is_combined_from_channel_means(trunk):
    torch.manual_seed(0)
    network = LPIPS(trunk).eval()
    network.constrain_()
    f_image, f_reference = (network.features(x) for x in torch.rand(2, 2, 3, 40, 40))
    means = network.channel_means(f_image, f_reference)
    assert means.shape == (2, sum(network.trunk.channels))
    torch.testing.assert_close(network.combine(means), network.distance(f_image, f_reference), rtol=1e-4, atol=1e-7)


def test_scores_are_those_of_the_images(config):
    network, data = frozen(), judging.Judgments(20)
    batch = kept(network, data, config).__getitems__([3, 0, 19])
    scores = combined_scores(network, batch["ref_img"])
    for place, index in enumerate([3, 0, 19]):
        item = data[index]
        for score, name in zip(scores, ("distA_img", "distB_img"), strict=True):
            expected = network(item[name][None], item["ref_img"][None])
            torch.testing.assert_close(score[place : place + 1], expected, rtol=2e-3, atol=1e-6)  # float16 roots
        assert batch["mos_label"][place] == item["mos_label"]


def test_images_are_still_there_for_people(config):
    data = judging.Judgments(9)
    assert kept(frozen(), data, config)[4]["img_path"] == "4.png"


def count_passes(network):
    passes = []
    network.trunk.register_forward_pre_hook(lambda *_: passes.append(1))
    return passes


def test_the_trunk_runs_once_for_data_settings_and_trunk(config):
    data = judging.Judgments(20)
    first, again = frozen(), frozen()
    passes, more = count_passes(first), count_passes(again)
    kept(first, data, config)
    assert len(passes) == 1 + 3  # a row to see that all is frozen, batches of 8
    kept(again, judging.Judgments(20), config)
    assert more == []
    (folder,) = folders()
    assert np.load(folder / "means.npy").shape == (20, 2, 4)
    again.heads.data.zero_()  # heads are no part of it
    kept(again, data, config)
    assert more == []


def test_another_trunk_size_eps_or_other_data_are_computed_anew(config):
    data = judging.Judgments(20)
    odd = frozen()
    odd.eps = 1e-3
    buffered = frozen()
    buffered.register_buffer("shift", torch.ones(1), persistent=False)
    cases = [
        (frozen(), data, config),
        (frozen(seed=1), data, config),
        (frozen(), judging.Judgments(20, seed=2), config),
        (frozen(), data, dataclasses.replace(config, size=32)),
        (frozen(), data, dataclasses.replace(config, bf16=True)),
        (odd, data, config),
        (buffered, data, config),
    ]
    fingerprints = set()
    for number, case in enumerate(cases, 1):
        fingerprints.add(kept(*case).fingerprint())
        assert len(folders()) == len(fingerprints) == number
    fingerprints.add(kept(frozen(), data, config, stride=2).fingerprint())  # an option that no tensor shows
    assert len(folders()) == len(fingerprints) == len(cases) + 1


def test_half_a_file_is_never_taken(config, monkeypatch):
    data = judging.Judgments(20)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full_disk)
        with pytest.raises(InputError, match="make room, or set IQAZOO_CACHE"):
            kept(frozen(), data, config)
    assert folders() == []
    assert len(kept(frozen(), data, config)) == 20


def test_what_a_killed_run_left_is_removed(config):
    key = kept(frozen(), judging.Judgments(20), config).fingerprint()
    home = cache_folder() / "features"
    (home / key).rename(home / f".{key}.killed")
    kept(frozen(), judging.Judgments(20), config)
    assert [path.name for path in folders()] == [key]


def test_a_process_with_a_cache_of_its_own(config, tmp_path, monkeypatch):
    """On another machine, where the first process has written nothing."""
    second = Processes(torch.device("cpu"), rank=1, count=2)
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    assert len(cached(frozen(), judging.Judgments(20), judging.spec(), {}, second, config)) == 20


def test_runs_at_once_compute_once(config):
    data, found = judging.Judgments(20), []
    networks = [frozen() for _ in range(4)]
    counts = [count_passes(network) for network in networks]
    threads = [
        threading.Thread(target=lambda network=network: found.append(kept(network, data, config)))
        for network in networks
    ]
    for network in networks:  # each is well under way before one is done
        network.trunk.register_forward_pre_hook(lambda *_: time.sleep(0.05))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passes = [len(count) for count in counts]
    assert sorted(passes) == [0, 0, 0, 1 + 3]
    assert [len(means) for means in found] == [20] * 4


def test_images_of_two_sizes(config):
    uneven = [{**judging.Judgments(1, size)[0], "img_path": ""} for size in (8, 12)]
    data = judging.Judgments(2)
    data.__class__ = type("Uneven", (judging.Judgments,), {"__getitem__": lambda _, i: uneven[i]})
    with pytest.raises(InputError, match=r"of one size, got \[\(3, 8, 8\), \(3, 12, 12\)\]; give --size"):
        kept(frozen(), data, config)


class Projected(judging.Tiny):
    """A frozen trunk, but what comes after it is trained."""

    def __init__(self):
        super().__init__()
        self.trunk.requires_grad_(False)
        self.project = torch.nn.Conv2d(4, 4, 1)

    def features(self, image):
        return self.project(self.trunk(image))


class Unlike(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (judging.Tiny, "needs features that training leaves as they are; take --variant lin"),
        (Projected, "needs features that training leaves as they are"),
        (Unlike, "no weighted sum"),
    ],
)
def test_refused(config, network, message):
    with pytest.raises(InputError, match=message):
        kept(network(), judging.Judgments(20), config)


def test_a_run_ends_where_the_ordinary_one_does(tmp_path):
    results = []
    for cache in (False, True):
        network = frozen()
        train, val = judging.Judgments(200), judging.Judgments(60, seed=1)
        config = judging.config(tmp_path / str(cache), cache_features=cache, epochs=4, bf16=False)
        if cache:
            train, val = (kept(network, data, config) for data in (train, val))
        spec = judging.spec()
        objective = Judgment(spec, network, _loss(spec), combined_scores if cache else None)
        made = BAPPSTrainer(config, spec, objective, train, val, processes=judging.ALONE)
        made.prepare()
        assert made.fit()
        results.append(made)
    ordinary, fast = (r.validation(r.val_loader(), 0) for r in results)
    assert fast["2afc"] == pytest.approx(ordinary["2afc"], abs=0.002)
    heads = [r.objective.network.heads.detach() for r in results]
    torch.testing.assert_close(heads[0], heads[1], rtol=0.02, atol=2e-3)
    assert not torch.equal(heads[0], frozen().heads), "nothing was learnt"


def _loss(spec):
    torch.manual_seed(1)
    return make_loss("auto", spec)


def test_a_sheet_shows_the_images(tmp_path):
    network = frozen()
    config = judging.config(tmp_path, cache_features=True)
    data = kept(network, judging.Judgments(24), config)
    objective = Judgment(judging.spec(), network, make_loss("auto", judging.spec()), combined_scores)
    made = BAPPSTrainer(config, judging.spec(), objective, data, data, processes=judging.ALONE)
    made.validation(made.val_loader(), 0, save_img=True)
    assert (tmp_path / "run" / "images" / "step-00000000.png").is_file()
