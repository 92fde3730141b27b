import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rag_bot.catalogue import Catalogue, Prepared, chunk_id, document_id, unpack_vectors
from rag_bot.errors import IndexMismatch, Unavailable
from rag_bot.types import Heading

Prepare = Callable[..., Prepared]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(tmp_path / "c.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def ready(catalogue: Catalogue, prepare: Prepare, word_embedder: object) -> Callable[..., Prepared]:
    made = catalogue.create_collection("docs", "f1")

    def make(source: str, *pages: str, **more: object) -> Prepared:
        return prepare(made, word_embedder, source, *pages, **more)

    return make


def show(catalogue: Catalogue, *prepared: Prepared) -> None:
    collection = catalogue.collection("docs")
    assert collection
    catalogue.write_pending(collection, prepared)
    catalogue.go_live(collection, [each.document.id for each in prepared])


def test_a_document_comes_back_as_it_went_in(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready(
        "/a.txt",
        "Erste Seite 😀 mit Ümläuten.\n\nA tail.",
        "",
        "\U0001d11e clef. Third page.",
        title="Ä title",
        headings=(Heading(0, 1, "Erste"),),
    )
    show(catalogue, each)
    assert catalogue.document(each.document.id) == each.document
    stored = catalogue.chunks_of(each.document.id)
    assert [s.chunk for s in stored] == list(each.chunks)  # the text is cut out of the pages again
    assert {(s.source, s.title) for s in stored} == {("/a.txt", "Ä title")}


def test_vectors_come_back_in_chunk_order(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready("/a.txt", *(f"Page number {n} about topic{n}." for n in range(12)))
    show(catalogue, each)
    back = catalogue.vectors_of(each.document.id)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, each.vectors, atol=1e-3)


def test_no_vectors_unpack_to_nothing() -> None:
    assert unpack_vectors([]).shape == (0, 0)


def test_a_pending_document_is_not_shown(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready("/a.txt", "Hello there.")
    docs = catalogue.collection("docs")
    assert docs
    catalogue.write_pending(docs, [each])
    assert catalogue.document(each.document.id) is None
    assert catalogue.entries(docs) == []
    assert catalogue.chunks(docs, [each.chunks[0].id]) == {}
    assert catalogue.chunk_count(docs) == 0
    assert catalogue.pending(docs) == [each.document.id]
    catalogue.go_live(docs, [each.document.id])
    assert list(catalogue.chunks(docs, [each.chunks[0].id, "no such"])) == [each.chunks[0].id]
    assert catalogue.pending(docs) == []


def test_a_new_version_takes_the_old_one_away(catalogue: Catalogue, ready: Prepare) -> None:
    old, new, other = ready("/a.txt", "Old."), ready("/a.txt", "New."), ready("/b.txt", "Old.")
    show(catalogue, old, other)
    show(catalogue, new)
    docs = catalogue.collection("docs")
    assert docs
    assert [(e.source, e.sha256) for e in catalogue.entries(docs)] == [
        ("/a.txt", new.document.sha256),
        ("/b.txt", other.document.sha256),
    ]
    assert catalogue.document(old.document.id) is None
    assert catalogue.leavings(docs) == [chunk.id for chunk in old.chunks]
    catalogue.forget_leavings(docs)
    assert catalogue.leavings(docs) == []


def test_what_was_taken_away_is_gone_with_its_pages(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready("/a.txt", "Secret text.")
    show(catalogue, each)
    docs = catalogue.collection("docs")
    assert docs
    catalogue.take_away(docs, [each.document.id])
    with sqlite3.connect(catalogue.path) as db:
        for table in ("documents", "pages", "chunks"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_a_document_that_comes_back_is_no_leaving(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready("/a.txt", "Hello.")
    show(catalogue, each)
    docs = catalogue.collection("docs")
    assert docs
    catalogue.take_away(docs, [each.document.id])
    show(catalogue, each)
    assert catalogue.leavings(docs) == []
    assert catalogue.chunk_count(docs) == len(each.chunks)


def test_one_bad_document_undoes_the_whole_write(catalogue: Catalogue, ready: Prepare) -> None:
    good, bad = ready("/a.txt", "Good."), ready("/b.txt", "Bad.")
    docs = catalogue.collection("docs")
    assert docs
    twisted = Prepared(bad.document, bad.chunks * 2, np.vstack([bad.vectors] * 2), 1, 1, "x")
    with pytest.raises(sqlite3.IntegrityError):
        catalogue.write_pending(docs, [good, twisted])
    assert catalogue.pending(docs) == []


def test_collections_do_not_see_each_other(
    catalogue: Catalogue, prepare: Prepare, word_embedder: object
) -> None:
    one, two = (catalogue.create_collection(n, "f1") for n in ("one", "two"))
    first = prepare(one, word_embedder, "/a.txt", "Same text.")
    second = prepare(two, word_embedder, "/a.txt", "Same text.")
    assert first.document.id != second.document.id
    for collection, each in ((one, first), (two, second)):
        catalogue.write_pending(collection, [each])
        catalogue.go_live(collection, [each.document.id])
    assert catalogue.chunks(one, [second.chunks[0].id]) == {}
    assert [e.id for e in catalogue.entries(two)] == [second.document.id]


def test_making_a_collection_twice_keeps_the_first(catalogue: Catalogue) -> None:
    first = catalogue.create_collection("docs", "f1")
    assert catalogue.create_collection("docs", "f2") == first
    assert catalogue.collection("other") is None


def test_the_number_of_a_dropped_collection_is_never_used_again(catalogue: Catalogue) -> None:
    """Its caches are named by it."""
    first = catalogue.create_collection("docs", "f1")
    catalogue.drop_collection(first)
    assert catalogue.collection("docs") is None
    assert catalogue.create_collection("docs", "f1").id > first.id


def test_touching_changes_the_date_and_nothing_else(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready("/a.txt", "Hello.")
    show(catalogue, each)
    docs = catalogue.collection("docs")
    assert docs
    (before,) = catalogue.entries(docs)
    catalogue.touch(each.document.id, 7, 99)
    (after,) = catalogue.entries(docs)
    assert (after.size, after.mtime_ns) == (7, 99)
    assert after.indexed_at >= before.indexed_at
    assert (after.id, after.sha256, after.chunks) == (before.id, before.sha256, before.chunks)


def test_ids_depend_on_everything_that_makes_them() -> None:
    base = ("c", "/a", "0", "f")
    ids = {document_id(*base)}
    for place in range(4):
        changed = list(base)
        changed[place] = "x"
        ids.add(document_id(*changed))
    ids.add(document_id("c/", "a", "0", "f"))
    assert len(ids) == 6
    assert document_id(*base) == document_id(*base)
    assert chunk_id("d", 1) != chunk_id("d", 11) != chunk_id("d1", 1)


def test_feedback_comes_back_in_order(catalogue: Catalogue) -> None:
    for thumb, question in ((1, "first?"), (-1, "second?")):
        catalogue.record_feedback(
            collection="docs", question=question, answer={"text": "ä"}, thumb=thumb, reason="r"
        )
    found = catalogue.feedback()
    assert [(f["question"], f["thumb"], f["answer"]) for f in found] == [
        ("first?", 1, {"text": "ä"}),
        ("second?", -1, {"text": "ä"}),
    ]
    with pytest.raises(sqlite3.IntegrityError):
        catalogue.record_feedback(collection="docs", question="q", answer={}, thumb=2)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    Catalogue(tmp_path / "c.sqlite").close()
    with sqlite3.connect(tmp_path / "c.sqlite") as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(IndexMismatch, match="has schema 99, this version reads 1"):
        Catalogue(tmp_path / "c.sqlite")


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Unavailable, match=r"c\.sqlite can't be opened"):
        Catalogue(tmp_path / "c.sqlite")


def test_what_was_written_is_there_when_opened_again(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready("/a.txt", "Hello.")
    show(catalogue, each)
    catalogue.close()
    again = Catalogue(catalogue.path)
    assert again.document(each.document.id) == each.document
    again.close()


def test_threads_share_one_connection(catalogue: Catalogue) -> None:
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for i in range(20):
                catalogue.create_collection(f"c{n}-{i}", "f")
                catalogue.collections()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(catalogue.collections()) == 80
