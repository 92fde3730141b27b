import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rag_bot.catalogue import (
    Catalogue,
    Collection,
    Debt,
    Prepared,
    chunk_id,
    document_id,
    unpack_vectors,
)
from rag_bot.database import Database
from rag_bot.types import Heading

Prepare = Callable[..., Prepared]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "c.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def catalogue(database: Database) -> Catalogue:
    return Catalogue(database)


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


def test_what_was_taken_away_is_gone_with_its_pages(
    catalogue: Catalogue, database: Database, ready: Prepare
) -> None:
    each = ready("/a.txt", "Secret text.")
    show(catalogue, each)
    docs = catalogue.collection("docs")
    assert docs
    catalogue.take_away(docs, [each.document.id])
    for table in ("documents", "pages", "chunks"):
        assert database.one(f"SELECT count(*) FROM {table}") == (0,), table


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


def test_what_was_written_is_there_when_opened_again(
    catalogue: Catalogue, database: Database, ready: Prepare
) -> None:
    each = ready("/a.txt", "Hello.")
    show(catalogue, each)
    database.close()
    with contextlib.closing(Database(database.path)) as again:
        assert Catalogue(again).document(each.document.id) == each.document


def test_origins_and_sources_are_of_live_documents_alone(
    catalogue: Catalogue, ready: Prepare
) -> None:
    shown, pending = ready("/a.txt", "Shown."), ready("/b.txt", "Pending.")
    show(catalogue, shown)
    docs = catalogue.collection("docs")
    assert docs
    catalogue.write_pending(docs, [pending])
    ids = [shown.document.id, pending.document.id, "nobody"]
    assert catalogue.origins(ids) == {shown.document.id: ("/a.txt", shown.document.sha256)}
    assert catalogue.sources(ids) == {shown.document.id: "/a.txt"}


# Generations


def test_a_generation_being_built_is_beside_the_live_one(
    catalogue: Catalogue, prepare: Prepare, word_embedder: object
) -> None:
    live = catalogue.create_collection("docs", "f1")
    old = prepare(live, word_embedder, "/a.txt", "Text.")
    show(catalogue, old)
    building = catalogue.begin_generation(live, "f2")
    assert (building.name, building.generation, building.fingerprint) == ("docs", 2, "f2")
    assert (catalogue.collections(), catalogue.building()) == ([live], [building])
    assert (catalogue.is_live(live), catalogue.is_live(building)) == (True, False)
    new = prepare(building, word_embedder, "/a.txt", "Text.")
    assert new.document.id != old.document.id
    catalogue.write_pending(building, [new])
    catalogue.go_live(building, [new.document.id])
    assert [e.id for e in catalogue.entries(live)] == [old.document.id]

    catalogue.flip(building)
    assert (catalogue.collections(), catalogue.building()) == ([building], [])
    assert [e.id for e in catalogue.entries(building)] == [new.document.id]
    assert catalogue.document(old.document.id) is None
    assert (catalogue.is_live(live), catalogue.is_live(building)) == (False, True)


def test_a_purge_that_is_owed_is_owed_by_the_next_generation(catalogue: Catalogue) -> None:
    live = catalogue.create_collection("docs", "f1")
    catalogue.owe_purge(live)
    building = catalogue.begin_generation(live, "f2")
    assert not catalogue.debt(building).due
    catalogue.flip(building)
    assert catalogue.debt(building).due


def test_a_collection_has_one_live_generation(catalogue: Catalogue, database: Database) -> None:
    live = catalogue.create_collection("docs", "f1")
    catalogue.begin_generation(live, "f2")

    def both() -> None:
        with database.transaction() as db:
            db.execute("UPDATE collections SET live = 1")

    with pytest.raises(sqlite3.IntegrityError):
        both()
    assert catalogue.is_live(live)


# Debts


def test_what_the_caches_dropped_counts_as_debt_until_they_are_new(
    catalogue: Catalogue, ready: Prepare
) -> None:
    each = ready("/a.txt", *(f"Page number {n}." for n in range(3)))
    show(catalogue, each)
    docs = catalogue.collection("docs")
    assert docs
    assert catalogue.debt(docs) == Debt(0, False)
    catalogue.take_away(docs, [each.document.id])
    assert catalogue.debt(docs) == Debt(0, False)
    assert len(catalogue.leavings(docs)) == 3
    catalogue.forget_leavings(docs)
    assert (catalogue.debt(docs), catalogue.leavings(docs)) == (Debt(3, False), [])
    catalogue.owe_purge(docs)
    catalogue.set_caches(docs, "c1-new")
    assert catalogue.caches(docs) == "c1-new"
    assert catalogue.debt(docs) == Debt(0, True)  # the catalogue's own file is still to be cleared
    catalogue.purged(docs)
    assert catalogue.debt(docs) == Debt(0, False)


def test_what_may_or_may_not_be_in_the_caches(catalogue: Catalogue, ready: Prepare) -> None:
    gone, shown, pending = (ready(f"/{n}.txt", f"Text {n}.") for n in "abc")
    show(catalogue, gone, shown)
    docs = catalogue.collection("docs")
    assert docs
    catalogue.take_away(docs, [gone.document.id])
    catalogue.write_pending(docs, [pending])
    ids = {chunk.id for each in (gone, pending) for chunk in each.chunks}
    assert set(catalogue.passing(docs)) == ids


