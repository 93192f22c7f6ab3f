"""Tables with pyarrow: what a process of the data_view tool does.

Only for `runtime.tools.builtin.data_view`, which runs it in killable, memory-limited processes: the bytes are
whatever a model or the web wrote, and pyarrow's readers are large. The walls allow no
threads, and so none of pyarrow's readers that start some: its CSV and JSON ones among them.
"""

import base64
import csv
import io
import json
import os
from collections.abc import Callable
from typing import Final, NoReturn

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from ...sandbox.inside.fork_server import Job, serve
from ...sandbox.inside.protocol import Ending, Setup

_CELL_CHARACTERS: Final = 60
_MAX_COLUMNS: Final = 60
_DELIMITERS: Final = (",", ";", "\t", "|")
_CSV_TYPES: Final = (pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.timestamp("s"))


def _read_csv(data: bytes) -> pa.Table:
    text = data.decode("utf-8-sig")
    if not text.strip():
        raise ValueError("it is empty")
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    names, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    wrong = next((number for number, row in enumerate(rows, start=2) if row and len(row) != len(names)), None)
    if wrong is not None:
        raise ValueError(f"row {wrong} has {len(rows[wrong - 2])} fields, the first has {len(names)}")
    columns = zip(*filter(None, rows), strict=True) if any(rows) else ((),) * len(names)
    return pa.table([_typed(list(column)) for column in columns], names=names)


def _typed(values: list[str]) -> pa.Array:
    """The narrowest type that fits all values; an empty one is missing."""
    column = pa.array([value if value.strip() else None for value in values], pa.string())
    for kind in _CSV_TYPES:
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _read_json_lines(data: bytes) -> pa.Table:
    return _table_of([json.loads(line) for line in data.decode().splitlines() if line.strip()])


def _read_json(data: bytes) -> pa.Table:
    """A list of objects; anything else is read line by line."""
    return _table_of(json.loads(data)) if data.lstrip().startswith(b"[") else _read_json_lines(data)


def _table_of(rows: list[object]) -> pa.Table:
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected objects")
    names = dict.fromkeys(name for row in rows for name in row)  # type: ignore[attr-defined]
    columns = [pa.array([row.get(name) for row in rows]) for name in names]  # type: ignore[attr-defined]
    return pa.table(columns, names=list(names))


def _read_parquet(data: bytes) -> pa.Table:
    return pyarrow.parquet.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def _read_arrow(data: bytes) -> pa.Table:
    source, options = pa.BufferReader(data), pyarrow.ipc.IpcReadOptions(use_threads=False)
    if data.startswith(b"ARROW1"):
        reader = pyarrow.ipc.open_file(source, options=options)
        return pa.Table.from_batches(
            (reader.get_batch(number) for number in range(reader.num_record_batches)), reader.schema
        )
    return pa.Table.from_batches(list(pyarrow.ipc.open_stream(source, options=options)))


READERS: Final[dict[str, Callable[[bytes], pa.Table]]] = {
    "csv": _read_csv, "json": _read_json, "jsonl": _read_json_lines, "parquet": _read_parquet,
    "arrow": _read_arrow,
}  # fmt: skip


def look(data: bytes, kind: str, rows: int, operation: str = "head") -> str:
    """A table's shape, columns and first or last rows; `shape` and `columns` show no rows."""
    table = READERS[kind](data)
    size = f"{table.num_rows} rows, {table.num_columns} columns"
    if operation == "shape":
        return size
    columns = [
        f"{field.name}: {field.type}" + (f" ({column.null_count} missing)" if column.null_count else "")
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    shown = [", ".join(columns[:_MAX_COLUMNS])]
    if len(columns) > _MAX_COLUMNS:
        shown.append(f"and {len(columns) - _MAX_COLUMNS} more columns")
    if operation == "columns":
        return "\n".join((size, *shown))
    first = max(0, table.num_rows - rows) if operation == "tail" else 0
    part = table.select(range(min(len(columns), _MAX_COLUMNS))).slice(first, rows)
    lines = [" | ".join(_cell(value) for value in row.values()) for row in part.to_pylist()]
    return "\n".join((size, *shown, *lines))


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 1]}…"


def view(text: str) -> Ending:
    """One job in a child: a JSON list [base64, kind, rows, operation] in, lines out."""
    encoded, kind, rows, operation = json.loads(text)
    try:
        shown = look(base64.b64decode(encoded), kind, rows, operation)
    except MemoryError:
        return "memory"
    except (
        pa.ArrowException,
        ArithmeticError,
        ValueError,
        TypeError,
        OSError,
        RecursionError,
        KeyError,
    ) as error:
        os.write(1, f"this is no {kind} that can be read: {error}"[:400].encode())
        return "error"
    os.write(1, shown.encode("utf-8", "backslashreplace"))
    return "ok"


def prepare(_: Setup) -> Job:
    """Read a sample of each kind: what pyarrow loads late is then there before the first fork."""
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pyarrow.parquet.write_table(table, parquet)
    with pyarrow.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    samples = {
        "csv": b"a,b\n1,x\n", "json": b'[{"a": 1}]', "jsonl": b'{"a": 1}\n', "parquet": parquet.getvalue(),
        "arrow": arrow.getvalue(),
    }  # fmt: skip
    for kind, data in samples.items():
        look(data, kind, 1)
    return view


def main() -> NoReturn:
    """Be the data_view tool's server."""
    serve(prepare)
