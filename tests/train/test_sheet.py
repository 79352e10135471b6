"""Which triplets the sheet shows."""

import math

import torch

from iqazoo.train.sheet import worst


def test_the_worst_come_first_and_right_ones_never():
    outputs = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.5]])
    assert worst(outputs, 8) == [2, 1]
    assert worst(outputs, 1) == [2]


def test_nan_takes_up_no_place():
    undefined = [[math.nan, 1.0, 1.0], [0.0, math.nan, 1.0], [math.inf, math.inf, 1.0]]
    outputs = torch.tensor([*undefined, [0.0, 1.0, 1.0], [0.0, math.inf, 1.0]])
    assert worst(outputs, 2) == [4, 3]
    assert worst(outputs[:3], 2) == []