def test_the_length_of_vectors_is_known_from_the_first(
    catalogue: Catalogue, ready: Prepare
) -> None:
    docs = catalogue.create_collection("docs", "f1")
    assert catalogue.dimension(docs) == 0
    show(catalogue, ready("/empty.txt", ""))
    assert catalogue.dimension(docs) == 0
    show(catalogue, ready("/a.txt", "Text."))
    assert catalogue.dimension(docs) == 256


def test_a_collection_that_is_gone_has_nothing(catalogue: Catalogue) -> None:
    gone = catalogue.create_collection("docs", "f1")
    catalogue.drop_collection(gone)
    assert (catalogue.caches(gone), catalogue.dimension(gone)) == ("", 0)
    assert (catalogue.debt(gone), catalogue.chunk_count(gone)) == (Debt(0, False), 0)
    assert not catalogue.is_live(gone)


# Damage


@pytest.fixture
def signed(catalogue: Catalogue, ready: Prepare) -> Collection:
    show(catalogue, ready("/a.txt", "Text of a.", title="A"), ready("/b.txt", "Text of b."))
    docs = catalogue.collection("docs")
    assert docs
    return docs


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE documents SET source = '/z.txt' WHERE source = '/a.txt'",
        "UPDATE documents SET title = 'a' WHERE source = '/a.txt'",
        "UPDATE documents SET sha256 = 'x' || substr(sha256, 2) WHERE source = '/a.txt'",
        "UPDATE documents SET headings = '[[0, 1, \"H\"]]' WHERE source = '/a.txt'",
        "UPDATE documents SET headings = 'no JSON' WHERE source = '/a.txt'",
        "UPDATE documents SET media_type = 'text/html' WHERE source = '/a.txt'",
        "UPDATE documents SET digest = 'x' || substr(digest, 2) WHERE source = '/a.txt'",
        "UPDATE pages SET text = 'Text of A.' WHERE text = 'Text of a.'",
        "UPDATE pages SET text = CAST(x'54ff' AS TEXT) WHERE text = 'Text of a.'",
        "UPDATE pages SET char_start = 1 WHERE text = 'Text of a.'",
        "DELETE FROM pages WHERE text = 'Text of a.'",
        "INSERT INTO pages SELECT document_id, 2, 11, 'x' FROM pages WHERE text = 'Text of a.'",
        "UPDATE chunks SET char_end = char_end - 1 WHERE {a}",
        "UPDATE chunks SET heading = 'H' WHERE {a}",
        "UPDATE chunks SET vector = zeroblob(512) WHERE {a}",
        "UPDATE chunks SET id = 'other' WHERE {a}",
        "DELETE FROM chunks WHERE {a}",
    ],
)
def test_a_document_that_is_not_as_it_was_written_is_found(
    catalogue: Catalogue, database: Database, signed: Collection, harm: str
) -> None:
    assert catalogue.damaged(signed) == []
    a = "document_id = (SELECT id FROM documents WHERE title = 'A')"
    with database.transaction() as db:
        assert db.execute(harm.format(a=a)).rowcount == 1
    (found,) = catalogue.damaged(signed)
    assert found.source in ("/a.txt", "/z.txt")
    catalogue.take_away(signed, [found.id])
    assert catalogue.damaged(signed) == []
    assert [entry.source for entry in catalogue.entries(signed)] == ["/b.txt"]


def test_a_document_moved_into_another_collection_is_found(
    catalogue: Catalogue, database: Database, signed: Collection
) -> None:
    other = catalogue.create_collection("other", "f1")
    with database.transaction() as db:
        db.execute("UPDATE documents SET collection_id = ? WHERE title = 'A'", (other.id,))
    assert [entry.source for entry in catalogue.damaged(other)] == ["/a.txt"]
    assert catalogue.damaged(signed) == []


def test_going_live_and_a_new_date_are_no_damage(catalogue: Catalogue, ready: Prepare) -> None:
    each = ready("/c.txt", "Text of c.", headings=(Heading(0, 1, "Text"),))
    docs = catalogue.collection("docs")
    assert docs
    catalogue.write_pending(docs, [each])
    assert catalogue.damaged(docs) == []
    catalogue.go_live(docs, [each.document.id])
    catalogue.touch(each.document.id, 7, 99)
    assert catalogue.damaged(docs) == []


def test_documents_of_an_older_version_are_signed_once(
    catalogue: Catalogue, database: Database, signed: Collection
) -> None:
    with database.transaction() as db:
        db.execute("UPDATE documents SET digest = ''")
    assert len(catalogue.damaged(signed)) == 2
    catalogue.sign()
    assert catalogue.damaged(signed) == []
    with database.transaction() as db:
        db.execute("UPDATE documents SET title = 'harm'")
    catalogue.sign()
    assert len(catalogue.damaged(signed)) == 2
