import random
from pathlib import Path

import pytest

from ingest.parse import parse
from ingest.parse.sniff import identify

RANDOM = random.Random(7).randbytes(5000)


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01" + bytes(9) + RANDOM,
        Path("/bin/ls").read_bytes(),
        b"MZ\x90\0\x03" + RANDOM,
        b"\x89PNG\r\n\x1a\n" + RANDOM,
        b"\xff\xd8\xff\xe0" + RANDOM,
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><text>a</text></svg>',
        b"\x1f\x8b\x08" + RANDOM,
        b"OggS\0" + RANDOM,
        b"\0\0\0\x20ftypmp42" + RANDOM,
        b"\0\x01\0\0\0\x12" + RANDOM,
        b"{\\rtf1 text}",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + RANDOM,
        RANDOM,
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a"])
def test_what_is_no_document(rejected, name, data):
    assert rejected(name, data) == "unknown_type"


@pytest.mark.parametrize("data", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xff\xfe", bytes(4096)])
@pytest.mark.parametrize("name", ["a.txt", "a.pdf", "a.docx"])
def test_empty_files(rejected, name, data):
    assert rejected(name, data) == "empty"


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("a.pdf", b"<!DOCTYPE html><p>hello</p>", "text/html"),
        ("a", b"\n<html><p>hello</p></html>", "text/html"),
        ("a.md", b"<p align=center>x</p>\n\n# Title", "text/markdown"),
        ("a", b'{"a": 1}', "application/json"),
        ("a.txt", b'{"a": 1}', "text/plain"),
        ("a", b"{not json}", "text/plain"),
        ("a", b"Message-ID: <1>\nFrom: a@b.c\nSubject: x\n\nhello", "message/rfc822"),
        ("a.txt", b"From: me\nto be read", "text/plain"),
        ("a.txt", b"log\r\n\r\nFrom: a\r\nDate: b\r\nReceived: c\r\n", "text/plain"),
        ("a", b"From: a\r\nDate: b\r\nReceived: c\r\n\r\nhello", "message/rfc822"),
        ("a.csv", b"a,b\n1,2", "text/csv"),
        ("a.txt", b"The signature is %PDF-1.4, and MZ or BM begin others.", "text/plain"),
        ("a.txt", b"BM is a bank. MZ is a program.", "text/plain"),
    ],
)
def test_content_decides_and_the_name_only_helps(name, data, media_type):
    assert identify(name, data) == media_type
    assert parse(name, data).media_type == media_type


def test_encrypted_office_files_are_not_called_old(rejected):
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "EncryptedPackage".encode("utf-16-le")
    assert rejected("a.docx", ole) == "encrypted"


def test_archives(rejected, zipped):
    assert rejected("a.zip", zipped({"a.txt": "hello"})) == "unknown_type"
    assert rejected("a.docx", zipped({"a.txt": "hello"})) == "damaged"
    assert rejected("a.docx", b"PK\3\4garbage") == "damaged"
    assert rejected("a.bin", b"PK\3\4garbage") == "unknown_type"
