"""The face of a room whose parts are imported when first asked for (PEP 562): the settings need few of them."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def later(room: str, **names: str) -> Callable[[str], Any]:
    """The `__getattr__` of a room.

    Args:
        room: the package's name.
        names: what each of its modules is asked for, separated by blanks. A module that has the name of what it holds
            is imported by the face alone: as a module it would come before.
    """
    modules = {name: module for module, held in names.items() for name in held.split()}

    def given(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        found = getattr(import_module(f"{room}.{modules[name]}"), name)
        setattr(sys.modules[room], name, found)
        return found

    return given
