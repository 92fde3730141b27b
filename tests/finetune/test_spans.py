import json
import random
from pathlib import Path

import pytest

from finetune import spans
from finetune.spans import Guard, Lesson
from rag_bot.embed import Embedder

SQUAD = {
    "data": [
        {
            "title": "Old_Town",
            "paragraphs": [
                {
                    "context": "The mill was built in 1852. It burned down in 1901.",
                    "qas": [
                        {
                            "question": "When was the mill built?",
                            "answers": [
                                {"text": "1852", "answer_start": 22},
                                {"text": "in 1852", "answer_start": 19},
                                {"text": "1852", "answer_start": 22},
                            ],
                        },
                        {"question": "Who built it?", "answers": [], "is_impossible": True},
                        {
                            "question": "When did it burn?",
                            "answers": [{"text": "1901", "answer_start": 3}],
                        },
                    ],
                }
            ],
        }
    ]
}


@pytest.fixture
def built(tmp_path: Path) -> list[Lesson]:
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(SQUAD))
    return list(spans.squad_form(file, "squad"))


def test_squads_form_is_read(built: list[Lesson]) -> None:
    first, second = built  # the third one's offset is wrong
    assert first.span == (22, 26)
    assert first.passage[22:26] == "1852"
    assert first.header == "Old Town"
    assert (second.answerable, second.span) == (False, None)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (["1852"], (22, 26)),
        (["the MILL"], (0, 8)),
        (["in"], None),  # stands there twice
        (["1853", "1901"], (46, 50)),
        (["  "], None),
    ],
)
def test_an_answer_is_located_where_it_stands_once(
    answers: list[str], found: tuple[int, int] | None
) -> None:
    passage = "The mill was built in 1852. It burned down in 1901."
    got = [lesson.span for lesson in spans.located("?", passage, answers, "", "x")]
    assert got == ([found] if found else [])


def test_what_is_measured_is_not_learned(built: list[Lesson]) -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen"
    guard = Guard(["When was the mill  built"], [f"And {words}!"])
    assert not guard.allows(built[0])  # the question, but for its punctuation
    assert guard.allows(built[1])
    copied = Lesson("?", f"before {words.upper()} after", "", None, None, "x")
    assert not guard.allows(copied)
    assert guard.allows(Lesson("?", words.replace("seven", "7"), "", None, None, "x"))


def test_a_near_miss_has_lost_the_sentence_that_answers(built: list[Lesson]) -> None:
    missed = spans.without_answer(built[0], random.Random(0))
    assert missed is None  # one sentence is left: too little to be a passage
    longer = Lesson(
        "When was the mill built?",
        "The mill stands by the river. It was built in 1852. It burned down in 1901.",
        "",
        (46, 50),
        True,
        "x",
    )
    missed = spans.without_answer(longer, random.Random(0))
    assert missed is not None
    assert missed.passage == "The mill stands by the river. It burned down in 1901."
    assert (missed.answerable, missed.span) == (False, None)
    again = Lesson("?", longer.passage + " That was 1852.", "", (46, 50), True, "x")
    assert spans.without_answer(again, random.Random(0)) is None


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("When was Harbour Mill built?", {"When was Old Bridge built?"}),
        ("What was built in 1852?", {"What was built in 1901?", "What was not built in 1852?"}),
        ("Which was built first?", {"Which was built last?", "Which was not built first?"}),
        ("Whose mill?", {None}),
    ],
)
def test_a_question_is_twisted_into_one_that_the_passage_does_not_answer(
    question: str, told: set[str | None]
) -> None:
    passage = "They built Harbour Mill in 1852 and then Old Bridge in 1901, by the river."
    start = passage.index("by the river")
    span = (start, start + len("by the river"))
    lesson = Lesson(question, passage, "Mills", span, True, "x")
    made = {
        twist and twist.question
        for seed in range(60)
        if (twist := spans.twisted(lesson, random.Random(seed))) or told == {None}
    }
    assert made <= told | {question.replace(" was ", " was not ")}
    assert made & told
    twist = next((t for n in range(60) if (t := spans.twisted(lesson, random.Random(n)))), None)
    assert twist is None or (twist.passage, twist.span, twist.answerable) == (passage, None, False)


def test_wrong_passages_are_close_and_do_not_hold_the_answer(embedder: Embedder) -> None:
    texts = [f"The mill of village {n} was built in 18{n:02}." for n in range(40)]
    asked = [
        Lesson(
            f"When was the mill of village {n} built?",
            text,
            "",
            (len(text) - 5, len(text) - 1),
            True,
            "x",
        )
        for n, text in enumerate(texts)
    ]
    asked.append(Lesson("Which year?", "It was 1805 again.", "", (7, 11), True, "x"))
    for lesson in spans.with_wrong(asked, embedder):
        assert len(lesson.wrong) == spans.HARD
        assert lesson.passage not in lesson.wrong
        assert lesson.span
        answer = lesson.passage[slice(*lesson.span)]
        assert not any(answer in wrong for wrong in lesson.wrong)


def test_lessons_are_read_as_they_were_written(built: list[Lesson], tmp_path: Path) -> None:
    from dataclasses import asdict, replace

    told = [replace(built[0], wrong=("a", "b")), built[1]]
    file = tmp_path / "lessons.jsonl"
    file.write_text("".join(json.dumps(asdict(each)) + "\n" for each in told))
    assert spans.read(file) == told
