"""What the gate's trial plants and remembers. The trial itself takes an hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from eval import trial
from rag_bot.config import Settings
from rag_bot.types import Answer, Chunk, Citation, Message, Reading, Source

ASKED = [Message("system", "Be brief."), Message("user", "Sources:\n\n[1] x\n\nQuestion: Who?")]


class Counting:
    model_id = "counting"

    def __init__(self) -> None:
        self.asked: list[Sequence[Message]] = []
        self.read_pairs: list[tuple[str, tuple[str, str]]] = []

    def count(self, text: str) -> int:
        return len(text)

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        self.asked.append(messages)
        yield from ("one ", "two ", "three")

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        self.read_pairs += [(question, each) for each in passages]
        return [Reading(len(text), 0.5, 0, 1, 0.0) for _, text in passages]


def test_an_answer_is_written_once_also_when_the_first_listener_left_early() -> None:
    model = Counting()
    remembering = trial.Remembering(model)
    stream = remembering.stream(ASKED)
    assert next(stream) == "one "
    stream.close()
    assert [*remembering.stream(ASKED)] == ["one ", "two ", "three"]
    assert [*remembering.stream(ASKED)] == ["one ", "two ", "three"]
    assert len(model.asked) == 2


def test_a_passage_is_read_once_for_each_question() -> None:
    model = Counting()
    recalling = trial.Recalling(model)
    first = recalling.read("Who?", [("a", "x"), ("a", "yy")])
    assert recalling.read("Who?", [("a", "yy"), ("b", "zzz")])[0] == first[1]
    assert recalling.read("When?", [("a", "x")]) == first[:1]
    assert [text for _, (_, text) in model.read_pairs] == ["x", "yy", "zzz", "x"]


def test_the_blind_one_is_shown_the_question_alone() -> None:
    model = Counting()
    assert "".join(trial.Blind(model).stream(ASKED)) == "one two three"
    assert [message.text for message in model.asked[0]] == ["Be brief.", "Question: Who?"]


def test_markers_are_shifted_to_the_next_source() -> None:
    sources = tuple(
        Source(n, Chunk(f"c{n}", f"d{n}", "text", n, n, 0, 4), f"{n}.txt", f"/{n}.txt", 1.0)
        for n in (1, 2)
    )
    cited = [Citation(n, f"c{n}", f"d{n}", f"{n}.txt", n, "text", 0, 4) for n in (1, 2)]
    answer = Answer("q", "q", "a", sources, tuple(cited), (), False, "", "")
    shifted = trial._shifted(answer)
    assert [(c.marker, c.document, c.page) for c in shifted.citations] == [
        (2, "2.txt", 2),
        (1, "1.txt", 1),
    ]


def test_five_are_planted_and_ten_are_harmless(settings: Settings, tmp_path: Path) -> None:
    made = trial.trials(trial.Stage(settings, tmp_path, None, True))
    assert sum(each.bad for each in made) == 5
    assert sum(not each.bad for each in made) == 10
    assert len({each.name for each in made}) == 15
