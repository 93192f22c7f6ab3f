"""What a file was before: each content that it ever had, under a number that only grows.

.versions/<name>/0001.yaml
"""

from pathlib import Path

from .errors import BadInput, CannotWrite
from .files import write_atomically


class Revisions:
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
