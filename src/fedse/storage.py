"""Files that are whole or not there: atomic writes, and errors that name the path, the cause and the mend.

A file or folder is made under a temporary name beside its place, flushed to disk, and renamed.  Whoever reads the path
sees what was there before or all of the new content, also after ``kill -9`` or a full disk.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from fedse.errors import ConfigError, StorageError
from fedse.texts import parse_json, well_formed

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.(?P<kind>tmp|old)")

_MENDS = {
    errno.ENOSPC: "free some space on that disk (df -h shows it), then run the same command again",
    errno.EDQUOT: "your disk quota is used up: free some space, then run the same command again",
    errno.EFBIG: "the file size limit of this process is too small: raise it (ulimit -f), then run again",
    errno.EACCES: "give yourself write permission there (ls -ld shows owner and mode), or choose another folder",
    errno.EPERM: "give yourself write permission there (ls -ld shows owner and mode), or choose another folder",
    errno.EROFS: "that file system is read-only: choose a folder on a writable one",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EEXIST: "something else has that name: choose another path, or move it away",
    errno.EISDIR: "a folder is there: name a file, or move the folder away",
    errno.ENOENT: "check the path for a typing error",
    errno.ELOOP: "links lead to each other in a circle: choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), then run again",
    errno.EIO: "the disk reports a fault: check its health before you go on",
}
_READING = "give yourself read permission there (ls -ld shows owner and mode)"


def cache_folder() -> Path:
    """Where fedse keeps what it can fetch or make again: ``$FEDSE_CACHE`` or the user's cache folder.

    Raises:
        ConfigError: if there is neither: the user has no home folder.
    """
    if given := os.environ.get("FEDSE_CACHE"):
        return Path(given)
    with suppress(RuntimeError):
        folder = Path(platformdirs.user_cache_dir("fedse"))
        if folder.is_absolute():
            return folder
    raise ConfigError(
        "this process's user has no home folder for files that fedse keeps",
        "set FEDSE_CACHE to a folder that the process may write to",
    )


def check_cache(place: Path) -> Path:
    """Make sure that something in the cache can be written, before the work that it is to keep is done.

    Args:
        place: a folder in :func:`cache_folder` that may not be there yet; nothing is left in it.

    Returns:
        The nearest folder on the way to it that is there.

    Raises:
        StorageError: if it cannot be written; the mend names ``FEDSE_CACHE``.
    """
    nearest = next(path for path in (place, *place.parents) if os.path.lexists(path))
    try:
        with storage_errors("write", place), tempfile.TemporaryDirectory(prefix=".fedse-", dir=nearest):
            return nearest
    except StorageError as cause:
        mend = "set FEDSE_CACHE to a folder that this process may write to"
        raise StorageError(f"{cause.what}, where fedse keeps what it fetches", mend) from cause


@contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into a :class:`StorageError`.

    Args:
        action: the verb of the message, as in "cannot {action} {path}".
        path: what the block works on.

    Raises:
        StorageError: naming the path, the operating system's reason and what to do about it.
    """
    try:
        yield
    except OSError as cause:
        reason = cause.strerror or str(cause)
        mend = _MENDS.get(cause.errno or 0, "check the disk and the path, then run the same command again")
        if action == "read" and cause.errno in (errno.EACCES, errno.EPERM):
            mend = _READING
        raise StorageError(f"cannot {action} {path}: {reason}", mend) from cause


