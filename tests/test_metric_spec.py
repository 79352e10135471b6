import pickle

import pytest

from iqazoo import InputError, MetricSpec, Weights

GOOD = {"name": "x", "network": "a.b:C", "kind": "FR", "lower_is_better": True}
SHA = "a" * 64


def test_defaults_and_properties():
    spec = MetricSpec(**GOOD)
    assert (spec.arrow, spec.takes_reference, spec.api) == ("↓", True, 1)
    assert MetricSpec(**{**GOOD, "lower_is_better": False, "kind": "NR"}).arrow == "↑"


def test_it_is_a_value():
    spec = MetricSpec(**GOOD, options={"a": 1})
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(MetricSpec(**GOOD, options={"a": 1}))
    with pytest.raises(AttributeError):
        spec.name = "y"  # type: ignore[misc]


def test_options_are_a_copy():
    options = {"a": 1}
    spec = MetricSpec(**GOOD, options=options)
    options["a"] = 2
    assert spec.options == {"a": 1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Upper"),
        ("name", ""),
        ("name", "a@b"),
        ("network", "no_colon"),
        ("network", 3),
        ("kind", "XR"),
        ("lower_is_better", 1),
        ("options", ["a"]),
        ("weights", [Weights(url="u/f.pth", sha256=SHA, license="MIT")]),
        ("weights", ("file",)),
        ("score_range", (1.0, 0.0)),
        ("channels", ()),
        ("channels", (4,)),
        ("channels", [1, 3]),
        ("score_range", ("~0", "~1")),
        ("score_range", 1.0),
        ("name", "error"),
        ("api", "2"),
        ("api", 0),
        ("min_size", 0),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(InputError, match=f"{field} must"):
        MetricSpec(**{**GOOD, field: value})


def test_weights_take_a_full_hash_or_the_one_in_the_name():
    assert Weights(url="https://x/y/f.pth", sha256=SHA, license="MIT").file_name == "f.pth"
    assert Weights(url="https://x/f.pth?download=1", sha256=SHA, license="MIT").file_name == "f.pth"
    Weights(url="https://x/net-7be5be79.pth", sha256="7be5be79", license="MIT")
    for sha256 in ("7be5be7a", "", "A" * 64, "a" * 63):
        with pytest.raises(InputError, match="64 hex digits"):
            Weights(url="https://x/net-7be5be79.pth", sha256=sha256, license="MIT")


@pytest.mark.parametrize("url", ["https://x/y/", "", "http://[heads.pth"])
def test_a_url_must_name_a_file(url):
    with pytest.raises(InputError, match="name of a file"):
        Weights(url=url, sha256=SHA, license="MIT")
