"""Copy the colour photographs that come with scikit-image, as a folder for `iqazoo data bapps-like`.

    python demo/make_photos.py demo/images/photos

None of them is downloaded.
"""

import sys
from pathlib import Path

from PIL import Image
from skimage import data

PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)


def main(folder: Path) -> None:
    """Write them all as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(data.__file__).parent
    for name in PHOTOS:
        Image.open(home / name).convert("RGB").save(folder / f"{Path(name).stem}.png", compress_level=1)
    print(f"{len(PHOTOS)} photographs in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python demo/make_photos.py FOLDER")
    main(Path(sys.argv[1]))
