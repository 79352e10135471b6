"""The commands that these tests call take the CPU, also where there is a GPU."""

import pytest
import torch

from iqazoo.cli.metrics import usable_device
from iqazoo.train import distributed


@pytest.fixture(scope="module", autouse=True)
def gpu():
    """A GPU, as far as torch knows; fixtures of a module come before those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        yield


def test_the_default_device_is_the_cpu():
    assert usable_device(None) == "cpu"
    assert distributed.join().device.type == "cpu"
