from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_bot.catalogue import Vectors
from rag_bot.cite import Claim
from rag_bot.embed import Embedder
from rag_bot.types import Document, Page, Reading, Source
from rag_bot.verify import SUPPORTED, Verifier

Make = Callable[..., Source]
LEAVE = "Full-time employees have 28 days of paid leave. Unused leave expires on 31 March."
PUMP = "The pump delivers 4.5 bar at 60 litres a minute. It was built by Vortex in Lyon."


@pytest.fixture
def check(
    embedder: Embedder, source: Make
) -> Callable[[str, str], tuple[str, list[tuple[int, str]]]]:
    """The label of a claim over two sources, and what it cites: marker and quote."""
    sources = [source(1, LEAVE, "leave.txt"), source(2, PUMP, "pump.txt", page=7)]

    def run(question: str, claim: str, *markers: int) -> tuple[str, list[tuple[int, str]]]:
        verdict = Verifier(question, sources, embedder).check(Claim("", claim, markers))
        assert verdict.claim == claim
        assert (verdict.score >= SUPPORTED) == (verdict.label == "supported")
        return verdict.label, [(c.marker, c.quote) for c in verdict.citations]

    return run


Check = Callable[..., tuple[str, list[tuple[int, str]]]]


def test_a_claim_in_the_sources_own_words_is_supported_and_cited(check: Check) -> None:
    assert check("How much leave is there?", "Full-time employees have 28 days of paid leave.") == (
        "supported",
        [(1, "Full-time employees have 28 days of paid leave.")],
    )


def test_a_claim_said_differently_is_supported(check: Check) -> None:
    label, cited = check("How many days off?", "Employees have 28 paid leave days.")
    assert label == "supported"
    assert "28 days of paid leave" in cited[0][1]


@pytest.mark.parametrize(
    "claim",
    [
        "Full-time employees have 30 days of paid leave.",
        "Unused leave expires on 30 March.",
        "The pump delivers 45 bar at 60 litres a minute.",
        "The pump delivers 4.6 bar at 60 litres a minute.",
    ],
)
def test_a_wrong_number_is_never_forgiven(check: Check, claim: str) -> None:
    assert check("What do the documents say?", claim) == ("unsupported", [])


def test_a_wrong_name_is_never_forgiven(check: Check) -> None:
    assert check("Who built the pump?", "The pump was built by Siemens in Lyon.") == (
        "unsupported",
        [],
    )


@pytest.mark.parametrize(
    ("claim", "label"),
    [
        ("The lease began on 3 March 2021.", "supported"),
        ("The lease began on 3 May 2021.", "unsupported"),
        ("It was signed in Lyon by Paul Weber.", "supported"),
        ("It was signed in Lyon by Paul Huber.", "unsupported"),
        ("Paul Weber signed it in Lyon.", "supported"),
        ("Peter Weber signed it in Lyon.", "unsupported"),
        ("The rent is due on 1 April 2021.", "supported"),
        ("The rent is due on 1 June 2021.", "unsupported"),
        ("The last day is 31 December 2027.", "supported"),
        ("The last day is 31 October 2027.", "unsupported"),
    ],
)
def test_a_name_counts_wherever_it_stands_in_a_claim(
    claim: str, label: str, embedder: Embedder, source: Make
) -> None:
    text = (
        "The lease began on 3 March 2021. It was signed in Lyon by Paul Weber. "
        "The rent is due on 2021-04-01. The last day is 31.12.2027."
    )
    verifier = Verifier("What was agreed?", [source(1, text, "lease.txt")], embedder)
    assert verifier.check(Claim("", claim, ())).label == label


def test_the_right_name_is_supported(check: Check) -> None:
    label, cited = check("Who built the pump?", "The pump was built by Vortex in Lyon.")
    assert label == "supported"
    assert cited[0][0] == 2


def test_another_subject_is_unsupported(check: Check) -> None:
    assert check("Who is the chairman?", "The chairman signs every contract.")[0] == "unsupported"


def test_a_claim_without_words_is_unsupported(check: Check) -> None:
    assert check("What is it?", "It is.") == ("unsupported", [])


def test_without_sources_nothing_is_supported(embedder: Embedder) -> None:
    verifier = Verifier("How much leave?", [], embedder)
    assert verifier.check(Claim("", "28 days.", ())).label == "unsupported"
    assert verifier.closest() is None


