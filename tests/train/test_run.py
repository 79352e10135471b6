"""Whole runs in this process: what is learnt, written, resumed and refused."""

import functools
import json
import math
import os
import signal
import time

import judging
import pytest
import safetensors.torch
import torch
from failing_disk import files_no_larger_than
from judging import Dropped, trainer
from PIL import Image
from run_records import check_same_run, records

from iqazoo import state_dict
from iqazoo.errors import CheckpointError, InputError, TrainingError
from iqazoo.train import checkpoint
from iqazoo.train.bapps import BAPPSTrainer


def test_a_run_learns_and_leaves_what_it_should(tmp_path):
    train = judging.Judgments(400)
    made = trainer(tmp_path, train=train, val=judging.Judgments(40, seed=1), epochs=4)
    before = made.validation(made.val_loader(), 0)
    assert made.fit()
    after = records(tmp_path, "val")
    assert [r["step"] for r in after] == [50, 100, 150, 200, 250]
    assert made.at.best == max(r["2afc"] for r in after) > max(0.9, before["2afc"])
    assert after[-1]["2afc"] == pytest.approx((after[-1]["2afc/even"] + after[-1]["2afc/odd"]) / 2)
    losses = [r["loss"] for r in records(tmp_path, "train")]
    assert len(losses) == 125
    assert losses[-1] < 0.8 * losses[0]
    assert train.epochs == [0, 1, 2, 3, 4]
    written = {p.name for p in (tmp_path / "run").iterdir()} - {"tensorboard"}
    assert written == {"best.safetensors", "checkpoints", "log.jsonl"}
    assert list(checkpoint.steps(tmp_path / "run" / "checkpoints")) == [200, 250]
    kept = state_dict.read_metadata(tmp_path / "run" / "best.safetensors")
    assert (kept.metric, kept.options) == ("tiny", {"width": 4})


def test_the_rate_falls_by_epoch(tmp_path):
    trainer(tmp_path, epochs=2, decay_epochs=2, log_every=3).fit()
    assert [r["lr"] for r in records(tmp_path, "train")] == pytest.approx([0.01, 0.01, 0.01, 0.005])


def test_a_metric_and_its_negation_end_equal(tmp_path):
    results = []
    for network in (judging.Tiny, judging.Similar):
        made = trainer(tmp_path / network.__name__, network)
        made.fit()
        results.append((records(tmp_path / network.__name__, "val"), list(made.objective.parameters())))
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1])


def test_the_constraint_holds_after_every_step(tmp_path):
    made = trainer(tmp_path, lr=0.5)
    made.start_epoch()
    for batch in made.train_loader():
        made.feed_data(batch)
        made.optimize_parameters(1)
        assert made.objective.network.heads.min() >= 0
    assert made.objective.network.heads.eq(0).any(), "at this rate some weight should have reached the bound"


@pytest.mark.parametrize(
    "facts",
    [{}, {"ema": 0.9}, {"optimizer": "sgd"}, {"accumulate": 2}, {"clip": 0.1}, {"channels_last": True}],
    ids=str,
)
def test_a_run_that_stops_anywhere_resumes_bit_for_bit(tmp_path, facts):
    trainer(tmp_path / "straight", Dropped, save_every=4, **facts).fit()
    stops = (1, 2, 5, 8)  # in the middle of an epoch, at its end, and so on
    make = functools.partial(trainer, tmp_path / "parts", Dropped, save_every=4, **facts)
    judging.fit_in_parts(make, tmp_path / "parts" / "run", stops)
    check_same_run(tmp_path / "parts", tmp_path / "straight")


def test_a_kill_between_checkpoints_costs_the_steps_since(tmp_path, monkeypatch):
    """What was recorded after the checkpoint is recorded again, once."""
    trainer(tmp_path / "straight", save_every=2).fit()
    made = trainer(tmp_path / "killed", save_every=2)
    step = made.optimize_parameters

    def dies(number):
        if number == 6:
            raise KeyboardInterrupt
        step(number)

    made.optimize_parameters = dies
    with pytest.raises(KeyboardInterrupt):
        made.fit()
    assert list(checkpoint.steps(tmp_path / "killed" / "run" / "checkpoints"))[-1] == 4
    with open(tmp_path / "killed" / "run" / "log.jsonl", "a") as file:
        file.write('{"kind": "train", "st')  # cut off
    resumed = trainer(tmp_path / "killed", save_every=2)
    resumed.resume(tmp_path / "killed" / "run" / "checkpoints" / "step-00000004")
    assert resumed.fit()
    check_same_run(tmp_path / "killed", tmp_path / "straight")


