"""torch's own transforms of a function take each metric: torch.compile, as one graph, and torch.func.vmap."""

import pytest
import torch
from metrics.test_robustness import NAMES, SPECS, channels, create, picture


def pictures(name, count, size, seed=0):
    return torch.cat([picture(channels(name), *size, seed + i) for i in range(count)])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compile_makes_one_graph(name):
    torch.compiler.reset()
    metric = create(name)
    compiled = torch.compile(metric, fullgraph=True, backend="eager")
    for size in ((192, 200), (208, 193)):  # the second time sizes are symbols
        pair = pictures(name, 1, size), pictures(name, 1, size, seed=1)
        given = pair if metric.spec.takes_reference else pair[:1]
        torch.testing.assert_close(compiled(*given), metric(*given), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [spec.name for spec in SPECS])
def test_vmap_gives_the_scores_of_a_batch(name):
    metric = create(name)
    batches = pictures(name, 2, (192, 200)), pictures(name, 2, (192, 200), seed=2)
    given = batches if metric.spec.takes_reference else batches[:1]
    found = torch.func.vmap(lambda *one: metric(*(image[None] for image in one))[0])(*given)
    torch.testing.assert_close(found, metric(*given), rtol=1e-4, atol=1e-5)
