"""What the tests of the index share."""

import pytest

# As commit 9fdca17 made them.
SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    fingerprint TEXT NOT NULL
) STRICT;
CREATE TABLE documents (
    id TEXT PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collections(id),
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    title TEXT NOT NULL,
    headings TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'live')),
    indexed_at REAL NOT NULL
) STRICT;
CREATE INDEX documents_by_source ON documents (collection_id, source);
CREATE TABLE pages (
    document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    char_start INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (document_id, number)
) STRICT;
CREATE TABLE chunks (
    id TEXT PRIMARY KEY,
    document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    page_start INTEGER NOT NULL,
    page_end INTEGER NOT NULL,
    char_start INTEGER NOT NULL,
    char_end INTEGER NOT NULL,
    heading TEXT NOT NULL,
    vector BLOB NOT NULL
) STRICT;
CREATE INDEX chunks_by_document ON chunks (document_id, ordinal);
CREATE TABLE leavings (
    collection_id INTEGER NOT NULL,
    chunk_id TEXT NOT NULL,
    PRIMARY KEY (collection_id, chunk_id)
) STRICT;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    report TEXT NOT NULL
) STRICT;
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    created_at REAL NOT NULL,
    collection TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    thumb INTEGER NOT NULL CHECK (thumb IN (-1, 1)),
    reason TEXT NOT NULL,
    correction TEXT NOT NULL
) STRICT;
INSERT INTO meta VALUES ('schema', '1');
"""


@pytest.fixture(scope="session")
def schema_1() -> str:
    """The tables of the first version, empty."""
    return SCHEMA_1
