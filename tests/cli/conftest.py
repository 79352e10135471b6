import pytest
import torch


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """Commands run by `main` take the CPU by default, for the values that they are held to are computed there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
