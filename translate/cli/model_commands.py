"""A command with a sub-command for each installed model, whose own options are among its flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from translate.plugins import registry

if TYPE_CHECKING:
    from translate.model import Model


class ByModel(TyperGroup):
    """The sub-commands are the models, known from metadata; the one that is named is imported, the others are not."""

    def command_of(self, model: type[Model[Any]], words: list[str]) -> Any:
        """The sub-command of a model, made of its declarations. words: the model's name, and those that follow it."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        return list(registry.model_names())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return Unloaded(self, cmd_name, help=f"From {registry.model_names().get(cmd_name)}.")


class Unloaded(TyperCommand):
    """Stands for a model's command in lists; the model is imported when the command's own words are parsed."""

    def __init__(self, group: ByModel, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.group = group

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        from translate.model import find_model

        command = self.group.command_of(find_model(str(self.name)), [str(self.name), *args])
        return command.make_context(info_name, args, parent, **extra)
