"""A small network for small images on a CPU."""
from itertools import pairwise

from torch import nn

from architectures.backbones.base import Backbone


class ConvNet(nn.Sequential):
    """Four 3x3 convolutions with batch norm and ReLU, max-pooled by two between them.

    Image (B, 3, H, W), H and W at least 8 -> (B, 8 * width, H / 8, W / 8).
    """

    def __init__(self, width: int = 16):
        channels = [3, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        super().__init__(*layers[:-1])
        self.feature_dim = channels[-1]


def convnet() -> Backbone:
    """Four convolutions for small images on a CPU; there are no pretrained weights for it."""
    trunk = ConvNet()
    half = (0.5, 0.5, 0.5)
    return Backbone(trunk, trunk.feature_dim, mean=half, std=half, image_size=32)
