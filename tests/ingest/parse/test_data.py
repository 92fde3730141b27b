"""CSV, TSV, JSON, JSONL."""

import json

import pytest

from ingest.parse import parse


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_rows_are_records_whatever_the_delimiter(delimiter):
    rows = [["Name", "Age", "City"], ["Ann", "5", '"New\nYork"'], ["Bob", "", "Rome"]]
    data = "\r\n".join(delimiter.join(row) for row in rows).encode()
    assert parse("a.csv", data).pages == (
        "Name: Ann | Age: 5 | City: New York\nName: Bob | City: Rome",
    )


def test_csv_without_a_header_is_plain_rows():
    assert parse("a.csv", b"1,2\n3,4").pages == ("1 | 2\n3 | 4",)


def test_csv_titles_above_and_values_beside_the_header():
    data = b"Sales 2024,,\n,,\nItem,Price,\nTea,=cmd()|x,note\n"
    assert parse("a.csv", data).pages == ("Sales 2024\nItem: Tea | Price: =cmd()|x | note",)


def test_csv_with_an_unclosed_quote_loses_nothing():
    parsed = parse("a.csv", b'Name,Age\nAnn,"5\nBob,6\nCy,7\n')
    assert parsed.pages == ("Name: Ann | Age: 5\nName: Bob | Age: 6\nName: Cy | Age: 7",)
    assert "line by line" in parsed.notes[0]


def test_csv_with_a_large_field_and_many_columns(rejected):
    large = "x" * 5_000_000
    assert parse("a.csv", f"a,b\n{large},1".encode()).pages == (f"a: {large} | b: 1",)
    columns = ",".join(f"c{i}" for i in range(16_384))
    (page,) = parse("a.csv", f"{columns}\n{columns}".encode()).pages
    assert page.endswith("c16383: c16383")
    assert rejected("a.csv", f"{columns},more\n".encode()) == "too_large"


def test_json_is_readable_lines():
    value = {
        "shop": {"name": "Tea & Co", "open": True, "owner": None},
        "items": [{"id": 1, "name": "Tee"}, {"id": 2}],
        "tags": ["a", "b"],
        "mixed": [1, {"deep": [{"x": "line\nbreak"}]}],
    }
    text = json.dumps(value).replace('"id": 2', '"price": 1.10')
    assert parse("a.json", text.encode()).pages[0].split("\n") == [
        *["shop.name: Tea & Co", "shop.open: true", "shop.owner: null"],
        *["items:", "id: 1 | name: Tee", "price: 1.10", "tags: a, b"],
        *["mixed.1: 1", "mixed.2.deep:", "x: line break"],
    ]


def test_json_as_deep_as_it_may_be_and_deeper(rejected):
    assert parse("a.json", b"[" * 900 + b"7" + b",[1]]" * 900).pages[0].startswith("1.1")
    assert rejected("a.json", b"[" * 100_000 + b"]" * 100_000) == "damaged"
    assert parse("a", b"[" * 100_000 + b"]" * 100_000).media_type == "text/plain"


def test_json_that_is_none(rejected):
    assert rejected("a.json", b'{"a": ') == "damaged"


def test_jsonl_names_the_broken_line_and_keeps_the_rest():
    parsed = parse("a.jsonl", b'{"a": 1}\n\n{broken\n{"a": {"b": [1, 2]}, "c": "x"}\n')
    assert parsed.media_type == "application/jsonl"
    assert parsed.pages == ("a: 1\na.b: 1, 2 | c: x",)
    assert parsed.notes == ("line 3 is not JSON and was left out",)


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\v"])
def test_csv_records_end_at_line_ends_alone(inside):
    data = f"Name,Note\nAnn,one{inside}two\nBob,three\n".encode()
    assert parse("a.csv", data).pages == ("Name: Ann | Note: one two\nName: Bob | Note: three",)
