"""Whose a file is.

What ``k2`` does with a local system's files, it does because they say so, so only its user may write them.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def why_not_trusted(path: Path) -> str | None:
    """Say why a file or directory must not be believed: somebody else than its user (or root) could have written it.

    :param path: an existing file or directory; of a symbolic link both the link and its target count.
    :returns: one clause, or None when it can be trusted.
    """
    link, target = path.lstat(), path.stat()
    for owner in (link.st_uid, target.st_uid):
        if owner not in (os.geteuid(), 0):
            return f"it belongs to {_account(owner)}, not to {_account(os.geteuid())}"
    if target.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (its mode is {stat.S_IMODE(target.st_mode):04o})"
    return None


def _account(uid: int) -> str:
    try:
        return f"the account {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the account with the number {uid}"
