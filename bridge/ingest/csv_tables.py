"""CSV as Arrow record batches: a column has a type only where that type writes each of its texts again.

A field is text. It becomes a number, a date or a boolean only if every field of its column, written again
from that type, is the same text: `007`, `0x1F`, `1e5`, `+1`, ` 1`, `NaN` and an integer beyond 64 bits stay
text. `1.50` beside `2.25` is a decimal of that scale. Columns whose bytes are not UTF-8 are binary.

An empty field is null in a column that has a type. In a text column it is the empty text, unless the file
tells the two apart by quotes (`""`): then what stands without them is null.

The table is read twice, a piece at a time: for the types, then for the values.
"""

import io
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.csv as csv

_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_SHORT_BYTES: Final = 64 << 10
_DECIMAL: Final = re.compile(r"-?\d+\.(\d+)")
_DECIMAL_DIGITS: Final = 38
_FIRST_ROWS: Final = 100


class _Candidate(NamedTuple):
    """A type that a column may have, and how its values are written."""

    type: pa.DataType
    write: Callable[[pa.Array], pa.Array]

    def writes_again(self, texts: pa.StringArray) -> bool:
        """Return whether values of this type write the same texts again."""
        # A cast that fails costs as much as one that does not: the first rows refute most.
        return self._fits(texts.slice(0, _FIRST_ROWS)) and self._fits(texts)

    def _fits(self, texts: pa.StringArray) -> bool:
        try:
            return bool(self.write(texts.cast(self.type)).equals(texts))
        except pa.ArrowInvalid:
            return False


def _as_arrow(values: pa.Array) -> pa.Array:
    return values.cast(pa.string())


def _as_short(values: pa.Array) -> pa.Array:
    """Floating point as Arrow writes it: `1`, `1e-7`."""
    _check_finite(values)
    return _as_arrow(values)


def _as_python(values: pa.Array) -> pa.Array:
    """Floating point as Python and pandas write it: `1.0`, `1e-07`."""
    _check_finite(values)
    return pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.string())


def _check_finite(values: pa.Array) -> None:
    if compute.all(compute.is_finite(values)).as_py() is False:
        raise pa.ArrowInvalid("`nan` and `inf` are text")


def _as_iso(values: pa.Array) -> pa.Array:
    return compute.replace_substring(_as_arrow(values), " ", "T")


_CANDIDATES: Final = (
    _Candidate(pa.int64(), _as_arrow),
    _Candidate(pa.uint64(), _as_arrow),
    _Candidate(pa.float64(), _as_short),
    _Candidate(pa.float64(), _as_python),
    _Candidate(pa.bool_(), _as_arrow),
    _Candidate(pa.date32(), _as_arrow),
    _Candidate(pa.timestamp("s"), _as_arrow),
    _Candidate(pa.timestamp("s"), _as_iso),
)


class _Column:
    """Type inference for one column, from the rows seen so far."""

    def __init__(self) -> None:
        self._candidates: list[_Candidate] = []
        self._is_utf8 = True
        self._has_values = False
        self._quotes_empty = False

    def see(self, fields: pa.BinaryArray) -> None:
        """Take more rows in."""
        if fields.null_count == len(fields):
            return
        self._quotes_empty = self._quotes_empty or compute.min(compute.binary_length(fields)).as_py() == 0
        try:
            texts = fields.cast(pa.string())
        except pa.ArrowInvalid:
            self._is_utf8, self._candidates, self._has_values = False, [], True
            return
        if not self._has_values:
            self._has_values = True
            self._candidates = [*_CANDIDATES, *_decimal(texts)]
        self._candidates = [each for each in self._candidates if each.writes_again(texts)]

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        if not self._has_values:
            return pa.null()
        if not self._is_utf8:
            return pa.binary()
        return self._candidates[0].type if self._candidates else pa.string()

    def values(self, fields: pa.BinaryArray) -> pa.Array:
        """The fields in the column's type."""
        kind = self.type
        if pa.types.is_null(kind):
            return pa.nulls(len(fields))
        if kind in (pa.string(), pa.binary()):
            filled = fields if self._quotes_empty else fields.fill_null(b"")
            return filled.cast(kind)
        return fields.cast(pa.string()).cast(kind)


def read_csv(table: BinaryIO, piece_bytes: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema, and the rows in pieces. Raises ArrowException, UnicodeError."""
    if _is_blank(table):
        return pa.schema([]), iter(())
    table = _last_line_ended(table)
    with _open(table, piece_bytes) as reader:
        names: list[str] = reader.schema.names
        columns = [_Column() for _ in names]
        for batch in reader:
            for column, fields in zip(columns, batch.columns, strict=True):
                column.see(fields)
    schema = pa.schema([pa.field(name, column.type) for name, column in zip(names, columns, strict=True)])
    return schema, _batches(table, piece_bytes, schema, columns)


def _last_line_ended(table: BinaryIO) -> BinaryIO:
    """A short table with an end of its last line, which Arrow wants where that is the only one."""
    table.seek(0)
    head = table.read(_SHORT_BYTES)
    if len(head) == _SHORT_BYTES or head.rstrip(b"\0").endswith((b"\r", b"\n")) or head.count(b'"') % 2:
        return table
    return io.BytesIO(head + {_UTF_16[0]: b"\n\0", _UTF_16[1]: b"\0\n"}.get(head[:2], b"\n"))


def _is_blank(table: BinaryIO) -> bool:
    table.seek(0)
    head = table.read(_SHORT_BYTES)
    codec = "utf-16" if head[:2] in _UTF_16 else "utf-8-sig"
    return not head.decode(codec, "replace").strip("\r\n")


def _batches(
    table: BinaryIO, piece_bytes: int, schema: pa.Schema, columns: list[_Column]
) -> Iterator[pa.RecordBatch]:
    with _open(table, piece_bytes) as reader:
        for batch in reader:
            values = [column.values(fields) for column, fields in zip(columns, batch.columns, strict=True)]
            yield pa.RecordBatch.from_arrays(values, schema=schema)


def _open(table: BinaryIO, piece_bytes: int) -> csv.CSVStreamingReader:
    table.seek(0)
    encoding = "utf-16" if table.read(2) in _UTF_16 else "utf8"
    table.seek(0)
    return csv.open_csv(
        table,
        read_options=csv.ReadOptions(block_size=piece_bytes, encoding=encoding),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            default_column_type=pa.binary(),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            check_utf8=False,
        ),
    )


def _decimal(texts: pa.StringArray) -> Iterator[_Candidate]:
    """A decimal with the scale of the first text, if that has one."""
    first = next(text for text in texts.to_pylist() if text is not None)
    found = _DECIMAL.fullmatch(first)
    if found is not None and len(found[1]) <= _DECIMAL_DIGITS:
        yield _Candidate(pa.decimal128(_DECIMAL_DIGITS, len(found[1])), _as_arrow)