def test_sigterm_saves_and_ends(tmp_path):
    made = trainer(tmp_path)
    step, before = made.optimize_parameters, signal.getsignal(signal.SIGTERM)

    def told(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        step(number)

    made.optimize_parameters = told
    assert not made.fit()
    assert list(checkpoint.steps(tmp_path / "run" / "checkpoints")) == [2]
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_during_validation_validates_again(tmp_path):
    trainer(tmp_path / "straight").fit()
    made = trainer(tmp_path / "told")
    made.summary = lambda *_: pytest.fail("validation should have been left")
    test = made.test

    def told():
        os.kill(os.getpid(), signal.SIGTERM)
        test()

    made.test = told
    assert not made.fit()
    assert records(tmp_path / "told", "val") == []
    resumed = trainer(tmp_path / "told")
    resumed.resume(tmp_path / "told" / "run")
    assert (resumed.at.epoch, resumed.at.position) == (0, 3)
    assert resumed.fit()
    check_same_run(tmp_path / "told", tmp_path / "straight")


def test_a_first_validation_that_is_nan_is_no_record(tmp_path):
    made = trainer(tmp_path)
    path, kept = tmp_path / "run" / "best.safetensors", []
    for value in (math.nan, 0.5, math.nan, 0.4, 0.6):
        with torch.no_grad():
            made.objective.network.heads.fill_(len(kept))
        made.keep_best({"2afc": value})
        kept.append(safetensors.torch.load_file(path)["heads"][0].item())
    assert kept == [0, 1, 1, 1, 4]
    assert made.at.best == 0.6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.02}, r"lr: was 0\.01, is 0\.02"),
        ({"seed": 1}, "seed: was 0, is 1"),
        ({"epochs": 9}, "epochs: was 2, is 9"),
        ({"train": judging.Judgments(seed=5)}, "judgments: was"),
    ],
)
def test_resuming_another_run_is_refused(tmp_path, change, named):
    trainer(tmp_path).fit()
    with pytest.raises(CheckpointError, match=named):
        trainer(tmp_path, **change).resume(tmp_path / "run")


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        trainer(tmp_path).resume(tmp_path)


def test_a_loss_that_is_nan_stops_with_the_batch_saved(tmp_path):
    train = judging.Judgments()
    train.images[5, 1, 0, 0, 0] = torch.nan
    made = trainer(tmp_path, train=train)
    start = {k: v.clone() for k, v in made.objective.state_dict().items()}
    made.start_epoch()
    for batch in made.train_loader():
        made.feed_data(batch)
        if not any(t.isnan().any() for t in made.inputs):
            continue
        with pytest.raises(TrainingError, match=r"step 7 is nan, .* nan; its batch is in .*step-00000007-rank-0"):
            made.optimize_parameters(7)
    (path,) = (tmp_path / "run").glob("bad-batch-*.safetensors")
    kept = safetensors.torch.load_file(path)
    assert kept["input1"].isnan().sum() == 1
    with safetensors.safe_open(path, "pt") as file:
        assert "5.png" in json.loads(file.metadata()["img_path"])
    assert all(torch.equal(v, start[k]) for k, v in made.objective.state_dict().items())


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_gradient_that_is_infinite_stops_before_the_step(tmp_path, clip):
    made = trainer(tmp_path, clip=clip, ema=0.9)
    made.start_epoch()
    made.feed_data(next(iter(made.train_loader())))
    start = {k: v.clone() for k, v in made.objective.state_dict().items()}
    made.objective.network.heads.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(TrainingError, match=r"step 1 is 0\.\d+, the norm of its gradients (inf|nan); its batch"):
        made.optimize_parameters(1)
    assert len(list((tmp_path / "run").glob("bad-batch-*.safetensors"))) == 1
    assert all(torch.equal(v, start[k]) for k, v in made.objective.state_dict().items())
    assert (made.at.step, made.ema.updates, made.optimizer.state) == (0, 0, {})


def test_clipped_gradients_have_the_norm_asked_for(tmp_path):
    made = trainer(tmp_path, clip=1e-3)
    made.start_epoch()
    made.feed_data(next(iter(made.train_loader())))
    made.optimize_parameters(1)
    norms = torch.stack([p.grad.norm() for p in made.objective.parameters()])
    assert norms.norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_a_full_disk_leaves_the_run_resumable(tmp_path):
    trainer(tmp_path / "straight", save_every=1).fit()
    made = trainer(tmp_path / "full", save_every=1)
    save = made.save

    def full(epoch, step):
        with files_no_larger_than(2000 if step == 5 else -1):
            return save(epoch, step)

    made.save = full
    with pytest.raises(CheckpointError, match="make room, then resume"):
        made.fit()
    assert list(checkpoint.steps(tmp_path / "full" / "run" / "checkpoints"))[-1] == 4
    resumed = trainer(tmp_path / "full", save_every=1)
    resumed.resume(tmp_path / "full" / "run")
    resumed.fit()
    check_same_run(tmp_path / "full", tmp_path / "straight")


def test_fewer_images_than_a_batch(tmp_path):
    with pytest.raises(InputError, match="has 5 samples, fewer than one batch of 8"):
        trainer(tmp_path, train=judging.Judgments(5))


