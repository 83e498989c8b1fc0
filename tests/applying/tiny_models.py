"""A plugin with models small enough to know the answer of."""

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
    routes = (("a", "b"), ("b", "a"))

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Conv2d(spec.a.channels, spec.b.channels, 1)
        self.discriminator = nn.Conv2d(spec.b.channels, 1, 1)
        nn.init.dirac_(self.net.weight)
        with torch.no_grad():
            self.net.weight.mul_(config.gain)
            self.net.bias.zero_()

    def players(self):
        yield Generators([self.net], loss=dict)
        yield Discriminators([self.discriminator], loss=dict)

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


class Splash(translate.Model[TinyConfig]):
    """Four random numbers and a class become an image; batch statistics and dropout must be off when it is used."""

    name = "splash"
    data = translate.Labelled("images", optional=True)
    couples_batch = True

    def __init__(self, config, spec):
        super().__init__(config, spec)
        channels, size, classes = spec.images.channels, spec.images.size, len(spec.images.classes)
        self.net = nn.Sequential(nn.Linear(4 + classes, channels * 16), nn.BatchNorm1d(channels * 16), nn.Dropout(0.5))
        self.grow = nn.Sequential(nn.Unflatten(1, (channels, 4, 4)), nn.Upsample((size, size), mode="bicubic"))

    def players(self):
        yield Generators([self.net], loss=dict)

    def latents(self, n):
        return torch.randn(n, 4, device=self.progress.device)

    def sample(self, latents, labels=None):
        if labels is not None:
            latents = torch.cat([latents, 3 * F.one_hot(labels, len(self.spec.images.classes))], 1)
        return self.grow(self.net(latents)) * -self.config.gain


class Discs(translate.Model[TinyConfig]):
    """A disc, which the two coarse styles place and the two fine ones colour; a class shifts all of them."""

    name = "discs"
    data = translate.Labelled("images", optional=True)

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.mapping = nn.Linear(4, 4)
        self.classes = nn.Embedding(max(1, len(spec.images.classes)), 4)

    def players(self):
        yield Generators([self.mapping, self.classes], loss=dict)

    def latents(self, n):
        return torch.randn(n, 4, device=self.progress.device)

    def styles(self, latents, labels=None, truncation=1.0):
        styles = self.mapping(latents) + (0 if labels is None else self.classes(labels))
        return (truncation * styles)[:, None].expand(-1, 4, -1)

    def synthesize(self, styles):
        x, y, radius, _ = styles[:, :2].mean(1).mul(0.5)[..., None, None].unbind(1)  # (N, 1, 1) each
        colour = styles[:, 2:].mean(1)[:, : self.spec.images.channels, None, None]
        axis = torch.linspace(-1, 1, self.spec.images.size, device=styles.device)
        distance = torch.hypot(axis - x, axis[:, None] - y)  # (N, size, size)
        inside = torch.sigmoid(20 * (0.4 + 0.2 * radius.tanh() - distance))
        return torch.tanh(2 * colour) * inside[:, None] + 0.9 * (1 - inside[:, None])


@translate.hookimpl
def register_models(register):
    for model in (Invert, Blocks, Noisy, Broken, Tied, Splash, Discs):
        register(model)
