"""Files and folders that appear complete or not at all, also after Ctrl-C or a full disk."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntkit.errors import TableError

OUTPUT_MARK = "model/model.json"
"""A folder that holds this file is taken for an earlier output of the main job."""

OUTPUT_NAMES = frozenset({"model", "predictions.csv", "report.html"})
"""What else such a folder holds."""

LISTED_MARK = "ntkit.json"
"""A folder that holds this file is taken for an earlier output of another command; it lists the files beside it."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Hand out a temporary file beside `path`; rename it to `path` on success, delete it otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    try:
        yield Path(part)
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Hand out a temporary folder beside `path`; rename it to `path` on success, delete it otherwise.

    With `overwrite` an earlier output is moved aside first and deleted last, so that at every moment
    either the old or the new folder is complete.

    Raises:
        TableError: see `check_folder_is_free`.
    """
    path = Path(path)
    check_folder_is_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".part", dir=path.parent))
    try:
        yield part
        os.chmod(part, 0o777 & ~_umask())
        check_folder_is_free(path, overwrite=overwrite)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".old", dir=path.parent))
            os.replace(path, old)
            try:
                os.replace(part, path)
            except BaseException:
                os.replace(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_folder_is_free(path: str | Path, *, overwrite: bool) -> None:
    """Refuse an output folder that would cost the user something.

    Raises:
        TableError: if `path` is a file, or holds files and `overwrite` is not set, or holds files that are no
            earlier output or beside one.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise TableError(f"The output needs a folder, got the file '{path}'. Choose another --out.")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not overwrite:
        raise TableError(
            f"The output folder '{path}' is not empty. Choose another --out, or replace it with --overwrite."
        )
    written = earlier_output(path)
    if written is None:
        raise TableError(
            f"The output folder '{path}' holds no earlier output (neither '{OUTPUT_MARK}' nor '{LISTED_MARK}' of ntkit "
            "is there), so it is not overwritten. Choose another --out."
        )
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in written)
    if foreign:
        raise TableError(
            f"The output folder '{path}' holds '{foreign[0]}' beside an earlier output, so it is not overwritten. Move "
            f"{'it' if len(foreign) == 1 else f'it and {len(foreign) - 1} more'} away, or choose another --out."
        )


def earlier_output(path: str | Path) -> frozenset[str] | None:
    """The names that an earlier output wrote into a folder; None if the folder is no earlier output."""
    path = Path(path)
    if (path / OUTPUT_MARK).is_file():
        return OUTPUT_NAMES
    try:
        listed = json.loads((path / LISTED_MARK).read_text(encoding="utf-8"))
        if str(listed["made_by"]).startswith("ntkit "):
            return frozenset({LISTED_MARK, *map(str, listed["files"])})
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent, or another program's
    return None


def check_file_is_free(path: str | Path, *, overwrite: bool) -> None:
    """Refuse an output file that exists, unless `overwrite` is set.

    Raises:
        TableError: if it exists and may not be replaced, or is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise TableError(f"The output needs a file name, got the folder '{path}'. Choose another --out.")
    if path.exists() and not overwrite:
        raise TableError(
            f"The output file '{path}' exists. Choose another --out, or replace it with --overwrite."
        )


def _umask() -> int:
    """The process's file-mode mask, so that results are as readable as any file the user makes."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
