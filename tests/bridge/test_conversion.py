"""What each format makes of the bytes."""

import errno
import io
import json

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest

from agentfactory.bridge.ingest import conversion
from agentfactory.bridge.ingest.conversion import BadContent, check_text, to_arrow


def arrow(name: str, data: bytes) -> pa.Table:
    out = io.BytesIO()
    to_arrow(name, io.BytesIO(data), out, f"file::{name}")
    return pa.ipc.open_file(out.getvalue()).read_all()


def error(name: str, data: bytes) -> str:
    with pytest.raises(BadContent) as caught:
        arrow(name, data)
    return str(caught.value)


@pytest.fixture
def piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "PIECE_BYTES", 256)
    monkeypatch.setattr(conversion, "ROWS", 10)


SPREAD = b"n,price,when,text,late\n" + b"".join(
    b"%d,%s,%s,%s,%s\n"
    % (n, b"1.5" if n > 90 else b"1", b"2026-01-02", b'"a\nb"' if n % 2 else b"x", b"oops" if n > 95 else b"")
    for n in range(100)
)
LINES = b"".join(
    json.dumps(
        {"n": n if n < 90 else n + 0.5, "at": "2026-01-02" if n < 50 else "never"}
        | ({"late": [n]} if n > 95 else {})
    ).encode()
    + b"\n"
    for n in range(100)
)


def test_csv_becomes_a_table_with_types() -> None:
    table = arrow("x.CSV", SPREAD)
    assert [str(field.type) for field in table.schema] == [
        "int64",
        "double",
        "date32[day]",
        "string",
        "string",
    ]
    assert table.num_rows == 100
    assert table["text"][1].as_py() == "a\nb"


@pytest.mark.usefixtures("piece_by_piece")
def test_a_large_csv_gets_the_same_table_piece_by_piece() -> None:
    table = arrow("x.csv", SPREAD)
    assert [str(field.type) for field in table.schema] == [
        "int64",
        "double",
        "date32[day]",
        "string",
        "string",
    ]
    assert (
        table.to_pylist()
        == csv.read_csv(
            io.BytesIO(SPREAD), parse_options=csv.ParseOptions(newlines_in_values=True)
        ).to_pylist()
    )


def test_json_lines_become_a_table() -> None:
    table = arrow("x.jsonl", LINES)
    assert {f.name: str(f.type) for f in table.schema} == {
        "n": "double",
        "at": "string",
        "late": "list<item: int64>",
    }
    assert table["late"].to_pylist()[94:97] == [None, None, [96]]


@pytest.mark.usefixtures("piece_by_piece")
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n  "])
def test_large_json_lines_get_the_same_table_piece_by_piece(end: bytes) -> None:
    table = arrow("x.ndjson", LINES.removesuffix(b"\n") + end)
    assert table.to_pylist() == arrow_whole(LINES).to_pylist()


def arrow_whole(data: bytes) -> pa.Table:
    import pyarrow.json

    return pyarrow.json.read_json(io.BytesIO(data))


def test_parquet_becomes_a_table_without_dictionaries() -> None:
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    table = pa.table({"n": [1, 2, 3], "word": words}, metadata={"k": "v"})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=2)
    found = arrow("x.parquet", buffer.getvalue())
    assert found.to_pydict() == {"n": [1, 2, 3], "word": ["a", "b", "a"]}
    assert str(found.schema.field("word").type) == "string"
    assert found.schema.metadata[b"k"] == b"v"


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_an_empty_file_is_an_empty_table(name: str) -> None:
    assert arrow(name, b"").shape == (0, 0)


def test_a_header_alone_is_a_table_without_rows() -> None:
    table = arrow("x.csv", b"a,b\n")
    assert (table.column_names, table.num_rows) == (["a", "b"], 0)


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("x.csv", b"a,b\n1,2\n3\n", "'file::x.csv' cannot be read as CSV: CSV parse error: "),
        ("x.csv", b"a,b\n1,2\n3\n", "Expected 2 columns, got 1: 3"),  # behind the row's number, or not
        ("x.csv", b"\xff\xfe,b\n1,2\n", "cannot be read as CSV"),
        ("x.jsonl", b'{"a":1}\nxx\n', "cannot be read as JSON lines: JSON parse error"),
        ("x.jsonl", b'{"a":1}\n{"a":"x"}\n', "Column(/a) changed from number to string"),
        ("x.jsonl", b'[{"a":1}]', "cannot be read as JSON lines"),
        ("x.jsonl", b'{"a":', "cannot be read as JSON lines"),
        ("x.parquet", b"", "cannot be read as Parquet: Parquet file size is 0 bytes"),
        ("x.parquet", b"PAR1" * 10, "cannot be read as Parquet"),
    ],
)
def test_a_broken_table_is_an_error_that_says_what_is_wrong(name: str, data: bytes, complaint: str) -> None:
    message = error(name, data)
    assert complaint in message
    assert "\n" not in message


@pytest.mark.usefixtures("piece_by_piece")
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv", SPREAD + b"1,2\n"),
        ("x.jsonl", LINES + b"xx\n"),
        ("x.jsonl", LINES + b'{"n": "text"}\n'),
        ("x.jsonl", LINES + b'{"n": "' + b"x" * 2000 + b'"}\n'),
    ],
)
def test_a_large_table_that_is_broken_at_its_end_is_an_error_too(name: str, data: bytes) -> None:
    assert "cannot be read as" in error(name, data)


def test_a_damaged_page_of_parquet_is_an_error() -> None:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"n": list(range(10_000))}), buffer, compression="gzip")
    data = bytearray(buffer.getvalue())
    data[200:1200] = bytes(1000)
    assert "cannot be read as Parquet" in error("x.parquet", bytes(data))


class FullDisk(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_error_of_the_disk_is_not_blamed_on_the_table() -> None:
    with pytest.raises(OSError, match="No space left"):
        to_arrow("x.csv", io.BytesIO(SPREAD), FullDisk(), "file::x.csv")


def test_text_is_utf8_wherever_the_pieces_end() -> None:
    data = "aä€😀".encode() * 3
    check_text((data[n : n + 1] for n in range(len(data))), "file::x")
    check_text([], "file::x")


@pytest.mark.parametrize(
    "pieces", [[b"ab\xff"], [b"ab", b"\xff"], [b"ab\xf0\x9f"], [b"ab\xf0", b"\x9f", b"a"]]
)
def test_what_is_not_utf8_is_no_text(pieces: list[bytes]) -> None:
    with pytest.raises(BadContent, match=r"'file::x' is not UTF-8 near byte [234]: "):
        check_text(pieces, "file::x")
