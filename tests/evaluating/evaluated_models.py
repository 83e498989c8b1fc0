"""A plugin with models of which it is known how good they are."""

import torch
from torch import nn

import translate
from translate import Discriminators, Generators


class EvaluatedConfig(translate.ModelConfig):
    """gain: −1 is the right answer of `negative`, 1 does nothing."""

    gain: float = -1.0


class Negative(translate.Model[EvaluatedConfig]):
    """Learns that white becomes black; from b to a it does nothing."""

    name = "negative"
    data = translate.Unpaired("a", "b")
    routes = (("a", "b"), ("b", "a"))

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Conv2d(spec.a.channels, spec.b.channels, 1, bias=False)
        self.discriminator = nn.Conv2d(spec.b.channels, 1, 1)
        nn.init.dirac_(self.net.weight)
        with torch.no_grad():
            self.net.weight.mul_(config.gain)

    def players(self):
        yield Generators([self.net], loss=dict)
        yield Discriminators([self.discriminator], loss=dict)

    def translate(self, images, *, to, style=None):
        return self.net(images) if to == "b" else images


class Plain(translate.Model[EvaluatedConfig]):
    """Plain images of a random grey; of class `dark` below 0 and of class `light` above."""

    name = "plain"
    data = translate.Labelled("images")

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Linear(1, 1)

    def players(self):
        yield Generators([self.net], loss=dict)

    def latents(self, n):
        return torch.rand(n, 1, device=self.progress.device)

    def sample(self, latents, labels=None):
        greys = latents if labels is None else latents * (2 * labels[:, None] - 1)
        side = self.spec.images.size
        return greys[..., None, None].expand(-1, self.spec.images.channels, side, side)


@translate.hookimpl
def register_models(register):
    for model in (Negative, Plain):
        register(model)
