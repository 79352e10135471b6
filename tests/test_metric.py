"""The contract of Metric, on networks small enough to see through."""

import copy
import math
import pickle
from typing import NamedTuple

import pytest
import torch
from torch import nn

from iqazoo import InputError, Metric, MetricSpec, PluginError, create


class Difference(nn.Module):
    """Mean absolute difference times a parameter, with features that count how often they are computed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.computed = 0

    def features(self, image):
        self.computed += len(image)
        return {"a": (self.weight * image,), "b": [image.mean((1, 2, 3))]}

    def distance(self, f_image, f_reference):
        return (f_image["a"][0] - f_reference["a"][0]).abs().mean((1, 2, 3)) + 0 * f_image["b"][0]

    def forward(self, image, reference):
        return self.distance(self.features(image), self.features(reference))

    def map(self, image, reference):
        return (image - reference).abs().mean(1, keepdim=True)


class Mean(nn.Module):
    def forward(self, image):
        return image.mean((1, 2, 3))


def spec(**fields):
    base = {"name": "difference", "network": Difference, "kind": "FR", "lower_is_better": True}
    return MetricSpec(**{**base, "channels": (1, 3), "min_size": 4, "spatial": True, **fields})


@pytest.fixture
def metric():
    return Metric(spec(), Difference())


def images(batch=2, channels=3, height=8, width=6, **kwargs):
    return torch.rand(batch, channels, height, width, **kwargs)


def test_scores_are_one_per_image_in_float32_or_float64(metric):
    x, y = images(), images()
    assert metric(x, y).shape == (2,)
    assert metric(x, y).dtype == torch.float32
    assert metric(x.bfloat16(), y.bfloat16()).dtype == torch.float32
    assert metric(x.double(), y.double()).dtype == torch.float64
    exact = metric.double()(x.double(), y.double())
    torch.testing.assert_close(exact, (x.double() - y.double()).abs().mean((1, 2, 3)), rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", ["vif", "psnr", "ssim", "lpips"])
def test_images_of_two_types_meet_in_the_wider(name):
    metric = create(name, weights=None)
    x, y = images(height=72, width=68), images(height=72, width=68)
    exact = metric(x.double(), y.double())
    assert torch.equal(metric(x.double(), y), exact)
    found = metric(x, y.double())
    assert found.dtype == torch.float32  # the score has the type of the image under test
    assert torch.equal(found, exact.float())
    torch.testing.assert_close(metric(x.half(), y.bfloat16()), metric(x.half().float(), y.bfloat16().float()))


@pytest.mark.parametrize("name", ["psnr", "ssim", "lpips", "lpips-vgg", "lpips-squeeze"])
def test_a_batch_equals_its_images_one_by_one(name):
    metric = create(name, weights=None)
    x, y = images(3, height=48, width=40), images(3, height=48, width=40)
    singles = torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(metric(x, y), singles, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["psnr", "ssim", "lpips"])
def test_strides_do_not_matter(name):
    metric = create(name, weights=None)
    x, y = images(2, height=48, width=40), images(2, height=48, width=40)
    odd = [t.to(memory_format=torch.channels_last) for t in (x, y)]
    flipped = [t.flip(-1).flip(-1).transpose(2, 3).contiguous().transpose(2, 3) for t in (x, y)]
    torch.testing.assert_close(metric(*odd), metric(x, y), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(metric(*flipped), metric(x, y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("low_is_better", "score_range", "expected"),
    [
        (True, (0.0, math.inf), lambda s: s),
        (True, (0.0, 2.0), lambda s: s),
        (False, (-1.0, 1.0), lambda s: 1 - s),
        (False, (0.0, math.inf), lambda s: -s),
    ],
)
def test_loss_is_to_be_minimised(low_is_better, score_range, expected):
    metric = Metric(spec(lower_is_better=low_is_better, score_range=score_range), Difference())
    x, y = images(), images()
    torch.testing.assert_close(metric.loss(x, y, reduction="none"), expected(metric(x, y)))
    torch.testing.assert_close(metric.loss(x, y), expected(metric(x, y)).mean())
    bound = metric.with_reference(y)
    torch.testing.assert_close(bound.loss(x, reduction="none"), expected(metric(x, y)))
    with pytest.raises(InputError, match="reduction"):
        metric.loss(x, y, reduction="sum")  # type: ignore[arg-type]


def test_parameters_are_frozen_and_the_image_has_a_gradient(metric):
    x = images().requires_grad_()
    metric.loss(x, images()).backward()
    assert x.grad.abs().sum() > 0
    assert metric.network.weight.grad is None


def test_it_stays_in_eval_mode_inside_a_model_that_trains(metric):
    model = nn.Sequential(nn.Dropout(), metric)
    model.train()
    assert model[0].training
    assert not any(m.training for m in metric.modules())


def test_with_reference_computes_the_reference_once(metric):
    x, y = images(5), images(1)
    bound = metric.with_reference(y)
    assert metric.network.computed == 1
    for _ in range(3):
        torch.testing.assert_close(bound(x), metric.network.distance(*map(metric.network.features, (x, y))))
    assert metric.network.computed == 1 + 3 * (5 + 5 + 1)
    assert bound.map(x).shape == (5, 1, 8, 6)


def test_with_reference_takes_a_batch_of_one_or_of_the_images(metric):
    x = images(3)
    assert metric.with_reference(images(3))(x).shape == (3,)
    with pytest.raises(InputError, match="one shape"):
        metric.with_reference(images(2))(x)
    with pytest.raises(InputError, match="one shape"):
        metric.with_reference(images(1, height=9))(x)
    with pytest.raises(InputError, match="empty"):
        metric.with_reference(images(0))


class Pair(NamedTuple):
    first: torch.Tensor
    second: tuple[torch.Tensor, ...]


@pytest.mark.parametrize("batch", [1, 3])
def test_features_keep_their_structure(batch):
    class Named(Difference):
        def features(self, image):
            return Pair(image, (image, image))

        def distance(self, f_image, f_reference):
            assert type(f_reference.second) is tuple
            return (f_image.first - f_reference.first).abs().mean((1, 2, 3))

    x, y = images(3), images(batch)
    metric = Metric(spec(), Named())
    torch.testing.assert_close(metric.with_reference(y)(x), (x - y).abs().mean((1, 2, 3)))


@pytest.mark.parametrize("result", [lambda s: s[:, None], lambda s: s.mean(), lambda s: s.tolist(), lambda s: None])
def test_a_network_that_gives_no_vector_is_a_plugin_error(result):
    class Wrong(Difference):
        def distance(self, f_image, f_reference):
            return result(super().distance(f_image, f_reference))

    metric = Metric(spec(), Wrong())
    x = images()
    for call in (lambda: metric(x, x), lambda: metric.with_reference(x)(x), lambda: metric.loss(x, x)):
        with pytest.raises(PluginError, match=r"one score per image, \[2\]"):
            call()


def test_the_check_of_values_heeds_the_data_range():
    metric = create("psnr", data_range=255.0)
    x, y = images() * 255, images() * 255
    metric(x, y, check=True)
    with pytest.raises(InputError, match=r"\[0, 255\]"):
        metric(2 * x, y + 255, check=True)


def test_with_reference_works_for_networks_without_features():
    metric = create("psnr")
    x, y = images(3), images(1)
    torch.testing.assert_close(metric.with_reference(y)(x), metric(x, y.expand_as(x)))


@pytest.mark.parametrize("name", ["psnr", "ssim", "lpips"])
def test_with_reference_has_a_reference_of_its_own(name):
    metric = create(name, weights=None)
    x, y = images(3, height=48, width=40), images(1, height=48, width=40)
    bound = metric.with_reference(y)
    before = bound(x)
    y.zero_()
    assert torch.equal(bound(x), before)


def test_a_reference_of_inference_mode_serves_gradients_later():
    with torch.inference_mode():
        bound = create("ssim").with_reference(images(1, height=48, width=40))
    x = images(2, height=48, width=40).requires_grad_()
    bound.loss(x).backward()
    assert x.grad.abs().sum() > 0


def test_with_reference_takes_images_of_another_type():
    class Plain(Difference):
        """Computes in the images' type, and insists on one."""

        def __init__(self):
            super().__init__()
            del self.weight

        def features(self, image):
            return image

        def distance(self, f_image, f_reference):
            assert f_image.dtype == f_reference.dtype
            return (f_image - f_reference).abs().mean((1, 2, 3))

    metric = Metric(spec(), Plain())
    x, y = images(3), images(1)
    assert torch.equal(metric.with_reference(y)(x.double()), metric(x.double(), y.expand_as(x)))
    assert torch.equal(metric.with_reference(y.double())(x), metric(x, y.double().expand_as(x)))


