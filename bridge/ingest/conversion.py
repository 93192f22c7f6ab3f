"""Conversion, checking and labelling of a blob's bytes before they are stored, by format. All of it blocks.

- `arrow` turns tables into Arrow IPC files: CSV, JSON lines and Parquet, recognised by the suffix of the
  name (`.csv`, `.jsonl`, `.ndjson`, `.parquet`). The name stays; the content type says what it is now.
  Anything else keeps its bytes and its own content type, under `arrow` too. A table that is broken is an
  error, never kept as bytes.
- `binary` keeps the bytes.
- `text` keeps the bytes and wants them to be UTF-8.
- `csv`, `json`, `markdown` and `parquet` keep the bytes, and the content type says what they are.

What a table holds comes back as it was: text stays text where a number would not write the same text
again, and an object keeps the members that it has (`csv_tables`, `json_tables`). What no table can give back
byte for byte (quotes, line ends, the order of members) the original has, which is stored beside it
(`original_tag`).

Tables are converted piece by piece, CSV and JSON lines in two readings. Columns that Parquet keeps as
dictionaries are written out in full, since an Arrow file has room for one dictionary only. A CSV header that
is not UTF-8 is an error.
"""

import codecs
import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...configs.errors import BadInput, CannotWrite
from ...configs.printable import printable
from ...messages.data import BlobMeta, Format
from .content_types import ARROW_FILE, CONTENT_TYPES, CSV, JSON_LINES, PARQUET, TEXT, content_type_of
from .sources import CHUNK_BYTES, FileSource, PendingBlob, StoredSource, file_source
from .uri import printable_uri

if TYPE_CHECKING:
    import pyarrow as pa


PIECE_BYTES = 8 << 20
"""Of a table that is converted; no line may be longer."""
ROWS = 64 << 10
"""Rows of one Arrow record batch."""


class BadContent(BadInput):
    """A blob is not of the format that its name or the request says."""


def is_table_name(name: str) -> bool:
    """Return whether `arrow` converts a blob of this name."""
    return content_type_of(name) in _CONVERTERS


def text_type(name: str) -> str:
    """The content type of a text of this name."""
    known = content_type_of(name, TEXT)
    return known if known.startswith("text/") else TEXT


def check_text(chunks: Iterable[bytes], what: str) -> None:
    """Raises BadContent unless the bytes are UTF-8. `what` is how the error names them."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    try:
        for chunk in chunks:
            decoder.decode(chunk)
            offset += len(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # `offset` counts what was given before; what the decoder had kept of it lies before that
        where = offset + error.start
        raise BadContent(
            f"{printable_uri(what)} is not UTF-8 near byte {where}: {error.reason}; use `binary`"
        ) from error


def to_arrow(name: str, table: BinaryIO, out: BinaryIO, what: str) -> None:
    """Write the table (seekable) as an Arrow IPC file. Raises BadContent."""
    import pyarrow as pa

    kind = content_type_of(name)
    try:
        _CONVERTERS[kind](table, out)
    except (pa.ArrowException, UnicodeError, RecursionError) as error:
        raise _bad(what, kind, error) from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's, not the table's
        raise _bad(what, kind, error) from error


def _bad(what: str, kind: str, error: Exception) -> BadContent:
    reason = printable(str(error).splitlines()[0])
    return BadContent(
        f"{printable_uri(what)} cannot be read as {_NAMES[kind]}: {reason}; fix it or use `binary`"
    )


def _write(out: BinaryIO, schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]") -> None:
    """One Arrow file, from the start of `out`."""
    import pyarrow as pa

    _ = schema.names  # a name that is not UTF-8 is an error now, not for whoever reads the file
    out.seek(0)
    out.truncate()
    with pa.ipc.new_file(out, schema) as writer:
        for batch in batches:
            for offset in range(0, batch.num_rows, ROWS):
                writer.write_batch(batch.slice(offset, ROWS))


def _from_csv(table: BinaryIO, out: BinaryIO) -> None:
    from .csv_tables import read_csv

    _write(out, *read_csv(table, PIECE_BYTES))


def _from_json_lines(table: BinaryIO, out: BinaryIO) -> None:
    from .json_tables import read_json_lines

    _write(out, *read_json_lines(table, PIECE_BYTES))


def _from_parquet(table: BinaryIO, out: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(table, pre_buffer=False) as file:
        fields = [field.with_type(_without_dictionaries(field.type)) for field in file.schema_arrow]
        schema = pa.schema(fields, metadata=file.schema_arrow.metadata)
        groups = range(file.num_row_groups)  # one by one: nested dictionaries differ between them
        read = (batch for group in groups for batch in file.iter_batches(ROWS, [group]))
        _write(out, schema, (_cast(batch, schema) for batch in read))


def _cast(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    columns = [
        column if column.type == kind else column.cast(kind)
        for column, kind in zip(batch.columns, schema.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _without_dictionaries(kind: "pa.DataType") -> "pa.DataType":
    """The type with its dictionaries' values in place of them, at any depth."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _without_dictionaries(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([field.with_type(_without_dictionaries(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind):
        item = kind.value_field.with_type(_without_dictionaries(kind.value_type))
        return pa.list_(item) if types.is_list(kind) else pa.large_list(item)
    return kind


_CONVERTERS = {CSV: _from_csv, JSON_LINES: _from_json_lines, PARQUET: _from_parquet}
_NAMES = {CSV: "CSV", JSON_LINES: "JSON lines", PARQUET: "Parquet"}


class LazyTempDir:
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


def is_table(blob: PendingBlob) -> bool:
    """Return whether `arrow` converts it: a table by name, and not an array."""
    return not blob.meta.dtype and blob.meta.content_type != ARROW_FILE and is_table_name(blob.name)


def with_content_type(blob: PendingBlob, form: Format) -> PendingBlob:
    """The blob with the content type that it has in this format, if its bytes stay."""
    if form in ("arrow", "binary") or (blob.meta.dtype and form != "text"):
        return blob
    kind = text_type(blob.name) if form == "text" else CONTENT_TYPES[form]
    return replace(blob, meta=blob.meta.model_copy(update={"content_type": kind}))


def check_texts(blobs: Sequence[PendingBlob]) -> None:
    """Raises BadContent at the first that is not UTF-8, SourceChanged."""
    for blob in blobs:
        assert not isinstance(blob.source, StoredSource)
        check_text(blob.source.chunks(), blob.uri)


def convert_table(blob: PendingBlob, path: Path) -> PendingBlob:
    """The table as an Arrow file at `path`. Raises BadContent, SourceChanged, CannotWrite."""
    try:
        with open(path, "w+b") as out, _seekable(blob) as table:
            to_arrow(blob.name, table, out, blob.uri)
            original = _sha256(table)
        source = temporary_source(path, blob.uri)
    except OSError as error:
        raise CannotWrite(f"{printable_uri(blob.uri)} could not be converted: {error}") from error
    meta = BlobMeta(content_type=ARROW_FILE, source=blob.uri, original=original)
    return PendingBlob(blob.name, meta, source, blob)


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
def _seekable(blob: PendingBlob) -> Iterator[BinaryIO]:
    if isinstance(blob.source, FileSource):
        with blob.source.open() as file:
            yield file
    else:
        assert not isinstance(blob.source, StoredSource)
        yield io.BytesIO(b"".join(blob.source.chunks()))
