"""A plugin with models small enough to know the answer of."""

from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import nn

import translate
from translate import Discriminators, Generators


class TinyConfig(translate.ModelConfig):
    """One option, so that there is something to write down."""

    gain: float = -1.0

    @classmethod
    def upgrade(cls, values, version):
        """An older version called it `factor`."""
        if "factor" in values:
            values["gain"] = values.pop("factor")
        return values


class Tiny(translate.Model[TinyConfig]):
    """A 1×1 convolution that starts as `gain` × identity; from b to a it is undone."""

    data = translate.Unpaired("a", "b")
    routes = MappingProxyType({"b": "a", "a": "b"})

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Conv2d(spec.a.channels, spec.b.channels, 1)
        self.judge = nn.Conv2d(spec.b.channels, 1, 1)
        nn.init.dirac_(self.net.weight)
        with torch.no_grad():
            self.net.weight.mul_(config.gain)
            self.net.bias.zero_()

    def players(self):
        yield Generators([self.net], loss=dict)
        yield Discriminators([self.judge], loss=dict)

    def translate(self, images, *, to, style=None):
        return self.net(images) if to == "b" else images


class Invert(Tiny):
    """White becomes black."""

    name = "invert"


class Blocks(Tiny):
    """Fails on sides that are no multiples of 4."""

    name = "blocks"

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net.stride = 4  # on the network itself: the attribute that the engine reads

    def translate(self, images, *, to, style=None):
        blocks = F.pixel_shuffle(F.pixel_unshuffle(images, 4), 4)
        return F.conv2d(blocks, self.net.weight, self.net.bias)


class Noisy(Tiny):
    """Batch statistics and noise, as Pix2Pix has them when it translates."""

    name = "noisy"
    couples_batch = True
    inference_mode = "train"

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.norm = nn.BatchNorm2d(spec.b.channels)

    def translate(self, images, *, to, style=None):
        return self.norm(F.dropout(self.net(images), 0.5, self.training)) / 4


class Broken(Tiny):
    """Refuses images that are wholly white."""

    name = "broken"

    def translate(self, images, *, to, style=None):
        if (images.flatten(1).amin(1) == 1).any():
            raise RuntimeError("too bright")
        return self.net(images)


class Tied(Tiny):
    """The network has a second name."""

    name = "tied"

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.twin = self.net


@translate.hookimpl
def register_models(register):
    for model in (Invert, Blocks, Noisy, Broken, Tied):
        register(model)