def test_with_reference_keeps_no_graph_of_the_reference(metric):
    y = images(1).requires_grad_()
    x = images(2).requires_grad_()
    metric.with_reference(y).loss(x).backward()
    assert y.grad is None
    assert x.grad is not None


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(2, 3, 8, 8), None, "compares with a reference"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 9), "one shape"),
        (torch.rand(2, 3, 8, 8), torch.rand(1, 3, 8, 8), "with_reference"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8), "one shape"),
        (torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8), "drop alpha"),
        (torch.rand(2, 8, 8, 3), torch.rand(2, 8, 8, 3), "order is"),
        (torch.rand(2, 3, 3, 8), torch.rand(2, 3, 3, 8), "at least 4 x 4"),
        (torch.randint(255, (2, 3, 8, 8)), torch.rand(2, 3, 8, 8), r"x.float\(\) / 255"),
        (torch.rand(0, 3, 8, 8), torch.rand(0, 3, 8, 8), "empty batch"),
        (torch.rand(3, 8, 8), torch.rand(3, 8, 8), r"x\[None\]"),
        ([1, 2], torch.rand(2, 3, 8, 8), "got list"),
    ],
)
def test_what_is_refused_says_what_to_do(metric, x, y, message):
    with pytest.raises(InputError, match=message):
        metric(x, y)
    if y is not None:
        with pytest.raises(InputError, match=message):
            metric.map(x, y)


