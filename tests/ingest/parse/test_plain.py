import pytest

from ingest.parse import parse

TEXT = "Herr Müller zahlt 5 €.\nZweite Zeile."


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"],
)
def test_text_reads_the_same_in_every_encoding(encoding):
    assert parse("a.txt", TEXT.encode(encoding)).pages == (TEXT,)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Müller", "latin-1"),
        ("Café", "latin-1"),
        ("Zażółć gęślą jaźń. Łódź jest pięknym miastem.", "cp1250"),
        ("Съешь же ещё этих мягких французских булок, да выпей чаю.", "cp1251"),
        ("日本語の文章です。東京は日本の首都であり、多くの人が住んでいます。", "shift_jis"),
        ("日本語の文章です。\n東京は日本の首都です。", "utf-16-le"),
    ],
)
def test_legacy_and_unmarked_encodings(text, encoding):
    assert parse("a.txt", text.encode(encoding)).pages == (text,)


def test_one_bad_byte_does_not_make_utf8_something_else():
    data = "äöü äöü äöü".encode() + b"\xff" + "ß".encode()
    assert parse("a.txt", data).pages == ("äöü äöü äöü\ufffdß",)


def test_form_feeds_make_pages_and_line_ends_are_newlines():
    assert parse("a.txt", b"one\r\ntwo\f\fthree\f").pages == ("one\ntwo", "", "three")


def test_nul_and_lone_surrogates_are_replaced_and_the_rest_is_kept():
    odd = "a\u202eb\u200bc e\u0301\ufb01"
    data = odd.encode() + b" " + b"word " * 30 + b"\0 \xed\xa0\x80"
    (page,) = parse("a.txt", data).pages
    assert page.startswith(odd)
    assert page.endswith("\ufffd \ufffd")


def test_tag_characters_are_dropped_unless_they_make_a_flag():
    tags = "".join(chr(0xE0000 + ord(char)) for char in "gbsct")
    scotland = f"\U0001f3f4{tags}\U000e007f"
    hidden = f"yes{tags} no\U000e0001"
    assert parse("a.txt", f"{hidden} {scotland}".encode()).pages == (f"yes no {scotland}",)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_nul_in_a_text_does_not_make_it_chinese(encoding):
    text = "Le château coûte très cher à l'été. ".encode(encoding, "ignore").decode(encoding)
    data = text.encode(encoding) * 20 + b"\0 end."
    assert parse("a.txt", data).pages == (text * 20 + "\ufffd end.",)


def test_pages_without_end_are_refused(rejected):
    assert rejected("a.txt", b"x" + b"\f" * 30_000) == "too_large"


def test_one_long_line_and_many_combining_marks():
    long = "word " * 2_000_000
    assert parse("a.txt", long.encode()).pages == (long,)
    marks = "a" + "\u0301" * 10_000
    assert parse("a.txt", marks.encode()).pages == (marks,)


def test_a_multibyte_character_across_the_sniffed_head():
    text = "x" * 65_535 + "ä"
    assert parse("a.txt", text.encode()).pages == (text,)


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "euc_jp"])
@pytest.mark.parametrize("line_end", ["\n", ""])
@pytest.mark.parametrize("before", ["", "x"])
def test_a_long_east_asian_text_whose_sample_ends_inside_a_character(encoding, line_end, before):
    text = before + ("東京是首都。" if encoding == "gbk" else "東京は日本の首都です。") * 2
    text = (text + line_end) * 1_000
    assert parse("a.txt", text.encode(encoding)).pages == (text,)
