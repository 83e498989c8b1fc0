"""The options of a training run: the engine's flags, which `run.toml` records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, model_validator

from translate.applying.options import PrecisionChoice
from translate.data.options import DataOptions, read_toml
from translate.errors import UsageError
from translate.validation import Location, explain_problems

if TYPE_CHECKING:
    from translate.model import Model

LENGTHS = ("epochs", "steps", "minutes")
PATHS = ("data", "a", "b", "images", "test_data", "test_a", "test_b", "test_images", "init")
MAY_CHANGE = frozenset(
    {*LENGTHS, "device", "devices", "compile", "store", "memory_budget", "checkpoint_every", "log_every", "keep", "run"}
)
"""The options that a resumed run may change: its length, where and how fast it runs, what it keeps."""


class FitConfig(DataOptions):
    """One training run. `translate.fit(FitConfig(...))` and `translate fit` are the same code."""

    model: str = Field(description="Name of an installed model.")
    options: dict[str, Any] = Field(default_factory=dict, description="The model's own options.")

    epochs: float | None = Field(
        None, gt=0, description="Length in passes over the larger domain; 200 if no length is given."
    )
    steps: int | None = Field(None, ge=1, description="Length in steps, one batch each.")
    minutes: float | None = Field(
        None, gt=0, description="Length in minutes: the first steps are timed, then the number of steps is fixed."
    )
    run: str | None = Field(None, description="Folder of the run; by default a new one, runs/MODEL-1.")
    init: str | None = Field(None, description="Start from the weights of this model file (fine-tuning).")

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps.")
    devices: int = Field(
        1, ge=1, description="Devices of this machine that share every batch, in a process each; torchrun starts more."
    )
    precision: PrecisionChoice = Field(
        "auto", description="Mixed precision in 16 bits, or fp32; auto takes what the device is best at."
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Compile forward and losses: on a GPU if the run is long enough to pay for it (auto), or always, "
        "or never.",
    )
    micro_batches: int = Field(
        1, ge=1, description="Parts in which a batch goes through the networks, to save memory; same gradient."
    )
    discriminator_augment: Literal["none", "diffaugment", "ada"] = Field(
        "none",
        description="Augment what discriminators see, for few images: always (diffaugment), or as much as overfitting "
        "asks for (ada).",
    )
    deterministic: bool = Field(False, description="Ask torch for deterministic algorithms (bit-exact on a GPU too).")

    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="Steps between checkpoints and sample grids [default: a tenth of the run, from 200 to 2000].",
    )
    keep: int = Field(2, ge=1, description="Newest checkpoints to keep.")
    log_every: int = Field(20, ge=1, description="Steps between ticks: a progress line and a line of metrics.jsonl.")

    @model_validator(mode="after")
    def _one_length(self) -> FitConfig:
        if len(given := length_of(self)) > 1:
            raise ValueError(f"{' and '.join('--' + name for name in given)} exclude each other; give one length")
        return self


def fit_config(values: Mapping[str, Any]) -> FitConfig:
    """Validate plain values as a FitConfig. Raises UsageError that names each bad option."""
    try:
        return FitConfig.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error, FitConfig.model_fields)) from error


def model_options(model_class: type[Model[Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """All of a model's own options as plain values, defaults included. Raises UsageError that names each bad option."""
    try:
        options: dict[str, Any] = model_class.Config.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        raise UsageError(_explain(error, model_class.Config.model_fields)) from error
    return options


def _explain(error: ValidationError, known: Iterable[str]) -> str:
    """Pydantic's validation errors as sentences about flags, one problem a line."""
    return "\n".join(explain_problems(error, "option", _flag, lambda location: known))


def _flag(location: Location) -> str:
    """An option as the command line has it: --lambda-cycle."""
    return f"--{'.'.join(map(str, location)).replace('_', '-')}" if location else ""


def read_config(path: str | Path) -> dict[str, Any]:
    """The values of a `run.toml`, or of a file of that shape written by hand, for `fit_config`. Raises UsageError."""
    content = read_toml(Path(path))
    return {**content.get("fit", {}), "options": content.get("options", {})}


def complete(model_class: type[Model[Any]], given: FitConfig, stored: Mapping[str, Any] | None) -> FitConfig:
    """The options of a run: what is given, else its `run.toml` (`stored`), else the model's preset, else defaults.

    Paths become absolute.
    Raises UsageError that shows the differences if the run was started with other options.
    """
    paths = {
        name: str(Path(text).resolve()) for name in PATHS if (text := getattr(given, name)) and Path(text).exists()
    }
    given = given.model_copy(update=paths)
    options = model_options(model_class, given.options)
    if stored is None:
        return fit_config({**model_class.preset, **given.model_dump(exclude_unset=True), "options": options})
    if model_class.name != stored["fit"]["model"]:
        raise UsageError(
            f"The run {given.run} trains {stored['fit']['model']}, not {model_class.name}; choose another --run."
        )

    written = model_class.Config.upgrade(dict(stored["options"]), stored["environment"]["plugin_version"])
    before = fit_config({**stored["fit"], "options": model_options(model_class, written)})
    fixed = {name: getattr(given, name) for name in given.model_fields_set - MAY_CHANGE - {"options"}}
    changes = [
        (name, getattr(before, name), now) for name, now in fixed.items() if now not in ("auto", getattr(before, name))
    ]
    changes += [(n, before.options[n], options[n]) for n in given.options if options[n] != before.options[n]]
    if changes:
        shown = "\n".join(
            f"  --{name.replace('_', '-')}: {old!r} in the run, {now!r} now" for name, old, now in changes
        )
        raise UsageError(
            f"The run {given.run} was started with other options:\n{shown}\nChoose another --run for these."
        )
    changed = {name: getattr(given, name) for name in given.model_fields_set & MAY_CHANGE}
    if length_of(given) in ({}, stored["asked"]):
        changed = {name: value for name, value in changed.items() if name not in LENGTHS}
    else:
        changed = {"steps": None, "epochs": None, "minutes": None, **changed}
    return before.model_copy(update=changed)


def length_of(config: FitConfig) -> dict[str, float]:
    """The length that the user set, as {"steps": 1000}; empty if none was set."""
    return {name: value for name in LENGTHS if (value := getattr(config, name)) is not None}
