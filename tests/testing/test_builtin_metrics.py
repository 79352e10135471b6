"""Every metric of this package passes the kit that it gives to authors."""

import pytest

from iqazoo import registry
from iqazoo.testing import parametrize_with_checks

pytestmark = pytest.mark.slow
DECLARED: dict[str, dict[str, str]] = {}
"""What a metric cannot promise: metric -> check -> why."""

core = [entry.spec() for entry in registry.entries() if entry.is_core]
SAME_CODE = {"brisque", "fsimc", "iw_ssim", "lpips-squeeze", "lpips-vgg", "ms_gmsd", "ms_gmsdc", "vif"}
"""Of niqe, fsim, nlpd, lpips, gmsd and vifp: what compilers say of those they would say of these; they take long."""


@parametrize_with_checks([spec for spec in core if spec.name not in SAME_CODE], expected_failed_checks=DECLARED)
def test_it_keeps_its_promises(spec, check):
    check(spec)


@parametrize_with_checks([spec for spec in core if spec.name in SAME_CODE], leave_out=["check_compile", "check_export"])
def test_so_do_others_of_its_family(spec, check):
    check(spec)


def test_the_families_are_there():
    assert {spec.name for spec in core} > SAME_CODE
