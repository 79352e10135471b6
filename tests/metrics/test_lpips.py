import copy
import dataclasses
import hashlib

import golden_data
import pytest
import torch
import torch.nn.functional as F

from iqazoo import InputError, state_dict
from iqazoo.factory import create
from iqazoo.metric import Metric
from iqazoo.metrics.lpips import LPIPS, channel_distance
from iqazoo.nets.trunks import TRUNKS
from iqazoo.registry import spec

NETS = {"alex": "lpips", "vgg": "lpips-vgg", "squeeze": "lpips-squeeze"}


@pytest.fixture(scope="module")
def golden():
    """Make the metric with the stated trunk weights and the published heads."""
    made = {}

    def get(trunk):
        if trunk not in made:
            heads = golden_data.published_heads(trunk)
            if heads is None:
                pytest.skip("the published heads come with `pip install --no-deps lpips==0.1.4`, as make test does")
            network = LPIPS(trunk)
            golden_data.fill_trunk(network.trunk)
            network.heads.load_state_dict(state_dict.read_state_dict(heads))
            made[trunk] = Metric(spec(NETS[trunk]), network)
        return made[trunk]

    return get


@pytest.mark.parametrize("name", golden_data.NAMES)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_golden(golden, trunk, name):
    score = golden(trunk)(*golden_data.pair(name)).item()
    assert score == pytest.approx(golden_data.value(f"lpips-0.1.4:{trunk}", name), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_with_reference_gives_the_same_scores_without_another_pass_over_the_reference(golden, trunk, batch):
    metric = golden(trunk)
    images, reference = torch.rand(3, 3, 40, 48), torch.rand(batch, 3, 40, 48)
    expected = metric(images, reference.expand_as(images))
    bound = metric.with_reference(reference)
    sizes = []
    hook = metric.network.trunk.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    scores = bound(images)
    hook.remove()
    assert sizes == [3]  # the images alone
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(bound.loss(images), scores.mean())
    assert bound.map(images).shape == (3, 1, 40, 48)


def test_a_pair_takes_one_trunk_pass_unless_only_one_needs_a_gradient(golden, monkeypatch):
    metric = golden("alex")
    sizes = []
    hook = metric.network.trunk.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    image, reference = torch.rand(2, 2, 3, 40, 48)
    together = metric(image, reference)
    assert sizes == [4]
    apart = metric(image.requires_grad_(), reference)
    assert sizes == [4, 2, 2]
    hook.remove()
    torch.testing.assert_close(together, apart.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_vmap_gives_the_scores_of_a_batch(golden, trunk):
    metric, (x, y) = golden(trunk), torch.rand(2, 2, 3, 64, 64)
    found = torch.func.vmap(lambda a, b: metric(a[None], b[None])[0])(x, y)
    torch.testing.assert_close(found, metric(x, y), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_identical_images_score_zero_with_a_finite_gradient(golden, trunk):
    reference = torch.rand(1, 3, 64, 64)
    image = reference.clone().requires_grad_()
    score = golden(trunk)(image, reference)
    score.backward()
    assert score.item() == 0
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_specs_hashes_are_those_of_the_published_heads(golden, trunk):
    golden(trunk)  # skips without the wheel
    promised = spec(NETS[trunk]).weights[1].sha256
    assert hashlib.sha256(golden_data.published_heads(trunk).read_bytes()).hexdigest() == promised


@pytest.mark.parametrize("trunk", TRUNKS)
def test_files_like_the_published_ones_fill_the_network(golden, trunk, tmp_path):
    """A trunk's file carries its classifier too, and the heads' file names its parameters "lin0.model.1.weight"."""
    metric = golden(trunk)
    trunk_file = {**metric.network.trunk.state_dict(), "classifier.1.weight": torch.rand(2, 2)}
    files = []
    for published, state in zip(metric.spec.weights, (trunk_file, metric.network.heads.state_dict()), strict=True):
        path = tmp_path / f"{published.prefix}.pth"
        torch.save(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(dataclasses.replace(published, url=path.as_uri(), sha256=digest))
    network = LPIPS(trunk).eval()
    state_dict.fill(network, files)
    pair = golden_data.pair("astronaut_contrast")
    assert torch.equal(network(*pair), metric(*pair))


def test_zero_features_have_zero_gradient():
    zero = torch.zeros(1, 4, 2, 2, requires_grad=True)
    other = torch.rand(1, 4, 2, 2, requires_grad=True)
    channel_distance(zero, other).sum().backward()
    assert zero.grad.eq(0).all()
    assert other.grad.isfinite().all()


def test_gray_is_scored_as_three_equal_channels(golden):
    image, reference = torch.rand(2, 1, 1, 40, 40)
    metric = golden("squeeze")
    wide = metric(image.expand(-1, 3, -1, -1), reference.expand(-1, 3, -1, -1))
    torch.testing.assert_close(metric(image, reference), wide, rtol=1e-5, atol=1e-7)


def test_map_is_the_sum_of_the_layers_enlarged(golden):
    metric = golden("alex")
    image, reference = torch.rand(2, 2, 3, 48, 64)
    network = metric.network
    layers = zip(network.heads.values(), network.features(image), network.features(reference), strict=True)
    expected = sum(F.interpolate(h(channel_distance(a, b)), (48, 64), mode="bilinear") for h, a, b in layers)
    torch.testing.assert_close(metric.map(image, reference), expected)


@pytest.mark.parametrize("name", NETS.values())
def test_the_declared_least_size_is_the_least(name):
    metric = create(name, weights=None)
    least = metric.spec.min_size
    metric(*torch.rand(2, 1, 3, least, least))
    with pytest.raises((RuntimeError, ValueError)):
        metric.network(*torch.rand(2, 1, 3, least - 1, least - 1))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_gradcheck(golden, trunk):
    """Fast mode: along random directions, as a finite difference for each pixel would take minutes."""
    metric = copy.deepcopy(golden(trunk)).double()
    least = metric.spec.min_size
    generator = torch.Generator().manual_seed(0)
    pair = torch.rand(2, 1, 3, least, least, dtype=torch.float64, generator=generator)
    # A step so small that no ReLU and no maximum changes sides.
    inputs = [t.requires_grad_() for t in pair.unbind()]
    assert torch.autograd.gradcheck(metric, inputs, eps=1e-8, atol=1e-7, fast_mode=True)


def test_constrain_keeps_the_heads_non_negative_and_the_trunk_as_it_is():
    network = LPIPS("squeeze")
    before = {k: v.clone() for k, v in network.trunk.state_dict().items()}
    network.constrain_()
    assert all(w.ge(0).all() for w in network.heads.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.trunk.state_dict().items())


def test_an_unknown_trunk_is_refused():
    with pytest.raises(InputError, match="'alex', 'vgg', 'squeeze'"):
        LPIPS("resnet")  # type: ignore[arg-type]
