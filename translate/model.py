"""What a plugin subclasses: a model states networks, players and how images are translated; the engine acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from translate.data.domains import BatchSpec, Spec
from translate.errors import PluginError
from translate.players import Discriminators, Player
from translate.plugins import registry


class ModelConfig(BaseModel):
    """A model's own options. Each field becomes a flag: its type gives choices, its Field ranges and the help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def upgrade(cls, values: dict[str, Any], version: str) -> dict[str, Any]:
        """Turn the values that an older version of the plugin wrote into today's; override when a field changes."""
        return values


C = TypeVar("C", bound=ModelConfig)


class Model(nn.Module, Generic[C]):
    """A game between networks, described.

    A subclass `class MyModel(Model[MyConfig])` sets the class attributes, builds its networks in `__init__`
    (complete: no parameter appears later), and writes `players`, the losses that they name, and `translate`; `forward`
    too, where losses share outputs. A model that makes images of nothing has, in place of `translate`, `latents` and
    `sample`, or `latents`, `styles` and `synthesize`. Losses and forward are pure tensor code: no backward, step,
    `.item()`, `.to`, autocast, file or host synchronisation. State that must survive a restart is a buffer.
    """

    name: ClassVar[str]
    """The model's name on the command line and its entry point's."""
    data: ClassVar[BatchSpec]
    """What its batches are made of."""
    preset: ClassVar[Mapping[str, Any]] = {}
    """Engine options (fields of FitConfig) whose defaults are others for this model, as {"batch": 64}."""
    routes: ClassVar[Sequence[tuple[str, str]]] = (("a", "b"),)
    """The translations that the model can do, each as (source domain, target domain); the first is the default."""
    averaged: ClassVar[tuple[str, ...]] = ()
    """Attributes (networks) that also keep an exponential moving average, which inference uses."""
    average_half_life: ClassVar[int] = 10_000
    """Half-life of that average in images; until 20 half-lives are seen, a twentieth of the images seen."""
    fresh_outputs: ClassVar[bool] = False
    """A new `forward` for every move (noise to image) instead of one shared by the moves of a step."""
    couples_batch: ClassVar[bool] = False
    """An image's result depends on random numbers or on who shares its batch (batch norm): translated one by one."""
    inference_mode: ClassVar[Literal["eval", "train"]] = "eval"
    """Mode of the networks when translating."""
    Config: ClassVar[type[ModelConfig]] = ModelConfig

    progress: Tensor
    """Share of the run that is done, float32 scalar in [0, 1]; the engine fills it before each step."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):  # of this class alone: a subclass may set Config itself
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, ModelConfig):
                    cls.Config = argument

    def __init__(self, config: C, spec: Spec) -> None:
        """config: the model's own options. spec: the domains, as `spec.a`, with channels and size."""
        super().__init__()
        self.config = config
        self.spec = spec
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def players(self) -> Iterable[Player]:
        """Yield the players in the order of their moves."""
        raise NotImplementedError(f"{type(self).__name__} declares no players")

    def forward(self, batch: Any) -> Any:
        """What the losses share (fakes, reconstructions, …): a NamedTuple of float32 tensors over the batch."""
        raise NotImplementedError(f"{type(self).__name__} has no forward, but one of its losses asks for outputs")

    def translate(self, images: Tensor, *, to: str, style: Tensor | None = None) -> Tensor:
        """Images of the source domain as images of `to`: (N, C, H, W) in [-1, 1], sides multiples of the stride."""
        raise NotImplementedError(f"{type(self).__name__} does not translate images")

    def latents(self, n: int) -> Tensor:
        """Fresh random numbers for n images, (n, …), on the model's device."""
        raise NotImplementedError(f"{type(self).__name__} makes no images without an input")

    def styles(self, latents: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """What each layer of the synthesis gets, (N, layers, width); of models with a style space only.

        labels: as in `sample`. truncation: from 0, the mean style, to 1, the latents' own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no style space")

    def synthesize(self, styles: Tensor) -> Tensor:
        """The images (N, C, size, size) of `styles` (N, layers, width)."""
        raise NotImplementedError(f"{type(self).__name__} has no style space")

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """The images (N, C, size, size) in [-1, 1], of the model's first domain, that `latents` stand for.

        labels: (N,) int64, indices into the domain's classes; None where it has none.
        """
        return self.synthesize(self.styles(latents, labels))


def discriminator_networks(model: Model[Any]) -> list[nn.Module]:
    """The networks that discriminators own: they train the others, and translating does without them."""
    return [network for player in model.players() if isinstance(player, Discriminators) for network in player.networks]


def find_model(name: str) -> type[Model[Any]]:
    """The class of an installed model.

    Raises UsageError for an unknown name, PluginError if its plugin does not load or registers no model of that name.
    """
    kind = registry.model(name)
    if not isinstance(getattr(kind, "data", None), BatchSpec):
        raise PluginError(f"The model class {kind.__name__} needs a class attribute `data` ({BatchSpec.__name__}).")
    found: type[Model[Any]] = kind
    return found
