"""Drafts say what stands on the page they name, and near misses what stands on none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eval import cases as cases_
from eval.cases import DRAFT, GoldenCase
from eval.draft import KINDS, NEAR_MISS, draft
from rag_bot.errors import UsageError

HANDBOOK = [
    "# Handbook of Velder Marine\n\n1 Starting\nThe probation period is six months. It may be"
    " longer.\nA lost badge must be reported within\n24 hours. The safety officer is Dr Nell"
    ' Bracegarth.\n"Working day" means Monday to Friday, except public holidays.\n',
    "2 Money\nThe training budget is EUR 1,200. Salaries are paid on 27 March 2026.\nA missing key"
    " is charged at EUR 45.\nEach employee may keep up to three whole days of leave.\n\n"
    "3 Dogs\n\nDogs are allowed in the office on Fridays, if all persons in the room agree.\n",
]
TABLE = [
    "Pump list 2026\n\nPump | Weight | Price 2026\nNordic SK-400 | 31 kg | EUR 2440\n"
    "Nordic SK-200 | 17 kg | EUR 890\nTotal | 48 kg | EUR 3330\n\nContact: Ida Krumm\n"
]
RECORDS = [
    "article: BP-12 | name: Battery pack | shelf: B-01 | unit: piece\n"
    "article: SB-07 | name: Bearing set | shelf: A-04 | unit: piece\n"
    "article: WS-31 | name: Wind sensor | shelf: A-05 | unit: piece\n"
    "article: RG-14 | name: Rain gauge | shelf: A-06 | unit: piece\n"
]
GERMAN = [
    "# Anleitung für das Batteriepack\n\nDas Pack ist nicht für die Kinder und das Kind.\n\n"
    "| Merkmal | Wert |\n|---|---|\n| Nennspannung | 12,8 V |\n| Masse | 1,62 kg |\n\n"
    "Hersteller: Ferrolith Zellen\n"
]
TEXTS = {
    "handbook.pdf": HANDBOOK,
    "pumps.xlsx": TABLE,
    "inventory.csv": RECORDS,
    "anleitung.md": GERMAN,
}


def answers(*names: str) -> dict[str, str]:
    """Answer by question, of all drafts of some documents."""
    texts = {name: TEXTS[name] for name in names}
    return {
        each.question: each.references[0] for each in draft(texts, count=200) if each.answerable
    }


def drafts(count: int = 40, seed: int = 0) -> list[GoldenCase]:
    """Of all documents above."""
    return draft(TEXTS, count=count, seed=seed)


def test_sentences_become_questions_after_what_they_state() -> None:
    found = answers("handbook.pdf")
    assert (
        found.items()
        >= {
            "How long is the probation period?": "six months",
            "Within how many hours must a lost badge be reported?": "24 hours",
            "Who is the safety officer?": "Dr Nell Bracegarth",
            "What does “Working day” mean?": "Monday to Friday, except public holidays",
            "How much is the training budget?": "EUR 1,200",
            "When are salaries paid?": "27 March 2026",
            "At how much is a missing key charged?": "EUR 45",
            "Up to how many whole days may each employee keep of leave?": "up to three whole days",
            "What does “Handbook of Velder Marine” say about “dogs”?": (
                "Dogs are allowed in the office on Fridays, if all persons in the room agree."
            ),
        }.items()
    )


def test_a_question_after_a_pronoun_is_not_asked() -> None:
    texts = {"a.txt": ["It is 30 metres. This costs EUR 20. They are paid on 3 May 2026."]}
    assert draft(texts, count=20) == []


def test_a_question_that_names_nothing_is_not_asked() -> None:
    texts = {"a.txt": ["The amount is EUR 20. The period is six months. The limit is 40 %."]}
    assert draft(texts, count=20) == []


def test_tables_are_asked_by_row_and_column_but_not_for_totals() -> None:
    found = answers("pumps.xlsx")
    assert found == {
        "What does “Pump list 2026” give for “Nordic SK-400” under “Weight”?": "31 kg",
        "What does “Pump list 2026” give for “Nordic SK-400” under “Price 2026”?": "EUR 2440",
        "What does “Pump list 2026” give for “Nordic SK-200” under “Weight”?": "17 kg",
        "What does “Pump list 2026” give for “Nordic SK-200” under “Price 2026”?": "EUR 890",
        "What does “Pump list 2026” state for “Contact”?": "Ida Krumm",
    }


def test_records_are_asked_by_their_first_field_and_not_for_what_all_have() -> None:
    found = answers("inventory.csv")
    assert found["What is the shelf of Battery pack (BP-12), according to “inventory”?"] == "B-01"
    assert len(found) == 4
    assert "piece" not in found.values()


def test_other_languages_are_asked_in_their_own_for_labels_and_tables() -> None:
    assert answers("anleitung.md") == {
        "Was gibt „Anleitung für das Batteriepack“ für „Nennspannung“ an?": "12,8 V",
        "Was gibt „Anleitung für das Batteriepack“ für „Masse“ an?": "1,62 kg",
        "Was gibt „Anleitung für das Batteriepack“ für „Hersteller“ an?": "Ferrolith Zellen",
    }


def test_the_answer_stands_in_the_quote_and_the_quote_on_its_page() -> None:
    found = [each for each in drafts() if each.answerable]
    assert len(found) > 15
    for each in found:
        (ref,) = each.relevant
        assert ref.page
        assert each.references[0] in ref.quote
        assert ref.quote in " ".join(TEXTS[ref.document][ref.page - 1].split())


def test_every_case_is_tagged_as_a_draft_of_its_kind() -> None:
    found = drafts()
    assert {each.tags[0] for each in found} == {DRAFT}
    assert {each.tags[1] for each in found} == {*KINDS, NEAR_MISS}


def test_near_misses_ask_after_something_that_stands_nowhere() -> None:
    found = drafts()
    everything = "\n".join(page for pages in TEXTS.values() for page in pages)
    asked = " ".join(each.question for each in found if each.answerable)
    misses = [each for each in found if not each.answerable]
    assert len(misses) >= 4
    for each in misses:
        assert not each.references
        assert not each.relevant
        words = set(re.findall(r"[\w-]+", each.question))
        assert words - set(re.findall(r"[\w-]+", everything + asked)), each.question


def test_no_question_is_drafted_twice_and_one_with_two_answers_not_at_all() -> None:
    texts = {
        "a.txt": ["The training budget is EUR 100. The canteen subsidy is EUR 3."],
        "b.txt": ["The canteen subsidy is EUR 3.", "The training budget is EUR 200."],
    }
    texts["a.txt"] += texts["b.txt"]
    texts["b.txt"] = texts["b.txt"][:1]
    found = [each.question for each in draft(texts, count=20) if each.answerable]
    assert found == ["How much is the canteen subsidy?"]
    many = [each.question for each in drafts(200)]
    assert len(many) == len(set(many))


def test_what_two_documents_answer_differently_is_asked_of_each_by_its_name() -> None:
    first = "Quarterly report\n\nThe operating lease expenses were EUR 67 million.\n"
    texts = {
        "2023 Q1.pdf": [first],
        "2023_Q2.pdf": [first.replace("67", "71")],
        "2023 Q3.pdf": [first, first.replace("67", "12")],
        "notes.pdf": ["Notes on the report\n\nThe audit fees were EUR 3 million.\n"],
    }
    found = {
        each.question: (each.references[0], each.group)
        for each in draft(texts, count=50)
        if each.answerable
    }
    asked = "How much were the operating lease expenses"
    assert found[f"{asked}, according to “2023 Q1”?"] == ("EUR 67 million", "2023 Q1.pdf")
    assert found[f"{asked}, according to “2023 Q2”?"] == ("EUR 71 million", "2023_Q2.pdf")
    assert found["How much were the audit fees?"] == ("EUR 3 million", "notes.pdf")
    assert not any("Q3" in question for question in found)


def test_few_drafts_are_spread_over_documents_and_pages() -> None:
    for seed in range(5):
        found = [each.relevant[0] for each in drafts(5, seed) if each.answerable]
        assert len({ref.document for ref in found}) == 4
    only = draft({"handbook.pdf": HANDBOOK}, count=2, seed=3)
    assert {each.relevant[0].page for each in only if each.answerable} == {1, 2}


def test_the_same_seed_drafts_the_same_and_the_order_of_documents_does_not_matter() -> None:
    turned = dict(reversed(TEXTS.items()))
    assert draft(turned, count=12, seed=4) == drafts(12, 4)
    assert drafts(12, 4) != drafts(12, 5)
    assert len(drafts(12, 4)) == 12


def test_drafts_are_a_golden_file_that_asks_nothing_before_a_person_accepts(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    cases_.write(file, drafts())
    with pytest.raises(UsageError, match="drafts"):
        cases_.read(file)
    file.write_text(file.read_text("utf-8").replace('"draft", ', "", 1), "utf-8")
    golden = cases_.read(file)
    assert len(golden.cases) == 1
    assert golden.drafts == len(drafts()) - 1


def test_documents_without_text_give_no_drafts() -> None:
    assert draft({}, count=5) == []
    assert draft({"empty.txt": ["", "  \n"]}, count=5) == []
    assert draft(TEXTS, count=0) == []
