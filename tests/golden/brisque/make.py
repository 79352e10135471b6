"""Makes the regression for which piq's values of brisque are kept, and prints those values.

    PYTHONPATH=.venv/peers:benchmarks:tests python tests/golden/brisque/make.py

piq fetches its own regression from the network. Here it is given this one, in float64, in which its variances, of
squares less a square, have digits left; and luma that is rounded already, since it rounds halves as errors have it. The
kernel's width and the constant are those that are written in piq.
"""

import json
import sys
from pathlib import Path

import golden_data
import numpy as np
import peers
import torch

from iqazoo.metrics.color import to_channels

FOLDER = Path(__file__).parent
VECTORS, GAMMA, RHO = 40, 0.05, -153.591


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Support vectors and coefficients, least and greatest of each feature."""
    rng = np.random.default_rng(0)
    vectors, coefficients = rng.uniform(-1, 1, (VECTORS, 36)), rng.uniform(-100, 100, VECTORS)
    low = np.tile([0.2, 0.0] + 4 * [0.2, -0.2, 0.0, 0.0], 2)
    high = np.tile([4.0, 1.0] + 4 * [2.0, 0.2, 0.8, 0.6], 2)
    return vectors.round(4), coefficients.round(4), low, high


def write(vectors: np.ndarray, coefficients: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """As libsvm's text files, which iqazoo reads."""
    head = f"svm_type epsilon_svr\nkernel_type rbf\ngamma {GAMMA}\nnr_class 2\ntotal_sv {VECTORS}\nrho {RHO}\nSV\n"
    rows = (
        f"{c:g} " + " ".join(f"{i}:{v:g}" for i, v in enumerate(vector, 1))
        for c, vector in zip(coefficients, vectors, strict=True)
    )
    (FOLDER / "allmodel").write_text(head + "\n".join(rows) + "\n")
    ranges = (f"{i} {a:g} {b:g}" for i, (a, b) in enumerate(zip(low, high, strict=True), 1))
    (FOLDER / "allrange").write_text("x\n-1 1\n" + "\n".join(ranges) + "\n")


def values(vectors: np.ndarray, coefficients: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, float]:
    """What piq computes with them."""
    peers.stand_in_for_torchvision()
    import piq  # noqa: F401

    module = sys.modules["piq.brisque"]
    regression = torch.from_numpy(coefficients), torch.from_numpy(vectors)
    module.load_url = lambda *_, **__: tuple(t.clone() for t in regression)  # it transposes what it is given in place
    least, width = torch.from_numpy(low), torch.from_numpy(high - low)
    module._scale_features = lambda features: -1 + 2 * (features - least) / width
    images = {name: to_channels(golden_data.pair(name)[0].double(), "y-8bit") for name in golden_data.NAMES}
    return {name: module.brisque(image).item() for name, image in images.items()}


if __name__ == "__main__":
    made = drawn()
    write(*made)
    print(json.dumps(values(*made), indent=1))
