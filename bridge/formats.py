"""What is made of a blob's bytes before they are stored, by format.

- `arrow` turns tables into Arrow IPC files: CSV, JSON lines and Parquet, recognised by the suffix of the
  name (`.csv`, `.jsonl`, `.ndjson`, `.parquet`). The name stays; the content type says what it is now.
  Anything else keeps its bytes and its own content type, under `arrow` too. A table that is broken is an
  error, never kept as bytes.
- `binary` keeps the bytes.
- `text` keeps the bytes and wants them to be UTF-8.
- `csv`, `json`, `markdown` and `parquet` keep the bytes, and the content type says what they are.

Tables of up to `WHOLE_TABLE_BYTES` are read at once, and the types of their columns follow from all rows.
A larger one is converted piece by piece, and read twice where that is what its types take: a CSV column
that turns out not to hold what its first rows promised becomes floating point, and then text; JSON lines
get the columns that all of their lines have between them. Columns that Parquet keeps as dictionaries are
written out in full, since an Arrow file has room for one dictionary only. CSV columns whose values are
not UTF-8 are binary; a header that is not UTF-8 is an error.
"""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from bridge.uris.content import CSV, JSON_LINES, PARQUET, TEXT, content_type_of
from bridge.uris.uri import shown
from configs.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE_TABLE_BYTES = 32 << 20
"""Larger CSV and JSON lines are converted piece by piece."""
PIECE_BYTES = 8 << 20
"""Of a table that is converted piece by piece; no line may be longer."""
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
    except (pa.ArrowException, UnicodeError) as error:
        raise _bad(what, kind, error) from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's, not the table's
        raise _bad(what, kind, error) from error


def _bad(what: str, kind: str, error: Exception) -> BadContent:
    reason = str(error).splitlines()[0]
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
    import pyarrow as pa
    import pyarrow.csv as csv

    size = _size(table)
    if not size:
        return _write(out, pa.schema([]), ())
    parse = csv.ParseOptions(newlines_in_values=True)
    read = csv.ReadOptions(block_size=PIECE_BYTES)
    if size <= WHOLE_TABLE_BYTES:
        whole = csv.read_csv(table, read_options=read, parse_options=parse)
        return _write(out, whole.schema, whole.to_batches())
    types: dict[str, pa.DataType] = {}
    while True:
        table.seek(0)
        convert = csv.ConvertOptions(column_types=types)
        reader = csv.open_csv(table, read_options=read, parse_options=parse, convert_options=convert)
        try:
            return _write(out, reader.schema, reader)
        except pa.ArrowInvalid as error:
            widened = _wider_column(str(error), reader.schema, types)
            if widened is None:
                raise
            types |= widened


def _wider_column(
    complaint: str, schema: "pa.Schema", tried: "dict[str, pa.DataType]"
) -> "dict[str, pa.DataType] | None":
    """The column that a value did not fit into, and the next type to try; None if that is not why."""
    import pyarrow as pa

    found = re.match(r"In CSV column #(\d+):.* conversion error to ", complaint)
    if found is None:
        return None
    field = schema.field(int(found[1]))
    if tried.get(field.name) == pa.string():
        return None
    wider = {pa.null(): pa.int64(), pa.int64(): pa.float64()}.get(field.type, pa.string())
    return {field.name: wider}


def _from_json_lines(table: BinaryIO, out: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.json as json

    size = _size(table)
    if not size:
        return _write(out, pa.schema([]), ())
    if size <= WHOLE_TABLE_BYTES:
        whole = json.read_json(table, read_options=json.ReadOptions(block_size=PIECE_BYTES))
        return _write(out, whole.schema, whole.to_batches())
    schema = pa.schema([])
    for piece in _whole_lines(table):
        schema = _union(schema, _parse_lines(piece, None).schema)
    table.seek(0)
    pieces = (_parse_lines(piece, schema) for piece in _whole_lines(table))
    return _write(out, schema, (batch for parsed in pieces for batch in parsed.to_batches()))


def _parse_lines(piece: bytes, schema: "pa.Schema | None") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.json as json

    read = json.ReadOptions(block_size=len(piece) + 1)
    parse = json.ParseOptions(explicit_schema=schema)
    return json.read_json(pa.BufferReader(piece), read_options=read, parse_options=parse)


def _whole_lines(table: BinaryIO) -> Iterator[bytes]:
    """The table in pieces that end where a line ends."""
    import pyarrow as pa

    left = b""
    while chunk := table.read(PIECE_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield left + chunk[:end]
            left = chunk[end:]
        else:
            left += chunk
        if len(left) > PIECE_BYTES:
            raise pa.ArrowInvalid(f"a line is longer than {PIECE_BYTES} bytes")
    if left.strip():
        yield left


def _union(one: "pa.Schema", other: "pa.Schema") -> "pa.Schema":
    """The columns of both. What is a time in one and text in the other is text."""
    import pyarrow as pa

    try:
        return pa.unify_schemas([one, other], promote_options="permissive")
    except pa.ArrowException:
        timeless = [
            pa.schema([f.with_type(pa.string()) if pa.types.is_timestamp(f.type) else f for f in schema])
            for schema in (one, other)
        ]
        return pa.unify_schemas(timeless, promote_options="permissive")


def _from_parquet(table: BinaryIO, out: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(table, pre_buffer=False) as file:
        fields = [
            field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
            for field in file.schema_arrow
        ]
        schema = pa.schema(fields, metadata=file.schema_arrow.metadata)
        batches = (_without_dictionaries(batch, schema) for batch in file.iter_batches(batch_size=ROWS))
        _write(out, schema, batches)


def _without_dictionaries(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _size(table: BinaryIO) -> int:
    size = table.seek(0, io.SEEK_END)
    table.seek(0)
    return size


_CONVERTERS = {CSV: _from_csv, JSON_LINES: _from_json_lines, PARQUET: _from_parquet}
_NAMES = {CSV: "CSV", JSON_LINES: "JSON lines", PARQUET: "Parquet"}