def test_a_batch_that_cannot_be_split(tmp_path):
    with pytest.raises(InputError, match="batch of 8 cannot be shared evenly by 1 processes in 3 parts"):
        trainer(tmp_path, accumulate=3)


def test_an_empty_subset(tmp_path):
    val = judging.Judgments(4)
    val.subset_names = ("even", "odd", "gone")
    with pytest.raises(InputError, match="the subset gone has no judgment"):
        trainer(tmp_path, val=val).fit()


def test_images_of_two_sizes(tmp_path):
    train = judging.Judgments()
    whole = train.__getitem__
    cut = lambda i: {k: v[:, :5] if i == 3 and k == "ref_img" else v for k, v in whole(i).items()}  # noqa: E731
    train.__class__ = type("Uneven", (judging.Judgments,), {"__getitem__": lambda _, i: cut(i)})
    with pytest.raises(InputError, match=r"of one size, got \[\(3, 5, 8\), \(3, 8, 8\)\]; give --size"):
        trainer(tmp_path, train=train).fit()


@pytest.mark.parametrize("label", [torch.ones(8), torch.ones(8, 1)])
def test_labels_become_a_row(tmp_path, label):
    made = trainer(tmp_path)
    images = torch.rand(3, 8, 3, 8, 8)
    made.feed_data({"ref_img": images[0], "distA_img": images[1], "distB_img": images[2], "mos_label": label})
    assert [list(t.shape) for t in made.inputs] == [[8, 3, 8, 8]] * 3 + [[8]]
    made.test()
    assert made.outputs.shape == (8, 3)


@pytest.mark.parametrize(("change", "message"), [({"mos_label": torch.ones(7)}, "one label for each"), ({}, "needs")])
def test_a_batch_that_is_none(tmp_path, change, message):
    images = torch.rand(8, 3, 8, 8)
    batch = {"ref_img": images, "distA_img": images, "distB_img": images, **change}
    with pytest.raises(InputError, match=message):
        trainer(tmp_path).feed_data(batch)


def test_a_loader_that_repeats_is_refused(tmp_path):
    made = trainer(tmp_path)
    loader = torch.utils.data.DataLoader(made.val_data, sampler=[0, 0, 1])
    with pytest.raises(InputError, match="each sample once"):
        made.validation(loader, 0)


def test_a_sheet_of_what_the_metric_gets_wrong(tmp_path):
    made = trainer(tmp_path)
    wrong = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 0.0, 0.2], *[[0.0, 1.0, 0.0]] * 6])
    made.outputs_of = iter(wrong.split(8))
    made.test = lambda: setattr(made, "outputs", next(made.outputs_of))
    made.validation(made.val_loader(), 7, save_img=True)
    sheet = Image.open(tmp_path / "run" / "images" / "step-00000007.png")
    assert sheet.size == (3 * 128 + 16, 2 * (128 + 8 + 30))
    assert sheet.getpixel((0, 0)) == (40, 170, 80)  # A was preferred


def test_a_sheet_that_cannot_be_written_costs_no_epoch(tmp_path, capsys):
    made = trainer(tmp_path, save_images=True, epochs=1, decay_epochs=0)
    made.objective.network.heads.data.neg_()  # all wrong, so that there is a sheet
    made.optimize_parameters = lambda _: made.at.advance(0.0, 0.0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "images").write_bytes(b"")  # a file where the folder should be
    assert made.fit()
    assert "step-00000003.png could not be written" in capsys.readouterr().err
    assert checkpoint.read(checkpoint.latest(tmp_path / "run"))[1]["epoch"] == 1


def test_the_speed_counts_the_reading_of_data(tmp_path):
    class Slow(judging.Judgments):
        def __getitem__(self, index):
            time.sleep(0.005)
            return super().__getitem__(index)

    trainer(tmp_path, train=Slow(), log_every=1, epochs=1, decay_epochs=0).fit()
    lines = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    speeds = [line["samples/s"] for line in lines if line["kind"] == "train"]
    assert len(speeds) == 3
    assert all(0 < speed < 200 for speed in speeds)


def test_augmentation_and_dropout_rest_in_validation(tmp_path):
    made = trainer(tmp_path, Dropped)
    made.start_epoch()
    assert made.objective.network.dropout.training
    made.feed_data(next(iter(made.val_loader())))
    found = []
    for _ in range(3):
        made.test()
        assert made.objective.network.dropout.training
        found.append(made.outputs)
    assert all(torch.equal(found[0], other) for other in found)


def test_what_is_frozen_stays_in_eval_mode(tmp_path):
    objective = judging.objective()
    objective.network.trunk = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    objective.network.trunk.requires_grad_(False)
    data = judging.Judgments()
    config = judging.config(tmp_path)
    made = BAPPSTrainer(config, judging.spec(), objective, data, data, processes=judging.ALONE)
    before = {k: v.clone() for k, v in objective.network.trunk.state_dict().items()}
    made.fit()
    assert all(torch.equal(v, before[k]) for k, v in objective.network.trunk.state_dict().items())
