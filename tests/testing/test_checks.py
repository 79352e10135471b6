"""Every check passes a metric that keeps its promises, and refuses one that breaks the promise it asks for."""

import platform

import pytest
from wrong_metrics import WRONG, Hoarding, Right, spec_of

from iqazoo.testing import CHECKS, CheckFailed, parametrize_with_checks
from iqazoo.testing.kit import SLOW, run
from iqazoo.testing.subject import Subject


@parametrize_with_checks([spec_of(Right)])
def test_a_right_metric_passes_all_checks(spec, check):
    check(spec)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(
            wrong, id=f"{wrong.check}-{wrong.network.__name__}", marks=[pytest.mark.slow] * (wrong.check in SLOW)
        )
        for wrong in WRONG
    ],
)
def test_a_wrong_metric_is_refused(wrong):
    subject = Subject(spec_of(wrong.network, **wrong.spec))
    with pytest.raises(CheckFailed, match=wrong.message):
        run(wrong.check, subject)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to give memory back")
def test_growth_that_fits_in_what_the_allocator_keeps_is_seen():
    block = b"." * 2**21
    bytearray(2 * block)  # freeing it makes glibc take blocks of this size from the heap
    blocks = [bytearray(block) for _ in range(150)]
    del blocks[:-1]  # the last one keeps the heap from shrinking
    with pytest.raises(CheckFailed, match="must not take more memory"):
        run("check_memory", Subject(spec_of(Hoarding)))


def test_every_check_can_fail():
    assert {wrong.check for wrong in WRONG} == set(CHECKS)
