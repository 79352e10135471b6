import json

import judging
import pytest
import torch
from torch import nn

from iqazoo.errors import InputError
from iqazoo.train import optimization
from iqazoo.train.optimization import MovingAverage, decay, make_optimizer, norm, pack, set_decay, unpack


def test_the_decay_is_that_of_the_recipe(tmp_path):
    config = judging.config(tmp_path, epochs=5, decay_epochs=5)
    factors = [decay(config, epoch) for epoch in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    constant = judging.config(tmp_path, epochs=3, decay_epochs=0)
    assert [decay(constant, epoch) for epoch in range(3)] == [1, 1, 1]


def test_groups_keep_their_proportion(tmp_path):
    class Groups(nn.Linear):
        def param_groups(self):
            return [{"params": [self.weight], "lr": 1.0}, {"params": [self.bias]}]

    optimizer = make_optimizer(judging.config(tmp_path, lr=0.5), Groups(2, 2), [nn.Parameter(torch.zeros(()))])
    assert set_decay(optimizer, 0.5) == 0.5
    assert set_decay(optimizer, 0.1) == pytest.approx(0.1)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1, 0.05, 0.05])


def test_nothing_to_train(tmp_path):
    with pytest.raises(InputError, match="Tiny has no parameter to train"):
        make_optimizer(judging.config(tmp_path), judging.Tiny().requires_grad_(False), [])


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_a_packed_state_goes_on_bit_for_bit(tmp_path, kind):
    config = judging.config(tmp_path, optimizer=kind, weight_decay=0.01)

    def steps(network, optimizer, count):
        for number in range(count):
            optimizer.zero_grad()
            network(torch.full((1, 3), float(number))).square().sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = make_optimizer(config, network, [])
    steps(network, optimizer, 3)
    other = nn.Linear(3, 2)
    other.load_state_dict(network.state_dict())
    resumed = make_optimizer(config, other, [])
    tensors, rest = pack(optimizer)
    unpack(resumed, {k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(rest)))
    for n, o in ((network, optimizer), (other, resumed)):
        steps(n, o, 3)
    assert torch.equal(network.weight, other.weight)
    assert torch.equal(network.bias, other.bias)


def test_the_moving_average():
    network = nn.BatchNorm1d(1)
    average = MovingAverage(network, 0.9)
    values, expected = [1.0, 4.0, -2.0], 1.0
    for number, value in enumerate(values):
        network.weight.data.fill_(value)
        network.running_mean.fill_(value)
        average.update(network)
        kept = min(0.9, (1 + number) / (10 + number))
        expected = kept * expected + (1 - kept) * value
    assert average.module.weight.item() == pytest.approx(expected)
    assert average.module.running_mean.item() == -2
    assert not average.module.weight.requires_grad


def test_what_is_frozen_is_not_averaged():
    network = nn.Linear(1, 1)
    network.weight.requires_grad_(False).fill_(torch.inf)  # whose average with itself would be NaN
    average = MovingAverage(network, 0.9)
    network.bias.data.add_(1)
    before = average.module.bias.clone()
    average.update(network)
    assert average.module.weight.item() == torch.inf
    assert average.module.bias.item() > before.item()


@pytest.mark.parametrize("few", [0, 100])
def test_the_norm_of_all_gradients(monkeypatch, few):
    monkeypatch.setattr(optimization, "FEW", few)
    parts = [torch.tensor([[1.0, 2.0], [2.0, 0.0]]).T, torch.tensor(4.0), torch.zeros(0)]
    assert norm(parts).item() == 5
    for bad in (torch.inf, -torch.inf, torch.nan):
        assert not norm([*parts, torch.tensor([0.0, bad])]).isfinite()
    assert norm([]).item() == 0
