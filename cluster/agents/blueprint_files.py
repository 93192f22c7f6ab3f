"""Files of a blueprint folder, also those that are no blueprint, and the history of each.

Each content that a file ever had is kept under a number that only grows: `.versions/<name>/0001.yaml`.
"""

import stat
from pathlib import Path
from typing import Final, NamedTuple

from ...configs.agents.blueprints import Blueprint, read_blueprint
from ...configs.errors import BadInput, CannotWrite, SettingsError
from ...configs.files import write_atomically
from ...configs.load import YamlValue, read_yaml

#
# .versions/<name>/0001.yaml
#

MAX_BYTES: Final = 1 << 20


class BlueprintFile(NamedTuple):
    """A file, read."""

    path: Path
    values: dict[str, YamlValue]
    """As the file has them."""
    blueprint: Blueprint


class InvalidBlueprint(NamedTuple):
    """A file that holds no blueprint."""

    path: Path
    reason: str
    """A sentence that names the file."""


class BlueprintFolder:
    """Looks into the folder each time it is asked; a file is read again once it has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[tuple[int, int, int], BlueprintFile | InvalidBlueprint]] = {}

    def look(self) -> tuple[BlueprintFile | InvalidBlueprint, ...]:
        """The files as they are now, by name. Raises SettingsError for a folder that cannot be read."""
        seen: dict[Path, tuple[tuple[int, int, int], BlueprintFile | InvalidBlueprint]] = {}
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
                seen[path] = ((0, 0, 0), InvalidBlueprint(path, f"{path}: cannot be read ({error.strerror})"))
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # a FIFO would block
                reason = f"{path}: expected a file of at most {MAX_BYTES:,} bytes"
                seen[path] = ((0, 0, 0), InvalidBlueprint(path, reason))
                continue
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            before = self._read.get(path)
            seen[path] = before if before is not None and before[0] == stamp else (stamp, read_file(path))
        self._read = seen
        return tuple(found for _, found in seen.values())


def read_file(path: Path) -> BlueprintFile | InvalidBlueprint:
    """Read one file."""
    try:
        values = read_yaml(path)
        return BlueprintFile(path, values, read_blueprint(values, str(path)))
    except SettingsError as error:
        return InvalidBlueprint(path, str(error))


class RevisionHistory:
    """The kept contents of the files of one folder. Whoever calls `keep` holds that folder's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, name: str, content: bytes) -> int:
        """Keep a content, unless it is the newest already; returns its number. Raises CannotWrite."""
        numbers = self.numbers(name)
        if numbers and self._path(name, numbers[-1]).read_bytes() == content:
            return numbers[-1]
        number = numbers[-1] + 1 if numbers else 1
        path = self._path(name, number)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"{path.parent}: cannot be written ({error.strerror})") from error
        write_atomically(path, content)
        return number

    def numbers(self, name: str) -> tuple[int, ...]:
        """Of all contents, the oldest first; none for a name that was never kept."""
        found = (path.stem for path in (self._folder / name).glob("*.yaml"))
        return tuple(sorted(int(stem) for stem in found if stem.isdecimal()))

    def path(self, name: str, number: int) -> Path:
        """The file of one content. Raises BadInput for one that is not kept."""
        numbers = self.numbers(name)
        if number not in numbers:
            known = f"it has {', '.join(map(str, numbers))}" if numbers else "none of it is kept"
            raise BadInput(f"{name} has no revision {number}; {known}")
        return self._path(name, number)

    def _path(self, name: str, number: int) -> Path:
        return self._folder / name / f"{number:04d}.yaml"
