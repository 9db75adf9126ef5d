"""Backbones: an image goes in, a feature map comes out; pooling and everything after it is the Network's."""
import importlib.util
import urllib.error
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from utilities.errors import RunError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Backbone:
    """A network without its classifier, and how its images are to be prepared.

    trunk maps (B, 3, H, W) to (B, feature_dim, h, w). Its images have sides of `image_size` where nothing else is asked
    for, channels in the order of `channels` (RGB or BGR), and values from 0 to `value_range` before mean and std, which
    are per channel in that order.
    """

    trunk: nn.Module
    feature_dim: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_size: int = 224
    channels: str = "RGB"
    value_range: float = 1.0


class ConvNet(nn.Sequential):
    """Four 3x3 convolutions with batch norm and ReLU, max-pooled by two between them: for small images on a CPU.

    Image (B, 3, H, W), H and W at least 8 -> (B, 8 * width, H / 8, W / 8).
    """

    def __init__(self, width: int = 16):
        channels = [3, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip(channels, channels[1:])):
            layers += [nn.MaxPool2d(2)] if i else []
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.feature_dim = channels[-1]

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, feature_dim, H / 8, W / 8)."""
        return super().forward(image)


def convnet(pretrained: bool) -> Backbone:
    """The small network; there are no pretrained weights for it, so it always starts from random ones."""
    trunk = ConvNet()
    return Backbone(trunk, trunk.feature_dim, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), image_size=32)


def resnet18(pretrained: bool) -> Backbone:
    """ResNet-18 (He 2016) of torchvision."""
    return _resnet("resnet18", pretrained, published_source=False)


def resnet50(pretrained: bool) -> Backbone:
    """ResNet-50 (He 2016) through pretrainedmodels, as the published code; where that package is not installed, the
    same network from torchvision, which pretrainedmodels wraps (same layers, same published weights)."""
    return _resnet("resnet50", pretrained, published_source=importlib.util.find_spec("pretrainedmodels") is not None)


def _resnet(name: str, pretrained: bool, published_source: bool) -> Backbone:
    if published_source:
        import pretrainedmodels

        model = _load(name, lambda: getattr(pretrainedmodels, name)(pretrained="imagenet" if pretrained else None))
    else:
        import torchvision

        model = _load(name, lambda: getattr(torchvision.models, name)(weights="IMAGENET1K_V1" if pretrained else None))
    layers = OrderedDict(item for item in model.named_children() if item[0] not in ("avgpool", "fc", "last_linear"))
    classifier = getattr(model, "last_linear", None) or model.fc
    return Backbone(nn.Sequential(layers), classifier.in_features)


def _load(name: str, build) -> nn.Module:
    """Build a model whose weights may have to be downloaded; a network failure becomes one sentence."""
    try:
        return build()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise RunError(f"The pretrained weights of {name} could not be downloaded ({error}). Connect this machine to "
                       "the internet once, or pass --not_pretrained to start from random weights.") from error
    except RuntimeError as error:
        raise RunError(f"The pretrained weights of {name} could not be loaded ({error}). Delete the damaged file from "
                       "torch's hub cache, or pass --not_pretrained to start from random weights.") from error


BACKBONES = {"convnet": convnet, "resnet18": resnet18, "resnet50": resnet50}
