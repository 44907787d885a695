"""A package that is loaded when something of it is used, and not when it is imported.

peft and transformers import bitsandbytes wherever it is installed, and it takes more than a second to load, since it
compiles functions on import; most runs have nothing to do with it. Goes when those two import it where they use it.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any


class Deferral(MetaPathFinder, Loader):
    """Finds one package, and puts an empty module in its place that fills itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path) if fullname == self.name else None
        if found is None or found.origin is None:
            return None
        # Not as a package: an import of a part of it asks for __path__, and that is a use.
        spec = spec_from_file_location(fullname, found.origin, loader=self)
        if spec is not None:
            spec.loader_state = found
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """A module as any other, until its name, file and spec are set."""

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = DeferredModule


class DeferredModule(ModuleType):
    """Until the first look at something that every module does not have."""

    def __getattr__(self, name: str) -> Any:
        found = vars(self)["__spec__"].loader_state
        self.__spec__, self.__loader__, self.__package__ = found, found.loader, found.parent
        self.__path__ = list(found.submodule_search_locations or [])
        self.__class__ = ModuleType  # type: ignore[assignment]  # the same object, from now on a plain module
        try:
            found.loader.exec_module(self)
        except BaseException:
            sys.modules.pop(self.__name__, None)  # as a failed import does
            raise
        return getattr(self, name)


def defer(name: str) -> None:
    """Let the package wait for its first use; one that is loaded already stays as it is."""
    waiting = any(isinstance(finder, Deferral) and finder.name == name for finder in sys.meta_path)
    if name not in sys.modules and not waiting:
        sys.meta_path.insert(0, Deferral(name))
