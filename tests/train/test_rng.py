import random

import numpy as np
import pytest
import torch

from iqazoo.train import rng

CPU = torch.device("cpu")


def draw():
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal(), torch.rand(3).tolist()]


@pytest.mark.parametrize("before", [0, 1], ids=["fresh", "with a second Gaussian in store"])
def test_restore_undoes_draws(before):
    rng.seed_all(3)
    for _ in range(before):
        random.gauss(0, 1)
        np.random.normal()
    kept = rng.states(CPU)
    first = draw()
    assert draw() != first
    rng.restore(kept, CPU)
    assert draw() == first


def test_seeds_and_ranks_give_numbers_of_their_own():
    seen = []
    for seed, rank in ((0, 0), (0, 1), (1, 0), (0, 0)):
        rng.seed_all(seed, rank)
        seen.append(draw())
    assert seen[0] == seen[3]
    for place in range(len(seen[0])):
        assert len({str(draws[place]) for draws in seen}) == 3
