import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import tantivy

from rag_bot.lexical import Lexical, analyze, number, outdated


@pytest.fixture(params=["disk", "memory"])
def lexical(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lexical]:
    opened = Lexical(tmp_path / "lexical" if request.param == "disk" else None)
    yield opened
    opened.close()


def put(lexical: Lexical, chunk_ids: Sequence[str], texts: Sequence[str]) -> None:
    """Texts that are a document each."""
    lexical.replace(chunk_ids, chunk_ids, texts)


def ids(lexical: Lexical, query: str, limit: int = 10) -> list[str]:
    return [chunk_id for chunk_id, _ in lexical.search(query, limit)]


def test_terms_are_folded_lower_case_and_stemmed() -> None:
    assert analyze("The Refunds, naïve MÜLLER!") == ["the", "refund", "naiv", "muller"]


def test_unspaced_scripts_become_pairs() -> None:
    assert analyze("価格表") == ["価格", "格表"]
    assert analyze("价") == ["价"]


def test_the_text_with_more_of_the_words_comes_first(lexical: Lexical) -> None:
    put(
        lexical,
        ["a", "b", "c"],
        ["The pump is in the cellar.", "The pump pressure valve.", "Holiday rules."],
    )
    assert ids(lexical, "pump pressure") == ["b", "a"]
    scores = [score for _, score in lexical.search("pump pressure", 10)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0


def test_a_rare_word_weighs_more_than_a_common_one(lexical: Lexical) -> None:
    put(
        lexical,
        [str(n) for n in range(10)],
        [f"pump text {'E-417' if n == 7 else ''}" for n in range(10)],
    )
    assert ids(lexical, "pump E-417")[0] == "7"


def test_the_limit_is_kept(lexical: Lexical) -> None:
    put(lexical, [str(n) for n in range(5)], ["pump"] * 5)
    assert len(ids(lexical, "pump", 3)) == 3


def test_replacing_forgets_what_stood_there(lexical: Lexical) -> None:
    put(lexical, ["a"], ["old words"])
    put(lexical, ["a"], ["new text"])
    assert ids(lexical, "old") == []
    assert ids(lexical, "new") == ["a"]
    assert len(lexical) == 1


def test_removing_forgets_and_unknown_ids_are_no_error(lexical: Lexical) -> None:
    put(lexical, ["a", "b"], ["pump", "pump"])
    lexical.remove(["a", "nobody"])
    assert ids(lexical, "pump") == ["b"]
    assert len(lexical) == 1


@pytest.mark.parametrize(
    "query", ["", "  ", "!?", "AND OR NOT", 'body:"', "(((", "id:a", "*", "a^9 ~2", "\0"]
)
def test_no_query_is_an_error(lexical: Lexical, query: str) -> None:
    put(lexical, ["a"], ["pump"])
    assert ids(lexical, query) == []


def test_operators_mean_nothing(lexical: Lexical) -> None:
    put(lexical, ["a", "b"], ["pump", "valve"])
    assert set(ids(lexical, "pump NOT valve -valve")) == {"a", "b"}


def test_a_pasted_page_is_a_query(lexical: Lexical) -> None:
    put(lexical, ["a"], ["word3 word4"])
    assert ids(lexical, " ".join(f"word{n}" for n in range(50_000))) == ["a"]


def test_an_index_opened_again_finds_what_it_held(tmp_path: Path) -> None:
    first = Lexical(tmp_path / "l")
    put(first, ["a"], ["pump"])
    first.close()
    again = Lexical(tmp_path / "l")
    assert ids(again, "pumps") == ["a"]
    put(again, ["b"], ["pump"])
    assert len(again) == 2
    again.close()


def test_all_ids_can_be_listed(lexical: Lexical) -> None:
    assert lexical.ids() == set()
    put(lexical, ["a", "b", "c"], ["pump", "", "valve"])
    lexical.remove(["c"])
    assert lexical.ids() == {"a", "b"}  # the one without a word too


def test_a_closed_index_writes_again(lexical: Lexical) -> None:
    put(lexical, ["a"], ["pump"])
    lexical.close()
    lexical.close()
    put(lexical, ["b"], ["pump"])
    assert set(ids(lexical, "pump")) == {"a", "b"}


def test_one_index_writes_at_a_time(tmp_path: Path) -> None:
    first, second = Lexical(tmp_path / "l"), Lexical(tmp_path / "l")
    put(first, ["a"], ["pump"])
    with pytest.raises(ValueError, match=r"[Ll]ock"):
        put(second, ["b"], ["pump"])
    first.close()
    put(second, ["b"], ["pump"])
    assert second.ids() == {"a", "b"}
    second.close()


def test_threads_search_while_one_writes(lexical: Lexical) -> None:
    put(lexical, ["old"], ["pump"])
    seen: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def search() -> None:
        try:
            while not stop.is_set():
                seen.append(len(lexical.search("pump", 100)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(10):
        put(lexical, [str(n)], ["pump"])
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert seen == [] or max(seen) <= 11
    assert len(lexical.search("pump", 100)) == 11


@pytest.mark.parametrize("chosen", [[], [7], [3, 4, 5], range(0, 60, 2), range(60)])
@pytest.mark.parametrize("share", [0.01, 0.5, 1])
def test_some_documents_are_searched_as_all_are_and_the_rest_left_out(
    lexical: Lexical, chosen: Sequence[int], share: float
) -> None:
    names = [f"d{n}" for n in range(60)]
    texts = ["pump " * (1 + n % 7) + f"number {n}" for n in range(120)]
    lexical.replace([str(n) for n in range(120)], [names[n // 2] for n in range(120)], texts)
    lexical.remove(["6"])
    everything = lexical.search("pump number", 120)
    assert len(everything) == 119
    wanted = [hit for hit in everything if int(hit[0]) // 2 in chosen]
    found = lexical.search("pump number", 10, frozenset(number(names[n]) for n in chosen), share)
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted[:10]])
    assert {chunk_id for chunk_id, _ in found} <= {chunk_id for chunk_id, _ in wanted}


def test_an_empty_index_finds_nothing_in_some_documents(lexical: Lexical) -> None:
    assert lexical.search("pump", 10, frozenset(map(number, "abc")), 1) == []
    assert lexical.search("pump", 1000, frozenset(map(number, "abc")), 0.1) == []


def test_an_index_of_an_older_version_is_told_from_ours(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    tantivy.Index(builder.build(), path=str(old))
    Lexical(tmp_path / "new").close()
    assert outdated(old)
    assert not outdated(tmp_path / "new")
    assert not outdated(tmp_path / "none")
