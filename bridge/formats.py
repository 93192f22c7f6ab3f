"""What is made of a blob's bytes before they are stored, by format.

- `arrow` turns tables into Arrow IPC files: CSV, JSON lines and Parquet, recognised by the suffix of the
  name (`.csv`, `.jsonl`, `.ndjson`, `.parquet`). The name stays; the content type says what it is now.
  Anything else keeps its bytes and its own content type, under `arrow` too. A table that is broken is an
  error, never kept as bytes.
- `binary` keeps the bytes.
- `text` keeps the bytes and wants them to be UTF-8.
- `csv`, `json`, `markdown` and `parquet` keep the bytes, and the content type says what they are.

What a table holds comes back as it was: text stays text where a number would not write the same text
again, and an object keeps the members that it has (`bridge.csv_tables`, `bridge.json_tables`). What no table
can give back byte for byte (quotes, line ends, the order of members) the original has, which is stored
beside it (`bridge.originals`).

Tables are converted piece by piece, CSV and JSON lines in two readings. Columns that Parquet keeps as
dictionaries are written out in full, since an Arrow file has room for one dictionary only. A CSV header that
is not UTF-8 is an error.
"""

import codecs
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

from ..configs.errors import BadInput
from ..configs.printable import printable
from .uris.content import CSV, JSON_LINES, PARQUET, TEXT, content_type_of
from .uris.uri import shown

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_BYTES = 8 << 20
"""Of a table that is converted; no line may be longer."""
ROWS = 64 << 10
"""Rows of one Arrow record batch."""


class BadContent(BadInput):
    """A blob is not of the format that its name or the request says."""


def is_table(name: str) -> bool:
    """Whether `arrow` converts what has this name."""
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
            f"{shown(what)} is not UTF-8 near byte {where}: {error.reason}; use `binary`"
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
    return BadContent(f"{shown(what)} cannot be read as {_NAMES[kind]}: {reason}; fix it or use `binary`")


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
