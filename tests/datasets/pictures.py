"""Pictures with fine and coarse detail, as photographs have them, and JPEG files of them."""
import numpy as np
import torch
from PIL import Image


def noise(height, width, seed=0):
    """Independent random pixels, (3, H, W) uint8."""
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)
    )


def smooth(height, width):
    """A colour gradient, (3, H, W) uint8: red to the right, green downwards."""
    y, x = torch.meshgrid(
        torch.linspace(0, 255, height), torch.linspace(0, 255, width), indexing="ij"
    )
    return torch.stack([x, y, (x + y) / 2]).to(torch.uint8)


def textured(height, width, seed=0):
    """Noise at every scale from the whole picture to single pixels, weaker the finer it is, (3,
    H, W) uint8.
    """
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(3, height, width)
    for octave in range(8):
        grid = torch.randn(1, 3, 2 + 2 ** octave, 2 + 2 ** octave, generator=generator)
        total += (
            torch.nn.functional.interpolate(grid, (height, width), mode="bicubic")[0] * 0.65**octave
        )
    return (118 + 55 * total / total.std()).clamp(0, 255).to(torch.uint8)


def save_jpeg(path, image, mode="RGB", quality=92, **kwargs):
    """A JPEG of the image in a mode of PIL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).convert(mode).save(
        path, format="JPEG", quality=quality, **kwargs
    )
    return path
