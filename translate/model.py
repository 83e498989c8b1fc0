"""The base class of models: a model declares its networks, its players and how images are translated.

The engine (training/, applying/) does everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from translate.domains import BatchSpec, Spec
from translate.errors import PluginError
from translate.players import Discriminators, Player
from translate.plugins import registry


class ModelConfig(BaseModel):
    """A model's own options. Each field becomes a flag: its type gives the choices, its `Field` the range and help."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def upgrade(cls, values: dict[str, Any], version: str) -> dict[str, Any]:
        """Convert options that an older `version` of the plugin wrote; override this when a field changes."""
        return values


C = TypeVar("C", bound=ModelConfig)


class Model(nn.Module, Generic[C]):
    """Networks, the losses that train them, and how the trained networks make images.

    A subclass `class MyModel(Model[MyConfig])` sets the class attributes and builds its networks in `__init__`; no
    parameter may be added later. It defines `players`, the losses of the players, and `translate`. It defines `forward`
    if its losses share outputs. In place of `translate`, a noise-to-image model defines `latents` and `sample`; with a
    style space, `latents`, `styles` and `synthesize`.

    `forward` and losses are pure tensor code: no backward, optimizer step, `.item()`, `.to`, autocast, file access or
    host synchronisation. State that must survive a restart is a buffer.
    """

    name: ClassVar[str]
    """The name on the command line; the entry point has the same name."""
    data: ClassVar[BatchSpec]
    """The domains, and so the fields of a batch, as in `Unpaired("a", "b")`."""
    preset: ClassVar[Mapping[str, Any]] = {}
    """Other defaults for engine options (fields of FitConfig), as in {"batch": 64}."""
    routes: ClassVar[Sequence[tuple[str, str]]] = (("a", "b"),)
    """The translations that the model can do, each as (source domain, target domain); the first is the default."""
    averaged: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes (networks) of which inference uses an exponential moving average."""
    average_half_life: ClassVar[int] = 10_000
    """Half-life of that average, in images; early in a run it is 1/20 of the images seen so far, if that is less."""
    fresh_outputs: ClassVar[bool] = False
    """True: every move gets a `forward` of its own, as in GANs from noise.

    False: the moves of a step share one, except that a second generator move gets a new one.
    """
    couples_batch: ClassVar[bool] = False
    """True if an image's result depends on random numbers or on the other images of its batch (batch norm).

    The model then translates images one by one. (The attribute of the same name of a network means the other images of
    the batch only: see networks.py.)
    """
    inference_mode: ClassVar[Literal["eval", "train"]] = "eval"
    """Mode of the networks when they translate; sampling from noise is always in eval mode."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Attributes (networks, buffers) that had another name in an older version of the plugin, as {"old": "new"}.

    The engine reads checkpoints and model files with the old names. An old name is never used again.
    """
    Config: ClassVar[type[ModelConfig]] = ModelConfig

    progress: Tensor
    """Share of the run that is done, float32 scalar in [0, 1]; the engine fills it before each step."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):  # not inherited ones: a subclass may set Config itself
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, ModelConfig):
                    cls.Config = argument

    def __init__(self, config: C, spec: Spec) -> None:
        """config: the model's own options. spec: a DomainSpec for each domain, as `spec.a`, with channels and size."""
        super().__init__()
        self.config = config
        self.spec = spec
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def players(self) -> Iterable[Player]:
        """Yield the players in the order of their moves."""
        raise NotImplementedError(f"{type(self).__name__} declares no players")

    def forward(self, batch: Any) -> Any:
        """Compute the outputs that losses share (fakes, …): a NamedTuple of tensors whose first axis is the batch."""
        raise NotImplementedError(f"{type(self).__name__} has no forward, but one of its losses asks for outputs")

    def translate(self, images: Tensor, *, to: str, style: Tensor | None = None) -> Tensor:
        """Translate images of the route's source domain to the domain `to`.

        images: (N, C, H, W) float32 in [-1, 1], H and W multiples of the networks' strides. style: not used yet; the
        engine does not pass it. The result has the same range, height and width.
        """
        raise NotImplementedError(f"{type(self).__name__} does not translate images")

    def latents(self, n: int) -> Tensor:
        """Draw latents for n images: (n, …), on the model's device."""
        raise NotImplementedError(f"{type(self).__name__} makes no images without an input")

    def styles(self, latents: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Map latents to one style for each layer of the synthesis: (N, layers, width). For models with a style space.

        labels: as in `sample`. truncation: 0 gives the mean style, 1 the latents' own, values between interpolate.
        """
        raise NotImplementedError(f"{type(self).__name__} has no style space")

    def synthesize(self, styles: Tensor) -> Tensor:
        """Map styles (N, layers, width) to images (N, C, size, size). For models with a style space."""
        raise NotImplementedError(f"{type(self).__name__} has no style space")

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents to images (N, C, size, size) in [-1, 1] of the model's first domain.

        labels: (N,) int64, indices into the domain's classes; None if the domain has no classes.
        """
        return self.synthesize(self.styles(latents, labels))


def discriminator_networks(model: Model[Any]) -> list[nn.Module]:
    """The networks of all `Discriminators` players. Training needs them; translating and sampling do not."""
    return [network for player in model.players() if isinstance(player, Discriminators) for network in player.networks]


def with_current_names(
    tensors: Mapping[str, Tensor], model: Model[Any] | type[Model[Any]], prefix: str = ""
) -> dict[str, Tensor]:
    """The tensors of a checkpoint or model file, with `model.renamed` applied to the attributes in their names.

    prefix: regular expression for what precedes the attribute.
    """
    if not model.renamed:
        return dict(tensors)
    attribute = re.compile(f"^({prefix})({'|'.join(map(re.escape, model.renamed))})(?=[.]|$)")
    return {
        attribute.sub(lambda match: match[1] + model.renamed[match[2]], name): tensor
        for name, tensor in tensors.items()
    }


def find_model(name: str) -> type[Model[Any]]:
    """The class of an installed model.

    Raises UsageError for an unknown name. Raises PluginError if the plugin does not load, registers no model of that
    name, or the class has no `data`.
    """
    kind = registry.model(name)
    if not isinstance(getattr(kind, "data", None), BatchSpec):
        raise PluginError(f"The model class {kind.__name__} needs a class attribute `data` ({BatchSpec.__name__}).")
    found: type[Model[Any]] = kind
    return found
