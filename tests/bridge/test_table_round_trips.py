"""What stands in a table comes back from its Arrow file: each field of CSV, each member of JSON lines."""

import csv
import datetime
import decimal
import io
import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentfactory.bridge.ingest import conversion
from agentfactory.bridge.ingest.conversion import BadContent, to_arrow
from agentfactory.bridge.ingest.json_tables import MISSING, NULL_MEANS


def arrow(name: str, data: bytes) -> pa.Table:
    out = io.BytesIO()
    to_arrow(name, io.BytesIO(data), out, f"file::{name}")
    return pa.ipc.open_file(out.getvalue()).read_all()


def column(texts: list[str]) -> list[object]:
    """A column of CSV, with another so that no line is empty."""
    data = "other,x\n" + "".join(f"1,{text}\n" for text in texts)
    return list(arrow("x.csv", data.encode())["x"].to_pylist())


@pytest.mark.parametrize(
    "text",
    [
        "007", "02134", "0x1F", "1e5", "1E5", "+1", "-0.50x", "1_000", "NaN", "nan", "inf", "-inf", "NULL",
        "null", "N/A", "None", "True", "TRUE", "yes", " 1", "1 ", "1.", ".5", "1.0e3", "18446744073709551616",
        "-9223372036854775809", "2026-1-2", "01/02/2026", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05+02:00",
        "2026-02-30", "03:04", "½", "١", "00", "-007", "0b1", "1e400", "#", "=1+1", "'7", "\t1",
    ],
)  # fmt: skip
def test_text_stays_text_where_a_type_would_not_write_it_again(text: str) -> None:
    assert column([text]) == [text]
    assert column(["1", text]) == ["1", text]
    assert column([text, "2026-01-02"]) == [text, "2026-01-02"]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["7", "-9223372036854775808", ""], pa.int64()),
        (["18446744073709551615", "18446744073709551614"], pa.uint64()),
        (["1", "1.5", ""], pa.float64()),
        (["1.0", "2.5", "1e-07"], pa.float64()),
        (["1.50", "22.25", "0.00"], pa.decimal128(38, 2)),
        (["0.1234567890123456789"], pa.decimal128(38, 19)),
        (["true", "false"], pa.bool_()),
        (["2026-01-02", ""], pa.date32()),
        (["2026-01-02 03:04:05"], pa.timestamp("s")),
        (["2026-01-02T03:04:05"], pa.timestamp("s")),
        (["", ""], pa.null()),
    ],
)
def test_a_column_that_a_type_writes_again_has_that_type(texts: list[str], kind: pa.DataType) -> None:
    data = "other,x\n" + "".join(f"1,{text}\n" for text in texts)
    found = arrow("x.csv", data.encode())["x"]
    assert found.type == kind
    assert [value is None for value in found.to_pylist()] == [text == "" for text in texts]


def test_identifiers_near_two_to_the_sixty_fourth_stay_apart() -> None:
    ids = [18446744073709551615, 18446744073709551614]
    assert column([str(each) for each in ids]) == ids
    lines = b"".join(b'{"x": %d}\n' % each for each in ids)
    assert arrow("x.jsonl", lines).to_pylist() == [{"x": each} for each in ids]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_a_header_alone_is_a_table_without_rows(codec: str, end: str) -> None:
    table = arrow("x.csv", f"a,ä{end}".encode(codec))
    assert (table.column_names, table.num_rows) == (["a", "ä"], 0)
    assert arrow("x.csv", end.encode(codec)).shape == (0, 0)


def test_the_end_of_a_last_line_is_not_put_into_a_quote_that_is_left_open() -> None:
    assert arrow("x.csv", b'a\n"x').to_pylist() == [{"a": "x"}]


def test_what_a_table_says_is_shown_with_its_control_characters_escaped() -> None:
    with pytest.raises(BadContent, match=r"got 1: \\x1b\[31m;"):
        arrow("x.csv", b"a,b\n\x1b[31m\n")


