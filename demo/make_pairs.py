"""Make image pairs to score: photographs that come with scikit-image, each distorted in five ways.

    python demo/make_pairs.py demo/images

writes demo/images/reference/*.png and demo/images/distorted/*.png; files of one name belong together.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from skimage import data

PHOTOS = ("astronaut", "chelsea", "coffee")
SIZE = (384, 384)  # photographs are shrunk to fit, so that the demo takes seconds


def jpeg(photo: Image.Image) -> Image.Image:
    """Strong compression: blocks, and colours smeared."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=20)
    return Image.open(file)


def blur(photo: Image.Image) -> Image.Image:
    """Out of focus."""
    return photo.filter(ImageFilter.GaussianBlur(2))


def noise(photo: Image.Image) -> Image.Image:
    """A sensor in the dark. The seed is fixed, so every run makes the same files."""
    pixels = np.asarray(photo) + np.random.default_rng(0).normal(0, 20, (photo.height, photo.width, 3))
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def warm(photo: Image.Image) -> Image.Image:
    """More red, less blue."""
    red, green, blue = photo.split()
    return Image.merge("RGB", (red.point(lambda v: int(v * 1.1)), green, blue.point(lambda v: int(v * 0.85))))


def downsample(photo: Image.Image) -> Image.Image:
    """A thumbnail made large again."""
    small = photo.resize((photo.width // 4, photo.height // 4), Image.Resampling.BICUBIC)
    return small.resize(photo.size, Image.Resampling.BICUBIC)


DISTORTIONS = {"jpeg20": jpeg, "blur2": blur, "noise20": noise, "warm": warm, "down4": downsample}


def main(folder: Path) -> None:
    """Write all pairs under the folder."""
    for name in ("reference", "distorted"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for photo_name in PHOTOS:
        photo = Image.fromarray(getattr(data, photo_name)())
        photo.thumbnail(SIZE)
        for distortion_name, distort in DISTORTIONS.items():
            name = f"{photo_name}_{distortion_name}.png"
            photo.save(folder / "reference" / name)
            distort(photo).save(folder / "distorted" / name)
    print(f"{len(PHOTOS) * len(DISTORTIONS)} pairs in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python demo/make_pairs.py FOLDER")
    main(Path(sys.argv[1]))