def atomic_write(path: Path, data: bytes | str, *, mode: int = 0o666) -> None:
    """Write a file whole or not at all; folders on the way to it are made.

    Args:
        path: the file; replaced if it exists.  Links to it are followed.  What is no plain file, as a device or a pipe,
            is written into.
        data: its content; text is written as UTF-8, :func:`~fedse.texts.well_formed`.
        mode: of the file from its first byte on, less what the process's umask takes away.

    Raises:
        StorageError: if it cannot be written; what was at ``path`` is intact, and nothing else is left behind.
    """
    content = well_formed(data).encode() if isinstance(data, str) else data
    with storage_errors("write", path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():  # a device or a pipe, in whose place no file may come
            with open(path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY)) as file:
                file.write(content)
            return
        path = _followed(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path, "tmp")
        try:
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Make a folder whole or not at all.

    Fill the folder that the context yields; when the block ends without an exception, it is flushed to disk and becomes
    ``path``, or what a link at ``path`` leads to.  A folder that was there is replaced as a whole.  Between its two
    renames ``path`` is missing for an instant; should the process be killed exactly there, :func:`recover` puts the
    earlier folder back.

    Raises:
        StorageError: if the folder cannot be made, or on any ``OSError`` in the block; what was at ``path`` is intact,
            and nothing else is left behind.
    """
    path = path if path.name else path.resolve()  # "." has no name to make another one of
    with storage_errors("write", path):
        path = _followed(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path, "tmp")
        temporary.mkdir()
        try:
            yield temporary
            _sync_tree(temporary)
            _replace_directory(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)


def share(folder: Path) -> None:
    """Give every file in a new folder the mode of any new file: some libraries keep theirs to the user alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for what becomes a part of it; gone when the block ends.

    Raises:
        StorageError: if the folder cannot be made, or on any ``OSError`` in the block.
    """
    with storage_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path, "tmp")
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of this name, then hold it; it ends with the process at the latest.

    Args:
        path: what the block makes; the lock is a file beside it, and stays there.

    Raises:
        StorageError: if the lock cannot be made.
    """
    lock = path.with_name(f".{path.name}.lock")
    with storage_errors("open", lock):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    with file:
        with storage_errors("lock", lock):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def recover(folder: Path, name: str | None = None) -> None:
    """Tidy what killed processes left in a folder: half-made files go, a folder that was being replaced comes back.

    Call it only while nobody else writes to the folder.

    Args:
        folder: where to look.
        name: tidy after this file or folder alone; nobody else may write to it then.

    Raises:
        StorageError: if the folder cannot be read or written.
    """
    with storage_errors("tidy", folder):
        for entry in sorted(folder.iterdir()):
            match = _LEFTOVER.fullmatch(entry.name)
            if match is None or name not in (None, match["name"]):
                continue
            place = folder / match["name"]
            if match["kind"] == "old" and not place.exists():
                entry.rename(place)
            elif entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def recover_below(folder: Path) -> None:
    """Do :func:`recover` in a folder and in all folders below it; nothing if it is not there."""
    if folder.is_dir():
        recover(folder)
        for child in sorted(folder.iterdir()):
            recover_below(child)


def write_json(path: Path, obj: Any) -> None:
    """Write an object as indented JSON, atomically.  NaN and infinities are written as Python's ``json`` does.

    Raises:
        StorageError: see :func:`atomic_write`.
        TypeError: if the object holds something that JSON cannot express.
    """
    atomic_write(path, json.dumps(obj, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, *, schema_version: int | None = None) -> Any:
    """Read a JSON file, which may begin with a byte order mark; its texts are :func:`~fedse.texts.well_formed`.

    Args:
        path: the file.
        schema_version: the newest version of the format that the caller understands; the file must then be an object
            whose ``schema_version`` is not newer.

    Raises:
        StorageError: if the file is missing, unreadable, not JSON, or of a newer schema.
    """
    with storage_errors("read", path):
        content = path.read_bytes()
    try:
        data = parse_json(content)
    except ValueError as cause:  # JSONDecodeError and UnicodeDecodeError
        raise StorageError(
            f"{path} is not valid JSON: {cause}", "restore the file from a copy, or remove it"
        ) from cause
    if schema_version is not None:
        _check_schema_version(path, data, schema_version)
    return data


def _check_schema_version(path: Path, data: Any, newest: int) -> None:
    found = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise StorageError(f"{path} has no schema_version: it was not written by fedse", "check the path")
    if found > newest:
        raise StorageError(
            f"{path} was written by a newer fedse (schema {found}; this one reads up to {newest})", "upgrade fedse"
        )


def _followed(path: Path) -> Path:
    """Where links lead to, so that what is made there leaves them links."""
    if not path.is_symlink():
        return path
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return place


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.{kind}")


def _replace_directory(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``; POSIX renames no folder over a full one, so an old one first steps aside."""
    if not target.exists():
        source.rename(target)
        return
    if not target.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    aside = _beside(target, "old")
    target.rename(aside)
    try:
        source.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(root, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(Path(root))


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries, without which a rename may not survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)
