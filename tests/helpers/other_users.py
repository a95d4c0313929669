"""Processes of other users, for tests that run as root."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from pathlib import Path

#: Numbers that no account has on common systems: above those of people, below those that systemd deals out.
FIRST = 58_321


def may_be_others() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and all(map(shutil.which, ("setpriv", "unshare")))


def as_user(number: int) -> tuple[str, ...]:
    """What a command begins with to run as this user, without any group or privilege.

    Python and fedse may lie in a home folder that only its owner enters.  The command then gets a view of the file
    system in which that folder has nothing but them.
    """
    user = ("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "--inh-caps=-all", "--no-new-privs")
    needed = {Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *sys.path) if Path(path).exists()}
    tops = sorted(path for path in needed if needed.isdisjoint(path.parents))
    closed = {path: folder for path in tops if (folder := _closed(path)) is not None}
    if not closed:
        return user
    lines = ["set -e", "mount --make-rprivate /", "kept=$(mktemp -d)"]
    for index, path in enumerate(closed):
        lines += [f"mkdir $kept/{index}", f"mount --bind {shlex.quote(str(path))} $kept/{index}"]
    lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(folder))}" for folder in sorted({*closed.values()})]
    for index, path in enumerate(closed):
        there = shlex.quote(str(path))
        lines += [f"mkdir -p {there}", f"mount --bind $kept/{index} {there}", f"umount $kept/{index}"]
    lines += ["rmdir $kept/* $kept", 'exec "$@"']
    return ("unshare", "--mount", "sh", "-c", "\n".join(lines), "sh", *user)


def _closed(path: Path) -> Path | None:
    """The first folder on the way to a path that others cannot enter."""
    folders = [*reversed(path.parents), path]
    return next((folder for folder in folders if not folder.stat().st_mode & stat.S_IXOTH), None)


def give(folder: Path, number: int) -> None:
    """Make a folder, and all in it, this user's alone."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, number, number, follow_symlinks=False)
    folder.chmod(0o700)
