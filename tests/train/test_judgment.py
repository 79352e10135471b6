from typing import NamedTuple

import judging
import pytest
import torch
from torch import nn

from iqazoo.train.judgment import Judgment, triplet_scores
from iqazoo.train.losses import make_loss


def triplet(batch=3, size=8):
    return torch.rand(3, batch, 3, size, size, generator=torch.Generator().manual_seed(1)).unbind()


class Nested(judging.Tiny):
    """Features as a mapping with a tuple, a named tuple and a list in it."""

    class Pair(NamedTuple):
        first: torch.Tensor
        second: list

    def features(self, image):
        f = self.trunk(image)
        return {"a": (f, f), "b": self.Pair(f, [f])}

    def distance(self, f_image, f_reference):
        assert type(f_image["b"]) is self.Pair
        return super().distance(f_image["b"].second[0], f_reference["a"][1])


@pytest.mark.parametrize("network", [judging.Tiny, judging.Plain, Nested])
def test_scores_are_those_of_two_calls(network):
    made = network()
    reference, a, b = triplet()
    scores = triplet_scores(made, reference, a, b)
    torch.testing.assert_close(scores, (made(a, reference), made(b, reference)))


def test_a_triplet_goes_through_the_trunk_once_together():
    network = judging.Tiny()
    sizes = []
    network.trunk.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    triplet_scores(network, *triplet())
    assert sizes == [9]


def test_a_metric_without_reference():
    spec = judging.spec(judging.Blind, kind="NR")
    judgment = Judgment(spec, judging.Blind(), make_loss("bce", spec))
    reference, a, b = triplet()
    verdict = judgment(reference, a, b, torch.tensor([0.0, 1.0, 0.5]))
    torch.testing.assert_close(verdict.d_a, judgment.network(a).detach())
    verdict.loss.backward()
    assert judgment.network.filter.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", ["bce", "mse", "margin", "calibrated"])
def test_a_metric_and_its_negation_learn_the_same(loss):
    verdicts = []
    for network in (judging.Tiny, judging.Similar):
        judgment = judging.objective(network, loss)
        verdict = judgment(*triplet(), torch.tensor([0.0, 1.0, 0.5]))
        verdict.loss.backward()
        gradients = [p.grad for p in judgment.parameters()]
        verdicts.append((*verdict, *gradients))
    torch.testing.assert_close(verdicts[0], verdicts[1])
    assert verdicts[0][0] > 0


def test_the_preferred_image_is_the_one_that_is_closer():
    judgment = judging.objective(loss="bce")
    reference, a, _ = triplet()
    assert judgment(reference, a, reference, torch.ones(3)).agreement == 1  # B is the reference itself
    assert judgment(reference, reference, a, torch.ones(3)).agreement == 0
    assert judgment(reference, a, a, torch.ones(3)).agreement == 0.5


def test_half_scores_are_judged_in_float32():
    class Half(nn.Module):
        def forward(self, image, reference):
            return (image - reference).mean((1, 2, 3)).half()

    spec = judging.spec(Half)
    verdict = Judgment(spec, Half(), make_loss("margin", spec))(*triplet(), torch.zeros(3))
    assert verdict.d_a.dtype == verdict.loss.dtype == torch.float32
