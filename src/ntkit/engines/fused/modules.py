"""Compiled modules: generated text in the user's cache folder, imported from there so that Numba keeps its work."""

import hashlib
import importlib.util
import os
import sys
import tempfile
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

FOLDER = "NTKIT_CACHE_DIR"
"""Environment variable: where compiled modules are kept; by default in the user's cache folder."""


def cache_folder() -> Path:
    """The folder of compiled modules of this version of ntkit."""
    chosen = os.environ.get(FOLDER)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ntkit"
    return (Path(chosen) if chosen else home) / f"fused-{version('ntkit')}"


@lru_cache(maxsize=64)
def load(source: str) -> ModuleType:
    """The module of a source text, compiled before if possible; without a writable folder, in memory only."""
    name = f"ntkit_fused_{hashlib.sha256(source.encode()).hexdigest()[:24]}"
    try:
        path = cache_folder() / f"{name}.py"
        text = source.replace("CACHED", "True")
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            _write(path, text)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(path.parent)
        return _import(name, path)
    except OSError:
        # A read-only or missing home: compile for this process alone.
        module = ModuleType(name)
        sys.modules[name] = module
        exec(compile(source.replace("CACHED", "False"), f"<{name}>", "exec"), module.__dict__)
        return module


def _import(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def _write(path: Path, text: str) -> None:
    """Write whole or not at all: another process may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(part, path)
