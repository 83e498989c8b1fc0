"""A CycleGAN training step as one would write it by hand: eager, float32, one call a network a role, no tricks.

Holds engine and plain loop (translate/benchmarking/plain.py) in values (test_plain_cyclegan.py) and in time
(tests/benchmarks/step.py). It does the same work: two Adams, image pools, averaged generators, linear decay, identity
loss.
"""

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn


class Pool:
    """The last images, one after the other (Shrivastava et al. 2017)."""

    def __init__(self, size):
        self.size, self.images = size, []

    def query(self, images):
        shown = []
        for image in images.split(1):
            if len(self.images) < self.size:
                self.images.append(image)
            elif self.size and random.random() < 0.5:
                place = random.randrange(self.size)
                shown.append(self.images[place])
                self.images[place] = image
                continue
            shown.append(image)
        return torch.cat(shown)


class PlainCycleGAN:
    """Zhu et al., ICCV 2017, from four networks."""

    def __init__(self, a_to_b, b_to_a, discriminator_a, discriminator_b, *, steps, pool_size=50, half_life=10_000):
        self.a_to_b, self.b_to_a = a_to_b, b_to_a
        self.discriminator_a, self.discriminator_b = discriminator_a, discriminator_b
        self.generators = [*a_to_b.parameters(), *b_to_a.parameters()]
        self.discriminators = [*discriminator_a.parameters(), *discriminator_b.parameters()]
        self.optimizer_g = torch.optim.Adam(self.generators, lr=2e-4, betas=(0.5, 0.999))
        self.optimizer_d = torch.optim.Adam(self.discriminators, lr=2e-4, betas=(0.5, 0.999))
        self.averages = [copy.deepcopy(network) for network in (a_to_b, b_to_a)]
        self.pool_a, self.pool_b = Pool(pool_size), Pool(pool_size)
        self.steps, self.step_number, self.images, self.half_life = steps, 0, 0, half_life

    def generator_loss(self, a, b):
        fake_b, fake_a = self.a_to_b(a), self.b_to_a(b)
        back_a, back_b = self.b_to_a(fake_b), self.a_to_b(fake_a)
        identity_b, identity_a = self.a_to_b(b), self.b_to_a(a)
        score_a, score_b = self.discriminator_a(fake_a), self.discriminator_b(fake_b)
        losses = {
            "adversarial_a": F.mse_loss(score_a, torch.ones_like(score_a)),
            "adversarial_b": F.mse_loss(score_b, torch.ones_like(score_b)),
            "cycle_a": 10 * F.l1_loss(back_a, a),
            "cycle_b": 10 * F.l1_loss(back_b, b),
            "identity_a": 5 * F.l1_loss(identity_a, a),
            "identity_b": 5 * F.l1_loss(identity_b, b),
        }
        return losses, fake_a.detach(), fake_b.detach()

    def discriminator_loss(self, discriminator, real, fake):
        score_real, score_fake = discriminator(real), discriminator(fake)
        real_loss = F.mse_loss(score_real, torch.ones_like(score_real))
        fake_loss = F.mse_loss(score_fake, torch.zeros_like(score_fake))
        return 0.5 * (real_loss + fake_loss)

    def step(self, a, b):
        """One step on float32 (N, C, H, W) batches; the losses by name."""
        progress = self.step_number / self.steps
        for optimizer in (self.optimizer_g, self.optimizer_d):
            optimizer.param_groups[0]["lr"] = 2e-4 * min(1.0, (1 - progress) / 0.5)

        set_requires_grad(self.discriminators, False)
        losses, fake_a, fake_b = self.generator_loss(a, b)
        self.optimizer_g.zero_grad()
        sum(losses.values()).backward()
        self.optimizer_g.step()

        set_requires_grad(self.discriminators, True)
        self.optimizer_d.zero_grad()
        loss_a = self.discriminator_loss(self.discriminator_a, a, self.pool_a.query(fake_a))
        loss_a.backward()
        loss_b = self.discriminator_loss(self.discriminator_b, b, self.pool_b.query(fake_b))
        loss_b.backward()
        self.optimizer_d.step()

        self.step_number += 1
        self.images += len(a)
        self.average(len(a))
        return {**losses, "discriminator_a": loss_a, "discriminator_b": loss_b}

    @torch.no_grad()
    def average(self, batch):
        half_life = min(self.half_life, 0.05 * self.images)
        beta = 0.5 ** (batch / half_life)
        for average, network in zip(self.averages, (self.a_to_b, self.b_to_a), strict=True):
            for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
                slow.mul_(beta).add_(fast, alpha=1 - beta)


def set_requires_grad(parameters, value):
    for parameter in parameters:
        parameter.requires_grad_(value)


def classical(network):
    """A copy with torch's own instance norm and reflection padding in place of ours."""
    from translate_networks.layers import InstanceNorm, ReflectionPad

    def replace(module, channels=0):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
                channels = child.out_channels
            if isinstance(child, InstanceNorm):
                setattr(module, name, nn.InstanceNorm2d(channels))
            elif isinstance(child, ReflectionPad):
                setattr(module, name, nn.ReflectionPad2d(child.pixels))
            else:
                replace(child, channels)
        return module

    return replace(copy.deepcopy(network))
