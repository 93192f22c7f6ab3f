"""Hands a workdir to the user that programs run as, where we are root."""

import os
import stat
from pathlib import Path

from runtime.sandbox.walls import NOBODY


def hand_over(workdir: Path) -> None:
    """Give nobody what root owns beneath `workdir`; does nothing unless we are root.

    Follows no link, and leaves files alone that have a second name somewhere. Raises OSError.
    """
    if os.geteuid() != 0:
        return
    for _, folders, files, folder in os.fwalk(workdir, follow_symlinks=False):
        if os.fstat(folder).st_uid == 0:
            os.fchown(folder, NOBODY, NOBODY)
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if found.st_uid == 0 and not stat.S_ISDIR(found.st_mode) and found.st_nlink == 1:
                os.chown(name, NOBODY, NOBODY, dir_fd=folder, follow_symlinks=False)
