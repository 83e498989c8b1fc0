"""START HERE for plugins, with hooks.py.

    hooks.py      the hooks that a plugin may implement
    types.py      what it may register by them, apart from models, as plain dataclasses
    registry.py   finds and loads plugins, and collects what they register

The rest of the core uses the registry, and nothing here imports the parts of the core that use it.
"""
