"""Options of a step, each against the step without it."""

import copy

import judging
import pytest
import torch

from iqazoo import state_dict
from iqazoo.train.bapps import BAPPSTrainer


def steps(folder, count=3, network=judging.Tiny, made_objective=None, **facts):
    """The trainer after some steps."""
    objective = made_objective or judging.objective(network)
    data = judging.Judgments()
    made = BAPPSTrainer(
        judging.config(folder, **facts), judging.spec(network), objective, data, data, processes=judging.ALONE
    )
    made.start_epoch()
    for batch in list(made.train_loader())[:count]:
        made.feed_data(batch)
        made.optimize_parameters(made.at.step + 1)
    return made


def parameters(made):
    return [p.detach() for p in made.objective.parameters()]


@pytest.mark.parametrize("facts", [{"accumulate": 2}, {"accumulate": 8}, {"channels_last": True}, {"workers": 1}])
def test_the_same_step_done_otherwise(tmp_path, facts):
    plain, other = (steps(tmp_path, optimizer="sgd", **more) for more in ({}, facts))
    torch.testing.assert_close(parameters(plain), parameters(other), rtol=1e-4, atol=1e-6)
    assert plain.at.loss == pytest.approx(other.at.loss, rel=1e-5)
    assert plain.at.agreement == other.at.agreement


@pytest.mark.parametrize("loss", ["bce", "calibrated"])
@pytest.mark.parametrize("accumulate", [2, 8])
def test_parts_bound_what_is_scored_at_once_and_change_no_result(tmp_path, loss, accumulate):
    found = []
    for parts in (1, accumulate):
        objective = judging.objective(loss=loss)
        seen = []
        objective.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(len(given[-1])))
        config, data = judging.config(tmp_path, accumulate=parts), judging.Judgments()
        made = BAPPSTrainer(config, judging.spec(), objective, data, data, processes=judging.ALONE)
        made.prepare()
        assert bool(seen) == (loss == "bce"), "the other loss has nothing to set"
        result = made.validation(made.val_loader(), 0)
        assert max(seen) == 8 // parts
        found.append((result, parameters(made)))
    assert found[0][0] == pytest.approx(found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
    if loss == "bce":
        assert objective.loss.log_scale.item() != 0


def test_channels_last_reaches_the_network(tmp_path):
    objective = judging.objective()
    seen = []
    objective.network.trunk.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    steps(tmp_path, 1, made_objective=objective, channels_last=True)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


def test_bf16_reaches_the_network_and_not_the_loss(tmp_path):
    objective = judging.objective()
    seen = []
    objective.network.trunk.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
    objective.loss.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    made = steps(tmp_path, 1, made_objective=objective, bf16=True)
    assert seen == [torch.bfloat16, torch.float32]
    plain = steps(tmp_path, 1)
    assert made.at.loss != plain.at.loss
    assert made.at.loss == pytest.approx(plain.at.loss, rel=0.02)
    assert {p.dtype for p in parameters(made)} == {torch.float32}


def test_clip_bounds_the_step(tmp_path):
    start = parameters(steps(tmp_path, 0))
    for clip in (1e-3, 1e-4):
        made = steps(tmp_path, 1, clip=clip, optimizer="sgd", lr=1.0, betas=(0.0, 0.0))
        moved = torch.cat([(a - b).flatten() for a, b in zip(parameters(made), start, strict=True)])
        assert moved.norm().item() == pytest.approx(clip, rel=0.02)


def test_ema_is_what_is_validated_and_exported(tmp_path):
    made = steps(tmp_path, ema=0.5)
    expected, live = made.ema.module, made.objective
    assert any(not torch.equal(a, b) for a, b in zip(expected.parameters(), live.parameters(), strict=True))
    made.feed_data(next(iter(made.val_loader())))
    made.test()
    reference, a, _, _ = made.inputs
    torch.testing.assert_close(made.outputs[:, 0].float(), expected.network(a, reference))
    made.keep_best({"2afc": 1.0})
    other = copy.deepcopy(live.network)
    state_dict.load(tmp_path / "run" / "best.safetensors", other)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), expected.network.parameters(), strict=True))


@pytest.mark.slow
def test_compile(tmp_path):
    plain, compiled = (steps(tmp_path, optimizer="sgd", compile=way) for way in (False, True))
    torch.testing.assert_close(parameters(plain), parameters(compiled), rtol=1e-4, atol=1e-6)
    assert list(plain.objective.state_dict()) == list(compiled.objective.state_dict())
    compiled.feed_data(next(iter(compiled.val_loader())))
    compiled.test()
    assert compiled.outputs.isfinite().all()
