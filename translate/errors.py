"""The errors that a user may see. Their messages say what was found, what was expected, and what to do.

TranslateError
├── UsageError          a wrong option or value, on the command line or in a config: exit status 2
├── DataError           images, folders, archives
├── PluginError         a plugin that is missing, broken, or breaks the contract
├── CheckpointError     runs, checkpoints and model files
├── NonFiniteError      a loss or a gradient that became NaN or infinite
└── MemoryFullError     a training step that does not fit into the device's memory
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TranslateError(Exception):
    """An error whose text is meant for a user, in whole sentences."""

    exit_status = 1


class UsageError(TranslateError):
    """A wrong request: an unknown name, a bad value, options that exclude each other."""

    exit_status = 2


class DataError(TranslateError):
    """Images that are missing, too few, unreadable or of the wrong kind."""


class PluginError(TranslateError):
    """A plugin that is not installed, does not load, or breaks the contract."""


class CheckpointError(TranslateError):
    """A run, checkpoint or model file that cannot be read, written or used."""


class NonFiniteError(TranslateError):
    """A loss or gradient that is NaN or infinite; the optimizer step was skipped."""


class MemoryFullError(TranslateError):
    """A training step that does not fit into the device's memory."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The last sentence of an error message about an unknown name: near matches, or else all known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(match) for match in near)}?"
    return f"Known: {', '.join(names)}." if names else "None is known."
