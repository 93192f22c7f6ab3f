"""Hands a workdir to the user that programs run as, where we are root."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from .walls import NOBODY

_MAX_DEPTH: Final = 64
"""Each level takes a descriptor, and a call within calls."""


def hand_over(workdir: Path) -> None:
    """Give nobody what root owns beneath `workdir`; does nothing unless we are root.

    Follows no link, and leaves files alone that have a second name somewhere, or that lie more than
    `_MAX_DEPTH` folders deep, where programs alone make any. Raises OSError.
    """
    if os.geteuid() != 0:
        return
    for path, folders, files, folder in os.fwalk(workdir, follow_symlinks=False):
        if os.fstat(folder).st_uid == 0:
            os.fchown(folder, NOBODY, NOBODY)
        for name in (*folders, *files):
            with suppress(FileNotFoundError):  # another program works here at the same time
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if found.st_uid == 0 and not stat.S_ISDIR(found.st_mode) and found.st_nlink == 1:
                    os.chown(name, NOBODY, NOBODY, dir_fd=folder, follow_symlinks=False)
        if path.count("/") - str(workdir).count("/") >= _MAX_DEPTH:
            folders.clear()
