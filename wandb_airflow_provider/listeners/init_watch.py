"""Learn of each ``wandb.init`` of a process, without importing wandb."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    import wandb

__all__ = ["InitWatch", "InitWatcher"]

_MODULE = "wandb"


class InitWatcher(Protocol):
    """Whom an :class:`InitWatch` tells. Neither method may raise."""

    def additions(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return arguments to add to a call of ``wandb.init``, given those that the caller passed."""

    def opened(self, run: wandb.Run, arguments: Mapping[str, Any]) -> None:
        """Take note of the run that the call returned."""


class InitWatch:
    """
    Stands in for ``wandb.init`` from :meth:`start` to :meth:`stop`, also where wandb is only imported in between.

    The caller gets what wandb returns or raises. Code that holds the function itself (``from wandb import init``
    before the start) is not seen, nor is a child process.
    """

    def __init__(self, watcher: InitWatcher) -> None:
        self._watcher = watcher
        self._pid = os.getpid()
        self._finder = _ImportFinder(self._replace)
        self._module: ModuleType | None = None
        self._original: Callable[..., wandb.Run] | None = None
        self._replacement: Callable[..., wandb.Run] | None = None

    def start(self) -> None:
        """Replace ``wandb.init``, at once or when wandb is imported."""
        module = sys.modules.get(_MODULE)
        if module is not None and hasattr(module, "init"):
            self._replace(module)
        else:
            sys.meta_path.insert(0, self._finder)

    def stop(self) -> None:
        """Put back what :meth:`start` replaced, unless somebody else has replaced it since."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        if self._module is not None and self._module.init is self._replacement:
            self._module.init = self._original  # type: ignore[attr-defined]
        self._module = None

    def _replace(self, module: ModuleType) -> None:
        original: Callable[..., wandb.Run] = module.init
        signature = inspect.signature(original)

        @functools.wraps(original)
        def init(*args: Any, **kwargs: Any) -> wandb.Run:
            if os.getpid() != self._pid:
                return original(*args, **kwargs)
            try:
                call = signature.bind(*args, **kwargs)
            except TypeError:
                # Wrong arguments: wandb says so itself.
                return original(*args, **kwargs)
            given = dict(call.arguments)
            call.arguments.update(self._watcher.additions(given))
            run = original(*call.args, **call.kwargs)
            self._watcher.opened(run, given)
            return run

        self._module, self._original, self._replacement = module, original, init
        module.init = init  # type: ignore[attr-defined]


class _ImportFinder(importlib.abc.MetaPathFinder):
    """Calls back when the next import of wandb is done."""

    def __init__(self, imported: Callable[[ModuleType], None]) -> None:
        self._imported = imported

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find wandb as Python would, and have its import reported."""
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ReportingLoader(spec.loader, self._imported)
        return spec


class _ReportingLoader(importlib.abc.Loader):
    """Stands in for a module's loader until the module is executed."""

    def __init__(self, loader: importlib.abc.Loader, imported: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module with its own loader, which it keeps, and report it."""
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported(module)