def test_a_device_mismatch_is_an_input_error(metric):
    with pytest.raises(InputError, match="is on cpu, image on meta"):
        metric(images(device="meta"), images(device="meta"))


def test_a_device_mismatch_is_seen_without_parameters_too():
    metric = create("niqe", weights=None).to("meta")
    assert not list(metric.parameters())
    with pytest.raises(InputError, match="niqe is on meta, image on cpu"):
        metric(images(height=256, width=256))


@pytest.mark.parametrize(("bad", "shown"), [(1.5, "1.5"), (-0.1, "-0.1"), (math.nan, "nan"), (math.inf, "inf")])
def test_values_are_checked_on_request_only(metric, bad, shown):
    x, y = images(), images()
    y[0, 0, 0, 0] = bad
    metric(x, y)
    metric(x.clamp(0, 1), x, check=True)
    with pytest.raises(InputError, match=f"reference must lie in .*{shown}"):
        metric(x, y, check=True)


def test_a_no_reference_metric_takes_the_image_alone():
    metric = Metric(spec(name="mean", network=Mean, kind="NR", spatial=False), Mean())
    x = images()
    torch.testing.assert_close(metric(x), x.mean((1, 2, 3)))
    torch.testing.assert_close(metric.loss(x), x.mean())
    for call in (lambda: metric(x, x), lambda: metric.with_reference(x)):
        with pytest.raises(InputError, match="judges an image alone"):
            call()
    with pytest.raises(InputError, match="no map"):
        metric.map(x)


def test_copies_and_pickles_score_alike(metric):
    x, y = images(), images()
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        torch.testing.assert_close(twin(x, y), metric(x, y))
        assert twin.spec.name == metric.spec.name


@pytest.mark.parametrize("name", ["psnr", "ssim", "lpips"])
def test_deep_copy_and_pickle_of_the_cores_metrics(name):
    metric = create(name, weights=None)
    x, y = images(1, height=48, width=48), images(1, height=48, width=48)
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert torch.equal(twin(x, y), metric(x, y))


@pytest.mark.parametrize("name", ["psnr", "ssim", "lpips"])
def test_scoring_changes_no_global_state(name):
    def state():
        flags = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
        return [*torch.get_rng_state().tolist(), *flags]

    metric = create(name, weights=None)
    x, y = images(1, height=48, width=48), images(1, height=48, width=48)
    before = state()
    metric(x.requires_grad_(), y)
    metric.loss(x, y).backward()
    assert state() == before
