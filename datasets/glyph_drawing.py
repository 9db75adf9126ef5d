"""One picture of a character: random font, affine map, colours, shading, blur and noise, all
from one generator.
"""

import numpy as np
from PIL import Image, ImageFilter

from datasets.glyph_characters import Character, drawn, open_font

# drawn at this multiple of the size, then averaged down, for smooth edges
FINER = 4
# least difference of the brightness of ink and ground
CONTRAST = 0.3
LUMINANCE = np.array([0.299, 0.587, 0.114])


def draw(character: Character, size: int, generator: np.random.Generator) -> Image.Image:
    """An RGB picture of the character, size x size."""
    font = character.fonts[generator.integers(len(character.fonts))]
    ink = drawn(chr(character.code), open_font(font, 3 * size))
    ink = _moved(ink, FINER * size, generator).reduce(FINER)
    ink = ink.filter(ImageFilter.GaussianBlur(generator.uniform(0, 0.028) * size))
    cover = np.asarray(ink, np.float32)[:, :, None] / 255  # (size, size, 1)
    ground_colour, ink_colour = _colours(generator)
    ground = ground_colour + _shading(size, generator)  # (size, size, 3)
    picture = ground + cover * (ink_colour + _shading(size, generator) - ground)
    strength = generator.uniform(0, 0.08)
    picture = picture + strength * generator.standard_normal((size, size, 3), dtype=np.float32)
    return Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8))


def _moved(ink: Image.Image, side: int, generator: np.random.Generator) -> Image.Image:
    """The ink on a side x side ground: turned up to 20 degrees, sheared, stretched, scaled so
    that its longer edge takes 55 to 85 % of the ground, and shifted within what is left.
    """
    angle = np.deg2rad(generator.uniform(-20, 20))
    shear = generator.uniform(-0.25, 0.25)
    stretch = np.exp(generator.uniform(-0.2, 0.2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([stretch, 1 / stretch])
    # width and height of the turned box
    extent = np.abs(matrix) @ np.array(ink.size)
    scale = generator.uniform(0.55, 0.85) * side / extent.max()
    # PIL asks where each pixel comes from
    back = np.linalg.inv(scale * matrix)
    centre = side / 2 + generator.uniform(-0.45, 0.45, 2) * (side - scale * extent)
    origin = np.array(ink.size) / 2 - back @ centre
    affine = (*back[0], origin[0], *back[1], origin[1])
    return ink.transform((side, side), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)


def _colours(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ground and ink colour, either may be the brighter; the first of many random pairs with
    enough contrast.
    """
    pairs = generator.uniform(0.05, 0.95, (32, 2, 3))
    is_apart = np.abs((pairs[:, 0] - pairs[:, 1]) @ LUMINANCE) >= CONTRAST
    if not is_apart.any():
        return np.full(3, 0.1), np.full(3, 0.9)
    ground, ink = pairs[is_apart.argmax()]
    return ground, ink


def _shading(size: int, generator: np.random.Generator) -> np.ndarray:
    """A soft random change of colour over the picture, in each channel interpolated between four
    corners.
    """
    corners = generator.uniform(-0.14, 0.14, (3, 2, 2))
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    along = np.stack([1 - ramp, ramp], axis=1)  # (size, 2)
    return (along @ corners @ along.T).transpose(1, 2, 0)  # (size, size, 3)
