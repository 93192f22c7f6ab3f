"""JSON lines as Arrow record batches: a column has a type only where that type gives each value back.

Each top-level member of the objects is a column. Numbers become numbers only where they write the same text
again (`1e5`, `1.50`, `-0` and integers beyond 64 bits do not), strings stay strings, and objects become
structs only where all of them have the same members: a struct cannot tell a member that is missing from one
that is null. A column that no type gives back holds the JSON text of its values (`arrow.json`).

A null in a column means the value null, and in a column whose field says `agentfactory.null: missing`, or
that holds JSON text, a member that the object does not have.

A member that is text in one line and a number in another is an error, as is one that stands twice in an
object. The table is read twice, a piece at a time: for the types, then for the values.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Self

import pyarrow as pa
from pydantic import JsonValue

NULL_MEANS: Final = b"agentfactory.null"
MISSING: Final = b"missing"

_INT64_MAX, _UINT64_MAX = (1 << 63) - 1, (1 << 64) - 1
_DEPTH: Final = 24
"""Of arrays and objects in a type; what is deeper is JSON text (Arrow's readers take 64)."""
_EXACT_DOUBLE: Final = 1 << 53
_BOM: Final = b"\xef\xbb\xbf"

Row = dict[str, JsonValue]


class _Verbatim(str):
    """A number whose text no number writes again."""

    __slots__ = ()


# What decides on the type of a column of numbers: bits of `_Shape.marks`.
_INTEGER, _NEGATIVE, _FRACTION, _VERBATIM = 1, 2, 4, 8
_BEYOND_DOUBLE = 16
"""An integer that floating point cannot hold exactly."""
_BEYOND_INT64 = 32
_POINTED = 64
"""Floating point that is written with `.0`."""


@dataclass(slots=True)
class _Shape:
    """Type inference for the values at one path."""

    path: str
    depth: int = 0
    kind: str = "null"
    broken: bool = False
    """Whether no Arrow type can give all values back, whatever follows."""
    marks: int = 0
    items: "_Shape | None" = None
    members: "dict[str, _Shape] | None" = None

    def see(self, value: JsonValue) -> None:
        """Take a value in. Raises ArrowInvalid if it is of another kind than those before."""
        if value is None:
            return
        kind = _KINDS[type(value)]
        self._set_kind(kind)
        if self.broken:
            return
        if kind == "number":
            self.marks |= _marks_of(value)
        elif isinstance(value, str):
            self.broken = not _is_unicode(value)
        elif self.depth > _DEPTH:
            self.broken = True
        elif isinstance(value, dict):
            self._see_members(value)
        elif isinstance(value, list):
            self.items = self.items or _Shape(f"{self.path}/[]", self.depth + 1)
            for item in value:
                self.items.see(item)

    def _set_kind(self, kind: str) -> None:
        if self.kind not in ("null", kind):
            change = f"changed from {self.kind} to {kind}"
            raise pa.ArrowInvalid(f"JSON parse error: Column({self.path}) {change}")
        self.kind = kind

    def _see_members(self, value: Row) -> None:
        if self.members is None:
            self.members = {name: _Shape(f"{self.path}/{name}", self.depth + 1) for name in value}
            self.broken = not value or not all(map(_is_unicode, value))
        if self.broken or self.members.keys() != value.keys():
            self.broken, self.members = True, {}
            return
        for name, member in value.items():
            self.members[name].see(member)

    @property
    def typed(self) -> bool:
        """True if an Arrow type gives all values back."""
        if self.broken or (self.kind == "number" and self._number_type() is None):
            return False
        parts = [*(self.members or {}).values(), *([self.items] if self.items else [])]
        return all(part.typed for part in parts)

    def _number_type(self) -> pa.DataType | None:
        marks = self.marks
        if marks & _VERBATIM:
            return None
        if not marks & (_FRACTION | _POINTED):
            if not marks & _BEYOND_INT64:
                return pa.int64()
            return None if marks & _NEGATIVE else pa.uint64()
        if marks & _INTEGER and marks & (_POINTED | _BEYOND_DOUBLE):
            return None
        return pa.float64()

    def arrow_type(self) -> pa.DataType:
        """The type, of what is `typed`."""
        if self.kind == "array":
            return pa.list_(self.items.arrow_type() if self.items else pa.null())
        if self.kind == "object":
            members = self.members or {}
            return pa.struct([pa.field(name, shape.arrow_type()) for name, shape in members.items()])
        if self.kind == "number":
            return self._number_type()
        return {"null": pa.null(), "boolean": pa.bool_(), "string": pa.string()}[self.kind]


@dataclass(slots=True)
class _Column:
    """A top-level member of the rows."""

    shape: _Shape
    rows: int = 0
    """That have the member."""
    nulls: int = field(default=0)

    def see(self, value: JsonValue) -> None:
        self.rows += 1
        self.nulls += value is None
        self.shape.see(value)

    def is_json(self, rows: int) -> bool:
        """Return whether it holds JSON text, in a table of so many rows."""
        return not self.shape.typed or bool(self.nulls and self.rows < rows)

    def arrow_field(self, name: str, rows: int) -> pa.Field:
        kind = pa.json_() if self.is_json(rows) else self.shape.arrow_type()
        means = {NULL_MEANS: MISSING} if self.rows < rows and not self.is_json(rows) else None
        return pa.field(name, kind, metadata=means)


class _Columns(dict[str, _Column]):
    """All columns of a table, by name, and how many rows it has."""

    rows = 0

    @classmethod
    def of(cls, pieces: "Iterator[list[Row]]") -> Self:
        """Of all rows."""
        columns = cls()
        for piece in pieces:
            for row in piece:
                for name, value in row.items():
                    if name not in columns:
                        columns[name] = _Column(_Shape(f"/{name}"))
                    columns[name].see(value)
            columns.rows += len(piece)
        return columns

    def batch(self, rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
        """Rows as a record batch."""
        if not self:  # a batch without columns has rows all the same
            return pa.RecordBatch.from_struct_array(pa.array(rows, pa.struct([])))
        arrays = [
            _json_texts(rows, name)
            if column.is_json(self.rows)
            else pa.array([row.get(name) for row in rows], column.shape.arrow_type())
            for name, column in self.items()
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def read_json_lines(table: BinaryIO, piece_bytes: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema, and the rows in pieces. Raises ArrowInvalid, UnicodeError."""
    columns = _Columns.of(_pieces(table, piece_bytes))
    schema = pa.schema([column.arrow_field(name, columns.rows) for name, column in columns.items()])
    return schema, (columns.batch(rows, schema) for rows in _pieces(table, piece_bytes))


def _pieces(table: BinaryIO, piece_bytes: int) -> Iterator[list[Row]]:
    number = 0
    for piece in _whole_lines(table, piece_bytes):
        rows: list[Row] = []
        for line in piece.split(b"\n"):
            number += 1
            if line.strip():
                rows.append(_row(line, number))
        yield rows


def _whole_lines(table: BinaryIO, piece_bytes: int) -> Iterator[bytes]:
    """The table in pieces that end before the end of a line."""
    table.seek(0)
    left = b"" if table.read(len(_BOM)) == _BOM else None
    if left is None:
        table.seek(0)
        left = b""
    while chunk := table.read(piece_bytes):
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            yield left + head
            left = tail
        else:
            left += tail
        if len(left) > piece_bytes:
            raise pa.ArrowInvalid(f"a line is longer than {piece_bytes} bytes")
    yield left


def _row(line: bytes, number: int) -> Row:
    try:
        row: JsonValue = _DECODER.decode(line.decode())
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise pa.ArrowInvalid(f"JSON parse error: {error} in line {number}") from error
    if not isinstance(row, dict):
        raise pa.ArrowInvalid(f"JSON parse error: expected an object in line {number}")
    return row


def _members(pairs: list[tuple[str, JsonValue]]) -> Row:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member {twice!r} stands twice")
    return members


def _integer(text: str) -> int | _Verbatim:
    value = int(text) if len(text) <= len(str(_UINT64_MAX)) else None
    return value if value is not None and str(value) == text else _Verbatim(text)


def _floating(text: str) -> float | _Verbatim:
    value = float(text)
    return value if repr(value) == text else _Verbatim(text)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members, parse_int=_integer, parse_float=_floating)


_KINDS: Final[dict[type, str]] = {
    bool: "boolean",
    int: "number",
    float: "number",
    _Verbatim: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _marks_of(value: JsonValue) -> int:
    if isinstance(value, int):
        if 0 <= value <= _EXACT_DOUBLE:
            return _INTEGER
        if not -_INT64_MAX - 1 <= value <= _UINT64_MAX:
            return _VERBATIM
        beyond = (_NEGATIVE if value < 0 else 0) | (_BEYOND_INT64 if value > _INT64_MAX else 0)
        return _INTEGER | beyond | (_BEYOND_DOUBLE if abs(value) > _EXACT_DOUBLE else 0)
    if isinstance(value, float):
        return _POINTED if repr(value).endswith(".0") else _FRACTION
    return _VERBATIM


def _is_unicode(text: str) -> bool:
    """Return whether it can be encoded: no lone surrogates."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _json_texts(rows: list[Row], name: str) -> pa.Array:
    texts = [_text(row[name]) if name in row else None for row in rows]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def _text(value: JsonValue) -> str:
    """A value as JSON, its numbers as they stood there."""
    match value:
        case _Verbatim():
            return str(value)
        case dict():
            return (
                "{"
                + ", ".join(f"{_text(str(name))}: {_text(member)}" for name, member in value.items())
                + "}"
            )
        case list():
            return "[" + ", ".join(map(_text, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=not _is_unicode(value))
    return json.dumps(value)
