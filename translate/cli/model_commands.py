"""Commands with a sub-command for each installed model, which has the model's own options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from translate.plugins import registry

if TYPE_CHECKING:
    from translate.model import Model


class ModelGroup(TyperGroup):
    """The group of sub-commands. It lists models from metadata, and imports only the model whose sub-command is run."""

    def model_command(self, model: type[Model[Any]], arguments: list[str]) -> Any:
        """The sub-command of a model. arguments: the model's name and what follows it on the command line."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        return list(registry.model_names())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return LazyModelCommand(self, cmd_name, help=f"From {registry.model_names().get(cmd_name)}.")


class LazyModelCommand(TyperCommand):
    """Stands for a model's sub-command in lists. The model is imported when the sub-command's arguments are parsed."""

    def __init__(self, group: ModelGroup, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.group = group

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        from translate.model import find_model

        command = self.group.model_command(find_model(str(self.name)), [str(self.name), *args])
        return command.make_context(info_name, args, parent, **extra)
