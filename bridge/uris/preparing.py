"""What is made of blobs to be before any is stored: checked, converted, labelled. All of it blocks."""

import hashlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ...configs.errors import CannotWrite
from ...messages.blobs import BlobMeta
from ...messages.data import Format
from .. import formats
from .content import ARROW_FILE, CONTENT_TYPES
from .sources import CHUNK_BYTES, FileSource, PlannedBlob, StoredSource, file_source
from .uri import shown


class LazyFolder:
    """A temporary folder that is made when it is first needed, and ends with the stack."""

    def __init__(self, stack: ExitStack, parent: str) -> None:
        self._stack = stack
        self._parent = parent or None
        self._path: Path | None = None
        self._files = 0

    def next_path(self) -> Path:
        """A path that nobody has been given yet. Raises CannotWrite."""
        if self._path is None:
            try:
                made = tempfile.TemporaryDirectory(prefix="agentfactory-", dir=self._parent)
            except OSError as error:
                raise CannotWrite(f"no temporary folder can be made: {error}") from error
            self._path = Path(self._stack.enter_context(made))
        self._files += 1
        return self._path / str(self._files)


def is_table(blob: PlannedBlob) -> bool:
    """Whether `arrow` converts it: a table by its name, and not an array that is only called like one."""
    return not blob.meta.dtype and blob.meta.content_type != ARROW_FILE and formats.is_table(blob.name)


def relabelled(blob: PlannedBlob, form: Format) -> PlannedBlob:
    """The blob with the content type that it has in this format, if its bytes stay."""
    if form in ("arrow", "binary") or (blob.meta.dtype and form != "text"):
        return blob
    kind = formats.text_type(blob.name) if form == "text" else CONTENT_TYPES[form]
    return replace(blob, meta=blob.meta.model_copy(update={"content_type": kind}))


def check_texts(blobs: Sequence[PlannedBlob]) -> None:
    """Raises BadContent at the first that is not UTF-8, SourceChanged."""
    for blob in blobs:
        assert not isinstance(blob.source, StoredSource)
        formats.check_text(blob.source.chunks(), blob.uri)


def converted(blob: PlannedBlob, path: Path) -> PlannedBlob:
    """The table as an Arrow file at `path`. Raises BadContent, SourceChanged, CannotWrite."""
    try:
        with open(path, "w+b") as out, _seekable(blob) as table:
            formats.to_arrow(blob.name, table, out, blob.uri)
            original = _sha256(table)
        source = temporary_source(path, blob.uri)
    except OSError as error:
        raise CannotWrite(f"{shown(blob.uri)} could not be converted: {error}") from error
    meta = BlobMeta(content_type=ARROW_FILE, source=blob.uri, original=original)
    return PlannedBlob(blob.name, meta, source, blob)


def temporary_source(path: Path, uri: str) -> FileSource:
    """A file of our own that stands for what the URI names."""
    source = file_source(str(path.resolve()), uri)
    assert source is not None
    return source


def _sha256(table: BinaryIO) -> str:
    digest = hashlib.sha256()
    table.seek(0)
    while chunk := table.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _seekable(blob: PlannedBlob) -> Iterator[BinaryIO]:
    if isinstance(blob.source, FileSource):
        with blob.source.open() as file:
            yield file
    else:
        assert not isinstance(blob.source, StoredSource)
        yield io.BytesIO(b"".join(blob.source.chunks()))
