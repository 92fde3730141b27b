import json
from dataclasses import replace
from pathlib import Path

import pytest

from finetune import examples
from finetune.examples import QAExample, QASource
from rag_bot import prompt
from rag_bot.errors import UsageError
from rag_bot.types import Chunk, Reading, Source


def test_an_example_keeps_what_serving_showed_byte_for_byte() -> None:
    text = "Rent is due. It is paid on the first day. Late rent costs EUR 5."
    chunk = Chunk("c", "d", text, 3, 3, 100, 100 + len(text), "Rent > Payment")
    reading = Reading(1.0, 0.9, 27, 36, 2.0)
    source = Source(1, chunk, "lease.pdf", "/docs/lease.pdf", 0.3, reading, ((13, 42),))
    kept = QAExample("e", "lease.pdf", "When?", "first day [1]", (examples.of_source(source),))
    assert kept.messages == prompt.build("When?", [source])
    surer = replace(source, marker=2, reading=replace(reading, answerable=1.0, start=0, end=4))
    both = QAExample("e", "d", "When?", "x", tuple(map(examples.of_source, (source, surer))))
    assert both.messages == prompt.build("When?", [source, surer])  # the stars are in one alone
    assert both.messages[1].text.count(prompt.MARK) == 2
    assert "It is paid on **the first** [1] day." in kept.messages[1].text


def test_documents_are_parted_and_small_folders_are_not() -> None:
    names = [f"{n}.txt" for n in range(4000)]
    found = examples.splits(names)
    shares = [sum(s == split for s in found.values()) / 4000 for split in examples.SPLITS]
    assert shares == pytest.approx([0.55, 0.15, 0.3], abs=0.02)
    assert found == examples.splits(reversed(names))
    assert found != examples.splits(names, seed=1)
    more = examples.splits([*names, "one-more.txt"])
    assert {name: more[name] for name in names} == found
    for seed in range(50):
        assert set(examples.splits("abc", seed).values()) == set(examples.SPLITS)
    assert examples.splits(["a", "b"]) == {"a": "train", "b": "train"}


def test_what_must_not_be_learned_is_refused(coloured: list[QAExample]) -> None:
    examples.check(coloured, golden={"Who?"}, gone={"/docs/other.txt"})
    with pytest.raises(UsageError, match="judged by"):
        examples.check(coloured, golden={coloured[3].question.upper()})
    with pytest.raises(UsageError, match=r"/docs/d7\.txt, which was deleted"):
        examples.check(coloured, gone={"/docs/d7.txt"})
    moved = [replace(coloured[0], split="train"), coloured[20]]
    with pytest.raises(UsageError, match="two splits"):
        examples.check(moved)
    source = replace(coloured[20].sources[0], document="held.txt")
    of_test = replace(coloured[20], document_id="held.txt", sources=(source,), split="test")
    of_train = next(each for each in coloured if each.split == "train")
    leaking = replace(of_train, sources=(*of_train.sources, *of_test.sources))
    with pytest.raises(UsageError, match=f"shows {of_test.document_id}, which is for testing"):
        examples.check([leaking, of_test])
    with pytest.raises(UsageError, match="which is for testing"):
        examples.check([leaking], tested={of_test.document_id})
    examples.check([leaking])
    # What people said is heard without it, unless it is what they cite.
    spared = examples.without(leaking, {"held.txt"})
    assert spared
    assert spared.sources == of_train.sources
    assert spared.answer == leaking.answer
    turned = replace(leaking, sources=leaking.sources[::-1])
    assert examples.without(turned, {"held.txt"}) is None
    second = replace(turned, answer="So [2]", rejected="No [1]")
    mended = examples.without(second, {"held.txt"})
    assert mended
    assert (mended.answer, mended.rejected) == ("So [1]", "")
    assert examples.without(leaking, {"other.txt"}) is leaking
    # What only validation asks may be judged by.
    alone = [each for each in coloured if each.split == "validation"]
    examples.check(alone, golden={alone[0].question})


def test_written_examples_are_read_again(tmp_path: Path, coloured: list[QAExample]) -> None:
    file = tmp_path / "e.jsonl"
    examples.write(file, coloured)
    assert examples.read(file) == coloured


def test_rows_of_ones_own_keep_their_split(tmp_path: Path) -> None:
    row = {"question": "Who?", "context": "Ann came.", "answer": "Ann"}
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row | {"split": s}) + "\n" for s in examples.SPLITS))
    assert [each.split for each in examples.read(file)] == list(examples.SPLITS)
    file.write_text(json.dumps(row | {"split": "exam"}))
    with pytest.raises(UsageError, match="line 1: split is none of train, validation, test"):
        examples.read(file)


def test_files_of_ones_own_are_enough(tmp_path: Path) -> None:
    rows = [
        {"question": "Who?", "context": ["It was Ann.", "It was Bo."], "answer": "Bo."},
        {"question": "When?", "context": "It was Ann.", "answer": ""},
        {"question": "Where?", "context": "In Rome.", "answer": "In Rome. [1]"},
    ]
    lines = tmp_path / "own.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)))
    found = examples.read(lines)
    assert [each.answer for each in found] == ["Bo. [2]", prompt.NO_ANSWER, "In Rome. [1]"]
    assert [each.answerable for each in found] == [True, False, True]
    # A worse answer has its marker as well: nobody is to learn that a marker is what makes it good.
    worse = [rows[0] | {"rejected": said} for said in ("Ann.", "Cy", "Ann [2]", prompt.NO_ANSWER)]
    lines.write_text("\n".join(map(json.dumps, worse)))
    rejected = [each.rejected for each in examples.read(lines)]
    assert rejected == ["Ann. [1]", "Cy [1]", "Ann [2]", prompt.NO_ANSWER]
    table = tmp_path / "own.csv"
    table.write_text('question,context,answer\nWho?,"It was\nAnn.",Ann\n', "utf-8")
    (one,) = examples.read(table)
    assert one.answer == "Ann [1]"
    assert one.sources[0].text == "It was\nAnn."
    table.write_text("question,context,answer\nWho?,It was\x0cAnn.\u2028Yes.,Ann\n", "utf-8")
    (one,) = examples.read(table)
    assert one.sources[0].text == "It was\x0cAnn.\u2028Yes."


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"question": "Who?"}\n', "line 1: no context"),
        ("a.jsonl", '\n{"question": "Who?", "context": []\n', "line 2: no JSON"),
        ("a.jsonl", '{"question": " ", "context": "It was Ann."}', "line 1: no question"),
        ("a.jsonl", "[1]", "no JSON object"),
        ("a.jsonl", '{"id": "1", "sources": [{"page": 1}]}', "line 1: document_id"),
        ("a.csv", "question,answer\nWho?,Ann\n", "lacks context"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        examples.read(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    with pytest.raises(UsageError, match="can't be read"):
        examples.read(tmp_path / "none.jsonl")


def test_the_sheet_counts_and_shows_and_runs_nothing(coloured: list[QAExample]) -> None:
    bad = replace(coloured[0], question="<script>alert(1)</script>", kind="nasty")
    page = examples.sheet([*coloured, bad])
    assert "81 training examples" in page
    assert "<td>toy</td><td>68</td><td>12</td><td></td><td>16</td>" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "rather than: " in page


def test_an_example_of_an_empty_source_is_still_a_prompt() -> None:
    each = QAExample("e", "d", "Who?", "x [1]", (QASource("d", 1, ""),))
    assert each.messages[-1].text.endswith("Question: Who?")
