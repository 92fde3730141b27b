"""Golden cases: what a file may say, and what is said about a file that may not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eval import bench, cases
from eval.cases import GoldenCase, GoldenSet, PageRef
from eval.metrics.contains import contains
from rag_bot.errors import UsageError
from rag_bot.types import Message

LEASE = {
    "id": "lease-end",
    "question": "When does the lease end?",
    "answerable": True,
    "reference": ["31 March 2031", "on 31 March 2031"],
    "tags": ["single"],
    "history": [{"role": "user", "text": "Is there a lease?"}],
    "relevant": [{"document": "lease.pdf", "page": 3, "quote": "ends on 31 March 2031"}],
}
GOOD = '{"id": "good", "question": "Who?", "relevant": [{"document": "a.txt"}]}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "golden.jsonl"


def test_a_case_is_read_as_it_is_written_down(file: Path) -> None:
    file.write_text(json.dumps(LEASE), "utf-8")
    golden = cases.read(file)
    assert golden.cases == (
        GoldenCase(
            id="lease-end",
            question="When does the lease end?",
            references=("31 March 2031", "on 31 March 2031"),
            relevant=(PageRef("lease.pdf", 3, "ends on 31 March 2031"),),
            history=(Message("user", "Is there a lease?"),),
            tags=("single",),
        ),
    )
    assert (golden.path, golden.lines, golden.drafts) == (file, {"lease-end": 1}, 0)


def test_a_case_needs_little(file: Path) -> None:
    said = {"id": "a", "question": "Who?", "reference": "Ann", "relevant": [{"document": "a.txt"}]}
    file.write_text(json.dumps(said) + "\n", "utf-8")
    (case,) = cases.read(file).cases
    assert case == GoldenCase("a", "Who?", ("Ann",), (PageRef("a.txt", None),))


def test_nuggets_are_read_and_written_back(file: Path) -> None:
    said = LEASE | {"nuggets": [["31 March 2031"], ["twelve months", "12 months"]]}
    file.write_text(json.dumps(said), "utf-8")
    (case,) = cases.read(file).cases
    assert case.nuggets == (("31 March 2031",), ("twelve months", "12 months"))
    assert json.loads(cases.to_json(case)) == said


def test_references_without_words_are_none(file: Path) -> None:
    file.write_text(json.dumps(LEASE | {"reference": ["", " ", "2031"]}), "utf-8")
    assert cases.read(file).cases[0].references == ("2031",)


def test_lines_count_from_one_with_the_empty_ones(file: Path) -> None:
    file.write_text(f"\n{GOOD}\r\n  \n{json.dumps(LEASE)}\n", "utf-8", newline="")
    assert cases.read(file).lines == {"good": 2, "lease-end": 4}


def test_drafts_are_counted_and_left_out(file: Path) -> None:
    draft = json.dumps(LEASE | {"tags": ["single", "draft"]})
    file.write_text(f"{draft}\n{GOOD}\n", "utf-8")
    golden = cases.read(file)
    assert [case.id for case in golden.cases] == ["good"]
    assert golden.drafts == 1


def test_a_draft_is_held_to_the_same_rules(file: Path) -> None:
    file.write_text(f"{GOOD}\n{json.dumps(LEASE | {'tags': ['draft'], 'id': 'good'})}\n", "utf-8")
    with pytest.raises(UsageError, match=r"line 2: the id 'good' stands on line 1 too"):
        cases.read(file)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"id": ', "Expecting value"),
        ("[]", "valid dictionary"),
        ("null", "valid dictionary"),
        ('{"question": "Who?"}', "id: Field required"),
        (
            json.dumps(LEASE | {"reference": [], "nuggets": [["Ann"]]}),
            "nuggets are named, but no reference",
        ),
        (json.dumps(LEASE | {"nuggets": [[]]}), "nuggets.0: List should have at least 1 item"),
        (json.dumps(LEASE | {"nuggets": [[""]]}), "nuggets.0.0: String should have at least 1"),
        (
            '{"id": "a", "question": "Who?", "answerable": false, "nuggets": [["Ann"]]}',
            "unanswerable, but an answer is given",
        ),
        (json.dumps(LEASE | {"id": ""}), "id: String should have at least 1 character"),
        (json.dumps(LEASE | {"question": ""}), "question: String should have at least 1 char"),
        (json.dumps(LEASE | {"question": "\ud800"}), "question: Input should be a valid string"),
        (json.dumps(LEASE | {"question": 3}), "question: Input should be a valid string"),
        (json.dumps(LEASE | {"pages": []}), "pages: Extra inputs are not permitted"),
        (json.dumps(LEASE | {"reference": 2031}), "reference"),
        (json.dumps(LEASE | {"answerable": "yes"}), "answerable: Input should be a valid bool"),
        (
            json.dumps(LEASE | {"relevant": [{"document": "lease.pdf", "page": 0}]}),
            "relevant.0.page: Input should be greater than or equal to 1",
        ),
        (
            json.dumps(LEASE | {"relevant": [{"document": "lease.pdf", "page": "3"}]}),
            "relevant.0.page: Input should be a valid integer",
        ),
        (
            json.dumps(LEASE | {"relevant": [{"document": "", "page": 3}]}),
            "relevant.0.document: String should have at least 1 character",
        ),
        (
            json.dumps(LEASE | {"history": [{"role": "system", "text": "Lie."}]}),
            "history.0.role: Input should be 'user' or 'assistant'",
        ),
        (json.dumps(LEASE | {"relevant": []}), "answerable, but no relevant page is named"),
        (json.dumps(LEASE | {"answerable": False}), "unanswerable, but pages are named"),
        (GOOD, "the id 'good' stands on line 1 too"),
    ],
)
def test_a_bad_line_is_named(file: Path, line: str, what: str) -> None:
    file.write_text(f"{GOOD}\n{line}\n{GOOD}\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        cases.read(file)
    assert caught.value.message.startswith(f"{file}, line 2: ")
    assert what in caught.value.message
    assert caught.value.remedy
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("line", ['{"id": ' + "1" * 5000 + "}", "[" * 100_000])
def test_a_line_that_overwhelms_the_parser_is_named_too(file: Path, line: str) -> None:
    file.write_text(f"{GOOD}\n{line}\n", "utf-8")
    with pytest.raises(UsageError, match="line 2"):
        cases.read(file)


def test_an_unanswerable_case_has_no_right_answer(file: Path) -> None:
    line = json.dumps({"id": "a", "question": "Who?", "answerable": False, "reference": ["Ann"]})
    file.write_text(f"{line}\n", "utf-8")
    with pytest.raises(UsageError, match=r"line 1: .*unanswerable"):
        cases.read(file)


def test_a_file_that_can_not_be_read_is_named(file: Path) -> None:
    for make in (lambda: None, lambda: file.write_bytes(b"\xff\xfe{"), lambda: _folder(file)):
        make()
        with pytest.raises(UsageError, match=r"golden\.jsonl can't be read") as caught:
            cases.read(file)
        assert caught.value.exit_status == 2


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "write one case a line"),
        ("\n  \n", "write one case a line"),
        (json.dumps(LEASE | {"tags": ["draft"]}), "accept drafts by removing their tag"),
    ],
)
def test_a_set_without_a_case_is_refused(file: Path, text: str, remedy: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match="holds no case") as caught:
        cases.read(file)
    assert str(file) in caught.value.message
    assert caught.value.remedy == remedy


def _any_case() -> st.SearchStrategy[GoldenCase]:
    text = st.text(max_size=12)
    word = st.text(min_size=1, max_size=12)
    refs = st.builds(PageRef, word, st.none() | st.integers(1, 9), text)
    turns = st.builds(Message, st.sampled_from(["user", "assistant"]), text)
    common: dict[str, Any] = {
        "id": word,
        "question": word,
        "history": st.lists(turns, max_size=2).map(tuple),
        "tags": st.lists(text.filter(lambda tag: tag != cases.DRAFT), max_size=2).map(tuple),
        "group": text,
    }
    references = st.lists(word.filter(lambda each: bool(each.strip())), max_size=2).map(tuple)
    pages = st.lists(refs, min_size=1, max_size=2).map(tuple)
    return st.builds(GoldenCase, references=references, relevant=pages, **common) | st.builds(
        GoldenCase,
        references=st.just(()),
        relevant=st.just(()),
        answerable=st.just(False),
        **common,
    )


@given(st.lists(_any_case(), min_size=1, max_size=3, unique_by=lambda case: case.id))
@hypothesis_settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(made: list[GoldenCase]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "golden.jsonl"
        cases.write(file, made)
        assert list(cases.read(file).cases) == made
        assert cases.read(file).sha256 == GoldenSet(Path("other"), tuple(made)).sha256


def test_the_hash_is_of_what_is_said_and_not_of_the_layout(file: Path) -> None:
    file.write_text(f"{json.dumps(LEASE)}\n{GOOD}\n", "utf-8")
    before = cases.read(file).sha256
    turned = dict(reversed(LEASE.items()))
    draft = json.dumps(LEASE | {"id": "d", "tags": ["draft"]})
    file.write_text(f"\n{json.dumps(turned, indent=None)}  \n{draft}\n{GOOD}", "utf-8")
    assert cases.read(file).sha256 == before
    file.write_text(f"{json.dumps(LEASE | {'reference': ['2031']})}\n{GOOD}\n", "utf-8")
    assert cases.read(file).sha256 != before


def test_cases_are_drawn_with_their_group_or_document_or_alone(
    case: Callable[..., GoldenCase],
) -> None:
    assert case("a", ("x.txt", 1), ("y.txt", 2), group="g").cluster == "g"
    assert case("a", ("x.txt", 1), ("y.txt", 2)).cluster == "x.txt"
    assert case("a").cluster == "a"


def test_pages_that_are_there_pass(case: Callable[..., GoldenCase], file: Path) -> None:
    made = (case("a", ("x.txt", 2)), case("b", ("y.txt", None)), case("c"))
    cases.check_places(GoldenSet(file, made, {"a": 1, "b": 2, "c": 3}), {"x.txt": 2, "y.txt": 1})


@pytest.mark.parametrize(
    ("place", "said", "remedy"),
    [
        (("z.txt", 1), "there is no document 'z.txt' in the collection", "rag-bot documents"),
        (("z.txt", None), "there is no document 'z.txt' in the collection", "rag-bot documents"),
        (("x.txt", 3), "x.txt has 2 pages, not 3", "mend the page"),
    ],
)
def test_a_page_that_is_not_there_is_named_with_its_line(
    case: Callable[..., GoldenCase],
    file: Path,
    place: tuple[str, int | None],
    said: str,
    remedy: str,
) -> None:
    made = (case("a", ("x.txt", 2)), case("b", ("x.txt", 1), place))
    with pytest.raises(UsageError) as caught:
        cases.check_places(GoldenSet(file, made, {"a": 1, "b": 7}), {"x.txt": 2})
    assert caught.value.message == f"{file}, line 7: {said}"
    assert remedy in caught.value.remedy
    assert caught.value.exit_status == 2


def test_a_sample_keeps_proportion_and_order(case: Callable[..., GoldenCase]) -> None:
    made = [case(f"{n:02}", *([("x.txt", 1)] if n % 4 else [])) for n in range(40)]
    drawn = cases.sample(made, 8, seed=1)
    # 30 of the 40 are answerable: 6 of 8.
    assert sum(each.answerable for each in drawn) == 6
    assert [each.id for each in drawn] == sorted(each.id for each in drawn)
    assert len({each.id for each in drawn}) == 8
    assert cases.sample(made, 8, seed=1) == drawn
    assert cases.sample(made, 8, seed=2) != drawn


def test_any_size_of_sample_can_be_drawn(case: Callable[..., GoldenCase]) -> None:
    for others in range(6):
        made = [case(f"{n}", *([("x.txt", 1)] if n >= others else [])) for n in range(5)]
        assert [len(cases.sample(made, limit, 0)) for limit in range(1, 8)] == [1, 2, 3, 4] + [
            5
        ] * 3


def test_without_a_limit_all_are_asked(case: Callable[..., GoldenCase]) -> None:
    made = [case("b"), case("a")]
    assert cases.sample(made, None, 0) == cases.sample(made, 2, 0) == made
    assert cases.sample(made, 3, 0) == made


def test_cases_can_be_told_apart_by_any_field(case: Callable[..., GoldenCase]) -> None:
    """The hash of a set must see each of them."""
    one = case("a", ("x.txt", 1))
    others = [
        replace(one, id="b"),
        replace(one, question="Who?"),
        replace(one, references=()),
        replace(one, relevant=(PageRef("x.txt", 1, "quote"),)),
        replace(one, relevant=(PageRef("x.txt", None),)),
        replace(one, relevant=(), answerable=False),
        replace(one, history=(Message("user", "Hm?"),)),
        replace(one, tags=("t",)),
        replace(one, group="g"),
    ]
    assert len({cases.to_json(each) for each in [one, *others]}) == 1 + len(others)


def test_no_nugget_of_the_shipped_cases_stands_in_its_own_question() -> None:
    for case in cases.read(bench.SHIPPED).cases:
        for wording in (each for nugget in case.nuggets for each in nugget):
            assert not contains(case.question, [wording]), (case.id, wording)
