import json
from pathlib import Path

import pytest

from eval.datasets import HELD_OUT, UNSEEN
from finetune import written
from finetune.spans import Lesson
from rag_bot.errors import UsageError
from rag_bot.tokenize import WordPieces

LIMIT = 60
HOURS = "The bath opens at 9:00 on weekdays and at 10:00 on Sundays. "
FEES = "A day ticket costs 8 euros. Children under six don't pay. "
FILLER = "The old town lies above the river, and many people like to walk there in the evening. "


def made(tmp_path: Path, pieces: WordPieces, *asked: dict[str, str | None]) -> list[Lesson]:
    row = {"title": "Bath rules", "text": HOURS + 4 * FILLER + FEES, "questions": asked}
    file = tmp_path / "documents.jsonl"
    file.write_text(json.dumps(row) + "\n")
    return list(written.lessons(file, pieces, LIMIT))


def test_a_question_stands_over_the_chunk_that_answers_it(
    tmp_path: Path, pieces: WordPieces
) -> None:
    (lesson,) = made(tmp_path, pieces, {"q": "what do kids of 4 pay", "answer": "don't pay"})
    assert lesson.span is not None
    assert lesson.passage[slice(*lesson.span)] == "don't pay"
    assert "opens" not in lesson.passage
    assert any("opens" in other for other in lesson.wrong)
    assert lesson.passage not in lesson.wrong
    assert (lesson.answerable, lesson.header) == (True, "Bath rules")


def test_words_that_stand_twice_are_told_by_what_is_around_them(
    tmp_path: Path, pieces: WordPieces
) -> None:
    (lesson,) = made(
        tmp_path, pieces, {"q": "Sunday?", "answer": "10:00", "within": "at 10:00 on Sundays"}
    )
    assert lesson.span is not None
    assert lesson.passage[slice(*lesson.span)] == "10:00"


def test_what_is_not_told_stands_over_the_nearest_chunk(tmp_path: Path, pieces: WordPieces) -> None:
    (lesson,) = made(tmp_path, pieces, {"q": "What does a year's ticket cost?", "answer": None})
    assert "day ticket" in lesson.passage
    assert (lesson.answerable, lesson.span) == (False, None)


def test_an_answer_that_is_nowhere_names_its_line(tmp_path: Path, pieces: WordPieces) -> None:
    with pytest.raises(UsageError, match="line 1: '12 euros'"):
        made(tmp_path, pieces, {"q": "How much?", "answer": "12 euros"})


@pytest.mark.parametrize("file", [written.DOCUMENTS, HELD_OUT, UNSEEN])
def test_the_shipped_documents_are_sound(file: Path, pieces: WordPieces) -> None:
    found = list(written.lessons(file, pieces, 254))
    told = [lesson for lesson in found if lesson.answerable]
    assert len(found) > 400
    assert 0.15 < 1 - len(told) / len(found) < 0.4
    assert all(lesson.passage[slice(*lesson.span)].strip() for lesson in told if lesson.span)
    assert len({(lesson.question, lesson.passage) for lesson in found}) > 0.99 * len(found)
    allowed = written.guard()
    assert all(allowed.allows(lesson) for lesson in found)


def test_nothing_held_out_is_learned() -> None:
    learned, held, unseen = (
        {json.loads(line)["text"] for line in file.open(encoding="utf-8")}
        for file in (written.DOCUMENTS, HELD_OUT, UNSEEN)
    )
    assert not learned & (held | unseen)
    assert not held & unseen
