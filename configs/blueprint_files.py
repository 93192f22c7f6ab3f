"""The blueprints that lie in a folder, and the files there that are none."""

import stat
from pathlib import Path
from typing import Final, NamedTuple

from .blueprints import Blueprint, read_blueprint
from .errors import SettingsError
from .load import YamlValue, read_yaml

MAX_BYTES: Final = 1 << 20


class BlueprintFile(NamedTuple):
    """A file, read."""

    path: Path
    values: dict[str, YamlValue]
    """As the file has them."""
    blueprint: Blueprint


class Unreadable(NamedTuple):
    """A file that holds no blueprint."""

    path: Path
    reason: str
    """A sentence that names the file."""


class BlueprintFolder:
    """Looks into the folder each time it is asked; a file is read again once it has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[tuple[int, int, int], BlueprintFile | Unreadable]] = {}

    def look(self) -> tuple[BlueprintFile | Unreadable, ...]:
        """What is there now, ordered by file name. Raises SettingsError for a folder that cannot be read."""
        seen: dict[Path, tuple[tuple[int, int, int], BlueprintFile | Unreadable]] = {}
        try:
            paths = sorted(self.folder.iterdir())
        except FileNotFoundError:
            paths = []
        except OSError as error:
            raise SettingsError(f"{self.folder}: cannot be read ({error.strerror})") from error
        for path in paths:
            if path.suffix not in {".yaml", ".yml"} or path.name.startswith("."):
                continue
            try:
                status = path.stat()
            except OSError as error:
                seen[path] = ((0, 0, 0), Unreadable(path, f"{path}: cannot be read ({error.strerror})"))
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # a FIFO would block
                reason = f"{path}: expected a file of at most {MAX_BYTES:,} bytes"
                seen[path] = ((0, 0, 0), Unreadable(path, reason))
                continue
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            before = self._read.get(path)
            seen[path] = before if before is not None and before[0] == stamp else (stamp, read_file(path))
        self._read = seen
        return tuple(found for _, found in seen.values())


def read_file(path: Path) -> BlueprintFile | Unreadable:
    """Read one file."""
    try:
        values = read_yaml(path)
        return BlueprintFile(path, values, read_blueprint(values, str(path)))
    except SettingsError as error:
        return Unreadable(path, str(error))
