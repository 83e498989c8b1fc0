"""Feature networks, with which `translate evaluate` compares sets of images.

efficientnet    1,280 features of EfficientNet-Lite0, trained on ImageNet: the content of the image
pixels          the image at 8 × 8: colours and rough layout; needs no weights
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import translate

if TYPE_CHECKING:
    from translate.plugins.hooks import RegisterNetwork


@translate.hookimpl
def register_networks(register: RegisterNetwork) -> None:
    """Offer the networks by name. Their modules are imported here, so that `translate --help` does not load torch."""
    from translate_features.efficientnet import efficientnet
    from translate_features.pixels import pixels

    register("efficientnet", efficientnet, role="features")
    register("pixels", pixels, role="features")
