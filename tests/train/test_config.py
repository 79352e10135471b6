from pathlib import Path

import judging
import pytest

from iqazoo.errors import CheckpointError, InputError
from iqazoo.train.config import FREE, check_same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be 1 or more; got 0"),
        ({"accumulate": 0}, "accumulate must be"),
        ({"epochs": 0, "decay_epochs": 0}, "epochs must be 1 or more where"),
        ({"epochs": -1}, "epochs must be 0 or more"),
        ({"size": -1}, "size must be"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"ema": 1.0}, "ema must be between"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"betas": (2.0, 3.0)}, r"betas must be at least 0 and below 1, both; got \(2\.0, 3\.0\)"),
        ({"betas": (0.5, 1.0)}, "betas must be"),
        ({"margin": -1.0}, r"margin must be 0 or more; got -1\.0"),
        ({"margin": float("nan")}, "margin must be"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
        ({"variant": "scratch", "weights": "a.pt"}, "starts from random numbers, not from a.pt; drop one"),
        ({"cache_features": True, "augment": True}, "--augment changes images; drop one"),
        ({"cache_features": True, "dropout": 0.5}, "nothing can be dropped"),
    ],
)
def test_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        judging.config(tmp_path, **change)


def test_the_defaults_are_lpips_recipe():
    config = judging.TrainConfig(name="lpips", data=Path("bapps"))
    assert (config.lr, config.betas, config.batch_size, config.size) == (1e-4, (0.5, 0.999), 50, 64)
    assert (config.epochs, config.decay_epochs, config.total_epochs) == (5, 5, 10)
    assert config.folder == Path("runs/lpips")


def test_check_same_names_what_differs_and_only_what_matters(tmp_path):
    saved = judging.config(tmp_path).to_json()
    moved = judging.config(tmp_path, out=tmp_path / "elsewhere", device="cuda:1", workers=3, keep=9, log_every=7)
    check_same(saved, moved.to_json(), tmp_path)
    with pytest.raises(CheckpointError, match=r"of another run: lr: was 0\.01, is 0\.5; seed: was 0, is 3\. Resume"):
        check_same(saved, judging.config(tmp_path, lr=0.5, seed=3).to_json(), tmp_path)
    assert set(saved) >= FREE
