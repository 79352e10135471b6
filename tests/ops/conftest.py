"""What tests of several files share: the GPU's kernels, compiled for the CPU once."""

import pytest
from cuda_shim import Builder


@pytest.fixture(scope="session")
def builder(tmp_path_factory):
    return Builder(tmp_path_factory.mktemp("cuda_shim"))


@pytest.fixture(scope="session")
def build(builder):
    return builder.build()
