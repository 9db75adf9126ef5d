"""What several tests of training start from."""
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight classes of six noisy images."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for label in range(8):
        (root / f"class{label}").mkdir()
        for i in range(6):
            colour = 30 * label + random.normal(0, 30, (20, 20, 3))
            pixels = colour.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"class{label}" / f"{i}.png")
    return root