def test_empty_text_and_no_text_are_told_apart_where_the_file_does() -> None:
    assert column(["a", ""]) == ["a", ""]
    assert column(["a", '""', ""]) == ["a", "", None]
    assert column(["1", '""', ""]) == ["1", "", None]
    assert column(["1", ""]) == [1, None]


def test_columns_of_one_name_a_byte_order_mark_and_quoted_line_ends_are_read() -> None:
    table = arrow("x.csv", b'\xef\xbb\xbfa,a,b\r\n1,01,"x\r\n""y"",z"\r\n')
    assert table.column_names == ["a", "a", "b"]
    assert [each.to_pylist() for each in table.columns] == [[1], ["01"], ['x\r\n"y",z']]
    assert arrow("x.csv", "a,b\n01,é\n".encode("utf-16")).to_pylist() == [{"a": "01", "b": "é"}]
    assert arrow("x.csv", b"a,b\n01,\xe9\n02,x\n").to_pylist() == [
        {"a": "01", "b": b"\xe9"},
        {"a": "02", "b": b"x"},
    ]


FIELDS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.integers().map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    st.dates().map(str),
    st.datetimes().map(lambda at: at.isoformat(" ", "seconds")),
    st.sampled_from(
        ["", "007", "0x1F", "+1", "1e5", "true", "True", "NaN", "null", " 1", "1_0", "-0", "1.0"]
    ),
)


def writings(value: object) -> set[str]:
    """How a value is written."""
    if isinstance(value, bool):
        return {str(value).lower()}
    if isinstance(value, datetime.datetime):
        return {value.isoformat(" "), value.isoformat("T")}
    if isinstance(value, float):
        return {repr(value), str(pa.scalar(value).cast(pa.string()))}
    return {str(value)}


SLOWLY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CSV_ROWS = st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=8)


@SLOWLY
@given(CSV_ROWS, st.booleans(), st.booleans())
def test_each_field_of_csv_comes_back(rows: list[tuple[str, str]], quoted: bool, small: bool) -> None:
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, quoting=quoting, lineterminator="\r\n").writerows([("a", "b"), *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "PIECE_BYTES", 2000 if small else 8 << 20)
        table = arrow("x.csv", text.getvalue().encode())
    assert table.num_rows == len(rows)
    for name, place in (("a", 0), ("b", 1)):
        for value, row in zip(table[name].to_pylist(), rows, strict=True):
            if value is None:
                assert row[place] == ""
            elif isinstance(value, decimal.Decimal):
                assert f"{value:f}" == row[place]
            else:
                assert row[place] in writings(value)


def objects(table: pa.Table) -> list[dict[str, object]]:
    """The rows as the objects that they were."""
    rows: list[dict[str, object]] = [{} for _ in range(table.num_rows)]
    for field, values in zip(table.schema, table.columns, strict=True):
        is_json = field.type == pa.json_()
        skips = is_json or (field.metadata or {}).get(NULL_MEANS) == MISSING
        for row, value in zip(rows, values.to_pylist(), strict=True):
            if not (skips and value is None):
                row[field.name] = json.loads(value) if is_json else value
    return rows


@pytest.mark.parametrize(
    "lines",
    [
        ['{"type": "F", "properties": {}}', '{"type": "F", "properties": {"altitude": null}}'],
        ['{"a": {}}', '{"a": {}}'],
        ['{"a": {"x": 1}}', '{"a": {"x": 1, "y": []}}', '{"a": null}'],
        ['{"a": 1}', "{}", '{"b": null}', '{"a": null}'],
        ['{"a": null}', '{"a": 1}'],
        ["{}", '{"a": 1}'],
        ["{}", "{}"],
        ['{"a": [{"b": 1}, {"c": 2}]}', '{"a": [null, {}]}'],
        ['{"a": 18446744073709551616}', '{"a": -1}'],
        ['{"a": 9007199254740993}', '{"a": 0.5}'],
        ['{"a": "2026-01-02"}', '{"a": "2026-01-02T03:04:05Z"}'],
        ['{"a": "\\ud800"}', '{"a": "é"}'],
        ['{"a": {"\\ud800": 1}}'],
        ['{"a": [1.5, 2.5]}', '{"a": []}', '{"a": null}'],
        ['{"a": true}', '{"a": null}'],
        ['{"a": {"id-1": 1}}', '{"a": {"id-2": "x"}}'],
        ['{"a": ' + "[" * 200 + "]" * 200 + "}"],
        ['{"a": ' + '{"b": ' * 40 + "1" + "}" * 40 + "}"],
    ],
)
def test_objects_keep_the_members_that_they_have(lines: list[str]) -> None:
    table = arrow("x.jsonl", "\n".join(lines).encode())
    assert json.dumps(objects(table)) == json.dumps([json.loads(line) for line in lines])


@pytest.mark.parametrize(
    "text", ["1e5", "1.50", "-0", "1E400", "1e+5", "0.1000", "123456789012345678901234567890"]
)
def test_a_number_that_is_written_in_another_way_keeps_its_text(text: str) -> None:
    assert arrow("x.jsonl", f'{{"a": {text}}}\n'.encode()).to_pylist() == [{"a": text}]
    nested = arrow("x.jsonl", f'{{"a": {{"b": [{text}, 1]}}}}\n'.encode())
    assert nested.to_pylist() == [{"a": f'{{"b": [{text}, 1]}}'}]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (b'{"a": 1, "a": 2}', "the member 'a' stands twice in line 1"),
        (b'{"a": {"b": 1}}\n{"a": {"b": "x"}}', "Column(/a/b) changed from number to string"),
        (b'{"a": [1, "x"]}', "Column(/a/[]) changed from number to string"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"1", "expected an object in line 1"),
        (b'{"a": ' + b"[" * 9999 + b"]" * 9999 + b"}", "recursion"),
    ],
)
def test_json_lines_that_are_no_table_are_refused(lines: bytes, complaint: str) -> None:
    with pytest.raises(BadContent) as caught:
        arrow("x.jsonl", lines)
    assert complaint in str(caught.value)


NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "é"]), VALUES, max_size=3), min_size=1, max_size=6)


@SLOWLY
@given(ROWS, st.booleans())
def test_each_object_of_json_lines_comes_back(rows: list[dict[str, object]], small: bool) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "PIECE_BYTES", max(map(len, lines.splitlines())) + 1 if small else 8 << 20)
        try:
            table = arrow("x.jsonl", lines.encode())
        except BadContent as error:
            assert " changed from " in str(error)  # noqa: PT017 - most examples are tables
            return
    found = objects(table)
    assert json.dumps(found, sort_keys=True) == json.dumps(
        [as_read(row, like) for row, like in zip(rows, found, strict=True)], sort_keys=True
    )


def as_read(value: object, like: object) -> object:
    """The value, with the integers as floating point that came back so: `1` beside `1.5`."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {name: as_read(member, like.get(name)) for name, member in value.items()}
    if isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        return [as_read(one, other) for one, other in zip(value, like, strict=True)]
    if type(value) is int and type(like) is float and like == value:
        return like
    return value


def test_parquet_keeps_decimals_zones_nested_lists_and_dictionaries_in_them() -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
    words = pa.list_(pa.dictionary(pa.int32(), pa.string()))
    table = pa.table(
        {
            "decimal": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(20, 2)),
            "zoned": pa.array([when, None], pa.timestamp("us", "Europe/Oslo")),
            "nested": pa.array([[[1], None, []], None], pa.list_(pa.list_(pa.int16()))),
            "words": pa.array([["a", "b"], None], words),
            "struct": pa.array([{"w": "x"}, None], pa.struct([("w", pa.dictionary(pa.int8(), pa.string()))])),
            "bytes": pa.array([b"\xff", None], pa.binary(1)),
            "time": pa.array([datetime.time(1, 2, 3), None], pa.time64("us")),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        }
    )
    buffer = io.BytesIO()
    parquet.write_table(pa.concat_tables([table] * 3), buffer, row_group_size=1)
    found = arrow("x.parquet", buffer.getvalue())
    assert found.to_pylist() == table.to_pylist() * 3
    for name in ("decimal", "zoned", "nested", "time", "map"):
        assert found.schema.field(name).type == table.schema.field(name).type