def test_the_source_the_model_named_is_preferred_where_both_support(
    embedder: Embedder, source: Make
) -> None:
    verifier = Verifier("How much leave?", [source(1, LEAVE), source(2, LEAVE)], embedder)
    claim = "Full-time employees have 28 days of paid leave."
    for marker in (1, 2):
        (cited,) = verifier.check(Claim("", claim, (marker,))).citations
        assert cited.marker == marker


def test_a_wrong_marker_is_put_right(check: Check) -> None:
    _, cited = check("How much leave is there?", "Employees have 28 days of paid leave.", 2)
    assert [marker for marker, _ in cited] == [1]


def test_a_citation_says_where_it_is_from(embedder: Embedder, source: Make) -> None:
    verifier = Verifier("Who built it?", [source(3, PUMP, "pump.txt", page=7, start=100)], embedder)
    (cited,) = verifier.check(Claim("", "It was built by Vortex in Lyon.", ())).citations
    assert (cited.marker, cited.document, cited.document_id, cited.page) == (
        3, "pump.txt", "pump.txt", 7,
    )  # fmt: skip
    assert cited.char_start == 100 + PUMP.index("It was")
    assert cited.char_end == 100 + len(PUMP)


class Flat:
    """Finds every text as near as any other."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), 1), dtype=np.float32)


SENTENCE = st.lists(
    st.sampled_from(["fee", "28", "days", "Müller", "😀", "|", "a", "of", "1.5", "\n", "- "]),
    min_size=1,
    max_size=8,
).map(" ".join)


@given(
    pages=st.lists(st.lists(SENTENCE, max_size=5).map(". ".join), min_size=1, max_size=3),
    claim=SENTENCE,
    question=SENTENCE,
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_quote_is_always_a_slice_of_the_document(
    source: Make, pages: list[str], claim: str, question: str
) -> None:
    document = Document("d", "/d", "", tuple(Page(n, t) for n, t in enumerate(pages, 1)))
    sources = list(numbered(source, document))
    verifier = Verifier(question, sources, Flat())
    cited = list(verifier.check(Claim("", claim, (1,))).citations)
    closest = verifier.closest()
    if closest:
        _, passage = closest
        start = passage.source.chunk.char_start
        assert document.text[start + passage.start : start + passage.end] == passage.text
    for each in cited:
        assert document.text[each.char_start : each.char_end] == each.quote != ""
        assert each.quote in pages[each.page - 1]


def numbered(source: Make, document: Document) -> Iterator[Source]:
    start = 0
    for page in document.pages:
        yield source(page.number, page.text, "d", page=page.number, start=start)
        start += len(page.text) + 1


def test_the_closest_passage_is_about_the_question(embedder: Embedder, source: Make) -> None:
    verifier = Verifier(
        "When does unused leave expire?", [source(1, PUMP), source(2, LEAVE)], embedder
    )
    score, passage = verifier.closest()
    assert "Unused leave expires on 31 March." in passage.text
    assert 0.55 < score <= 1.01


def test_a_code_in_the_question_decides_the_closest_passage(
    embedder: Embedder, source: Make
) -> None:
    text = "E-416 | sensor fault, call service\nE-417 | dry run, open the valve"
    _, passage = Verifier("What does E-417 mean?", [source(1, text)], embedder).closest()
    assert passage.text == "E-417 | dry run, open the valve"


def test_the_same_words_about_something_else_do_not_support(
    embedder: Embedder, source: Make
) -> None:
    sources = [
        source(1, "Refunds for opened software are granted within 14 days."),
        source(2, "Complaints about the canteen are answered within 14 days."),
    ]
    verifier = Verifier("When is a refund for opened software granted?", sources, embedder)
    (cited,) = verifier.check(Claim("", "Within 14 days.", (2,))).citations
    assert cited.marker == 1


def test_a_few_words_are_supported_where_the_reader_points(
    embedder: Embedder, source: Make
) -> None:
    text = "The bill, which Adams did not sign, was written by James Madison. He lived in Rome."
    start = text.index("James")

    def read(probability: float) -> Source:
        reading = Reading(0.0, probability, start, start + 13, 0.0)
        return replace(source(1, text), reading=reading)

    def held(claim: str, *sources: Source) -> tuple[str, list[str]]:
        verdict = Verifier("Who wrote the bill?", sources, embedder).check(Claim("", claim, (1,)))
        return verdict.label, [cited.quote for cited in verdict.citations]

    # Who did what in a sentence with a "not" can't be told from two words alone.
    assert held("James Madison", source(1, text)) == ("unsupported", [])
    quote = text.partition(" He")[0]
    assert held("James Madison", read(0.5)) == ("supported", [quote])
    assert held("madison.", read(0.5)) == ("supported", [quote])
    assert held("James Madison", read(0.05)) == ("unsupported", [])  # it does not believe it
    assert held("Adams", read(0.5)) == ("unsupported", [])  # not where it points
    assert held("John Madison", read(0.5)) == ("unsupported", [])


@pytest.mark.parametrize("claim", ["500 EUR", "1,50 EUR", "500", "1"])
def test_part_of_a_number_or_word_is_not_what_the_reader_points_at(
    embedder: Embedder, source: Make, claim: str
) -> None:
    reading = Reading(0.0, 0.9, 12, 21, 0.0)
    found = replace(
        source(1, "The rent is 1,500 EUR ahead, and 1,500.5 with tax."), reading=reading
    )
    verdict = Verifier("What is the rent?", [found], embedder).check(Claim("", claim, (1,)))
    assert verdict.label == "unsupported"
    whole = Verifier("What is the rent?", [found], embedder).check(Claim("", "1,500 EUR", (1,)))
    assert whole.label == "supported"


def test_a_pointed_answer_is_cited_from_the_source_that_the_model_named(
    embedder: Embedder, source: Make
) -> None:
    text = "Rent is due on Friday."
    reading = Reading(0.0, 0.5, 15, 21, 0.0)
    sources = [replace(source(n, text, f"{n}.txt"), reading=reading) for n in (1, 2)]
    verdict = Verifier("When is rent due?", sources, embedder).check(Claim("", "Friday", (2,)))
    assert [cited.marker for cited in verdict.citations] == [2]


@pytest.mark.parametrize(
    ("question", "claim"),
    [
        ("Does unused leave expire on 30 March?", "Unused leave expires on 30 March."),
        ("Is it true that there are 30 days of paid leave?", "There are 30 days of paid leave."),
        ("Was the pump built by Siemens in Lyon?", "The pump was built by Siemens in Lyon."),
        ("When was the Siemens pump built in Lyon?", "The pump by Siemens was built in Lyon."),
    ],
)
def test_what_a_leading_question_says_is_no_evidence(
    check: Check, question: str, claim: str
) -> None:
    assert check(question, claim) == ("unsupported", [])


def test_what_the_question_names_may_stand_elsewhere_in_the_source(
    embedder: Embedder, source: Make
) -> None:
    text = "The Vortex 400 is a pump. It delivers 4.5 bar at 60 litres a minute."
    verifier = Verifier("How much does the Vortex 400 deliver?", [source(1, text)], embedder)
    claim = Claim("", "The pump Vortex 400 delivers 4.5 bar at 60 litres a minute.", ())
    assert verifier.check(claim).label == "supported"


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("Haustiere sind im Haus nicht erlaubt.", "Haustiere sind im Haus erlaubt."),
        ("Les animaux ne sont pas admis.", "Les animaux sont admis."),
        ("The deposit is non-refundable.", "The deposit is refundable."),
        ("The lowest storage temperature is -20 °C.", "The lowest storage temperature is 20 °C."),
    ],
)
def test_a_not_and_a_minus_sign_count_in_every_language_we_know(
    embedder: Embedder, source: Make, text: str, claim: str
) -> None:
    verifier = Verifier("What do the documents say?", [source(1, text)], embedder)
    assert verifier.check(Claim("", claim, ())).label == "unsupported"
    assert verifier.check(Claim("", text, ())).label == "supported"


@pytest.mark.parametrize(
    ("text", "read", "claim", "holds"),
    [
        ("No pets are allowed in the building.", "No pets", "Pets are allowed", False),
        ("No pets are allowed in the hall.", "pets are", "Pets are allowed in the hall", False),
        ("It is not true that pumps may run dry.", "pumps may run dry", "Pumps may run dry", False),
        ("Not Ida Brandt but Per Holm signed it.", "Ida Brandt", "Ida Brandt", False),
        ("Not Ida Brandt but Per Holm signed it.", "Per Holm", "Per Holm", True),
        ("It is kept at -20 °C.", "20 °C", "20 °C", False),
    ],
)
def test_what_the_reader_points_at_is_not_denied_there(
    embedder: Embedder, source: Make, text: str, read: str, claim: str, holds: bool
) -> None:
    start = text.index(read)
    reading = Reading(0.0, 0.9, start, start + len(read), 0.0)
    verifier = Verifier("What is said?", [replace(source(1, text), reading=reading)], embedder)
    assert (verifier.check(Claim("", claim, ())).label == "supported") == holds
