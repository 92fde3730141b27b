"""Each loader on a set small enough to check by eye, and the real ones where they are at hand."""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fpdf import FPDF
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eval import cases, datasets
from eval.cases import GoldenCase, PageRef
from rag_bot.errors import Unavailable, UsageError
from rag_bot.types import Message

REAL = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the public sets aren't on this machine")


def _dump(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), "utf-8")


def _dump_lines(file: Path, rows: list[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _dump_table(file: Path, rows: list[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _pdf(file: Path, *pages: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pdf = FPDF()
    pdf.set_font("Helvetica", size=12)
    for page in pages:
        pdf.add_page()
        pdf.multi_cell(60, text=page)
    pdf.output(str(file))


def _article(title: str, *paragraphs: tuple[str, list[Any]]) -> dict[str, Any]:
    texts = [{"context": context, "qas": qas} for context, qas in paragraphs]
    return {"title": title, "paragraphs": texts}


def _squad(folder: Path) -> None:
    ferry = "The ferry to Ulvik leaves at noon, sharp, from the northern quay."
    goat = "A goat eats two kilograms of hay on a winter day."
    answers = [{"text": "noon, sharp"}, {"text": "noon"}, {"text": "noon"}]
    qas = [
        {"id": "1", "question": "When does it leave?", "answers": answers, "is_impossible": False},
        {"id": "2", "question": "Who steers it?", "answers": [], "is_impossible": True},
    ]
    _dump(folder / "train-v2.json", {"data": [_article("Goats", (goat, []), (ferry, []))]})
    _dump(folder / "val-v2.json", {"data": [_article("Ferries", (ferry, qas))]})


def test_squad_is_its_distinct_paragraphs_and_answers(tmp_path: Path) -> None:
    _squad(tmp_path / "squad")
    dataset = datasets.load("squad-val", tmp_path)
    assert dict(dataset.documents) == {
        "p00000": "A goat eats two kilograms of hay on a winter day.",
        "p00001": "The ferry to Ulvik leaves at noon, sharp, from the northern quay.",
    }
    assert dataset.cases == (
        GoldenCase(
            id="1",
            question="When does it leave?",
            references=("noon", "noon, sharp"),  # two annotators against one
            relevant=(PageRef("p00001.txt", None),),
            group="Ferries",
        ),
        GoldenCase("2", "Who steers it?", (), (), answerable=False, group="Ferries"),
    )


def test_scifact_takes_the_test_qrels(tmp_path: Path) -> None:
    abstracts = [
        {"_id": "7", "title": "T", "text": "Body."},
        {"_id": "8", "title": "", "text": "B"},
    ]
    _dump_lines(tmp_path / "corpus.jsonl", abstracts)
    claims = [{"_id": "1", "text": "A claim."}, {"_id": "2", "text": "Of the training split."}]
    _dump_lines(tmp_path / "queries.jsonl", claims)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t7\t1\n1\t8\t0\n")
    dataset = datasets.scifact(tmp_path)
    assert dict(dataset.documents) == {"7": "T\n\nBody.", "8": "B"}
    assert dataset.cases == (GoldenCase("1", "A claim.", (), (PageRef("7.txt", None),)),)


def test_2wiki_finds_its_gold_by_title(tmp_path: Path) -> None:
    titles = ["AC/DC: Live", "Ulvik", "Goat"]
    corpus = [{"title": title, "text": f"About {title}."} for title in titles]
    _dump(tmp_path / "2wikimultihopqa_corpus.json", corpus)
    question = {"question": "Which band played at Ulvik?", "gold_titles": ["Ulvik", "AC/DC: Live"]}
    _dump(tmp_path / "2wiki_101_questions.json", [question])
    dataset = datasets.two_wiki(tmp_path)
    assert dict(dataset.documents) == {
        "AC DC Live": "AC/DC: Live\n\nAbout AC/DC: Live.",
        "Ulvik": "Ulvik\n\nAbout Ulvik.",
        "Goat": "Goat\n\nAbout Goat.",
    }
    (case,) = dataset.cases
    assert case.relevant == (PageRef("Ulvik.txt", None), PageRef("AC DC Live.txt", None))
    assert (case.id, case.references, case.tags) == ("2wiki-000", (), ("multi-hop",))


def test_passages_of_musique_with_one_title_are_told_apart_by_their_text(tmp_path: Path) -> None:
    corpus = [
        {"title": "Ulvik", "text": "A village."},
        {"title": "Ulvik", "text": "It has a quay."},
        {"title": "Goat", "text": "It eats hay."},
    ]
    _dump(tmp_path / "musique_train_corpus.json", corpus)
    paragraphs = [
        {"title": each["title"], "paragraph_text": each["text"], "is_supporting": supporting}
        for each, supporting in zip(corpus, (False, True, True), strict=True)
    ]
    row = {
        "id": "2hop__1",
        "question": "What is at Ulvik?",
        "answer": "a quay",
        "answer_aliases": ["the quay", "a quay"],
        "paragraphs": paragraphs,
    }
    _dump(tmp_path / "musique_train.json", [row])
    dataset = datasets.musique(tmp_path)
    (case,) = dataset.cases
    assert case.references == ("a quay", "the quay")
    assert [dataset.documents[ref.document.removesuffix(".txt")] for ref in case.relevant] == [
        "Ulvik\n\nIt has a quay.",
        "Goat\n\nIt eats hay.",
    ]
    assert len(dataset.documents) == 3


def test_supporting_sentences_of_hotpotqa_are_quotes(tmp_path: Path) -> None:
    corpus = {"Ulvik": ["A village.", " It has a quay."], "Goat": ["It eats hay."]}
    _dump(tmp_path / "hotpotqa_train_corpus.json", corpus)
    row = {
        "_id": "h1",
        "question": "What is at Ulvik?",
        "answer": "a quay",
        "type": "bridge",
        "supporting_facts": [["Ulvik", 1], ["Goat", 0]],
    }
    _dump(tmp_path / "hotpotqa_train.json", [row])
    dataset = datasets.hotpotqa(tmp_path)
    assert dataset.documents["Ulvik"] == "Ulvik\n\nA village. It has a quay."
    (case,) = dataset.cases
    assert case.references == ("a quay",)
    assert case.relevant == (
        PageRef("Ulvik.txt", None, "It has a quay."),
        PageRef("Goat.txt", None, "It eats hay."),
    )


def test_sec10q_keeps_the_questions_whose_files_are_there(tmp_path: Path) -> None:
    for name in ("2023 Q1 ACME", "2023 Q2 ACME", "2023 Q1 BOLT"):
        _pdf(tmp_path / "docs" / f"{name}.pdf", name)
    common = {"Question Type": "Multi-Doc RAG", "Source Chunk Type": "Table"}
    rows = [
        {
            "Question": "Latest?",
            "Source Docs": "*ACME*",
            "Answer": "9\n\nSOURCE(S): 2023 Q2 ACME.pdf",
        },
        {"Question": "Growth? ", "Source Docs": "*ACME*", "Answer": "It grew."},
        {"Question": "Elsewhere?", "Source Docs": "*ZETA*", "Answer": "4"},
    ]
    _dump_table(tmp_path / "qna_data.csv", [row | common for row in rows])
    dataset = datasets.sec10q(tmp_path)
    assert [file.name for file in dataset.files] == [
        "2023 Q1 ACME.pdf",
        "2023 Q1 BOLT.pdf",
        "2023 Q2 ACME.pdf",
    ]
    latest, growth = dataset.cases
    assert latest.relevant == (PageRef("2023 Q2 ACME.pdf", None),)
    assert latest.references == ("9",)
    assert latest.tags == ("multi-doc", "table")
    assert growth.question == "Growth?"
    assert growth.relevant == (PageRef("2023 Q1 ACME.pdf", None), PageRef("2023 Q2 ACME.pdf", None))


def test_evidence_is_looked_up_on_the_pages_of_a_pdf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pdf(
        tmp_path / "alps_wiki.pdf",
        "The Alps are high. Nothing more is said here.",
        "Although the ferry to Ulvik leaves at noon, and from the northern quay, nobody minds.",
    )
    rows = [
        {"question": "When? ", "answer": "noon", "facts": ["The ferry to Ulvik leaves at noon."]},
        {"question": "Why?", "answer": "hay", "facts": ["Goats like hay"]},
    ]
    table = SimpleNamespace(to_pylist=lambda: rows)
    reader = SimpleNamespace(read_table=lambda file: table)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", reader)  # it may not be installed
    when, why = datasets.alps(tmp_path).cases
    assert when.question == "When?"
    assert when.relevant == (PageRef("alps_wiki.pdf", 2, "the ferry to Ulvik leaves at noon"),)
    assert when.group == "page 2"
    assert why.relevant == (PageRef("alps_wiki.pdf", None),)


def test_a_parquet_file_is_really_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    _pdf(tmp_path / "alps_wiki.pdf", "The Alps are high.")
    row = {"question": "How?", "answer": "high", "facts": ["Alps are high"]}
    parquet.write_table(
        arrow.Table.from_pylist([row]), tmp_path / "alps_ground_truth_mixtral_v2.parquet"
    )
    (case,) = datasets.alps(tmp_path).cases
    assert case.relevant == (PageRef("alps_wiki.pdf", 1, "Alps are high"),)


def test_the_package_that_reads_parquet_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pdf(tmp_path / "alps_wiki.pdf", "The Alps are high.")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)  # as if it weren't installed
    with pytest.raises(Unavailable, match="pip install pyarrow"):
        datasets.alps(tmp_path)


def test_clapnq_keeps_its_sentences_and_what_has_no_answer(tmp_path: Path) -> None:
    ferry = {"title": "Ulvik", "text": "The ferry leaves at noon . It is red . It is old . "}
    goat = {"title": "Ulvik", "text": "A goat eats hay . "}
    outputs = [
        {"answer": "At noon.", "selected_sentences": ["The ferry leaves at noon ."]},
        {"answer": "", "selected_sentences": ["It is old ."]},
        {"answer": "Noon.", "selected_sentences": ["The ferry leaves at noon .", "It is red ."]},
    ]
    _dump_lines(
        tmp_path / "clapnq_dev_answerable.jsonl",
        [{"id": "a", "input": "when", "passages": [ferry], "output": outputs}],
    )
    nothing = [{"answer": "", "selected_sentences": []}]
    _dump_lines(
        tmp_path / "clapnq_dev_unanswerable.jsonl",
        [{"id": "b", "input": "who", "passages": [goat], "output": nothing}],
    )
    dataset = datasets.clapnq(tmp_path)
    names = {text: name for name, text in dataset.documents.items()}
    name = names["Ulvik\n\nThe ferry leaves at noon . It is red . It is old ."] + ".txt"
    assert dataset.cases == (
        GoldenCase(
            id="a",
            question="when",
            references=("At noon.", "Noon."),
            relevant=(
                PageRef(name, None, "The ferry leaves at noon ."),
                PageRef(name, None, "It is red ."),
            ),
            group="a",
        ),
        GoldenCase("b", "who", (), (), answerable=False, group="b"),
    )
    assert len(dataset.documents) == 2


def _turn(number: int, kind: str, contexts: list[dict[str, str]]) -> dict[str, Any]:
    said = [("user", "When does it leave?"), ("agent", "At noon."), ("user", "And back?")]
    return {
        "task_id": f"c<::>{number}",
        "conversation_id": "c",
        "answerability": [kind],
        "Collection": "govt",
        "contexts": contexts,
        "input": [{"speaker": speaker, "text": text} for speaker, text in said],
        "targets": [{"speaker": "agent", "text": "At one. "}],
    }


def test_turns_of_mtrag_bring_what_was_said_before(tmp_path: Path) -> None:
    titled = {"document_id": "d1", "title": "Ferry", "text": "\nIt comes back at one."}
    again = titled | {"document_id": "d2"}
    other = {"document_id": "d3", "text": "Many ferries."}
    rows = [
        _turn(1, "ANSWERABLE", [titled, again]),
        _turn(2, "PARTIAL", [other]),
        _turn(3, "UNANSWERABLE", []),
        _turn(4, "UNDERSPECIFIED", [other]),
    ]
    _dump_lines(tmp_path / "mtragun_reference.jsonl", rows)
    dataset = datasets.mtrag(tmp_path)
    assert dict(dataset.documents) == {
        "d1": "Ferry\n\nIt comes back at one.",
        "d3": "Many ferries.",
    }
    first = dataset.cases[0]
    assert first.question == "And back?"
    assert first.history == (
        Message("user", "When does it leave?"),
        Message("assistant", "At noon."),
    )
    assert first.references == ("At one.",)
    assert first.relevant == (PageRef("d1.txt", None),)
    assert [(case.answerable, case.tags[0], case.group) for case in dataset.cases] == [
        (True, "answerable", "c"),
        (True, "partial", "c"),
        (False, "unanswerable", "c"),
        (False, "underspecified", "c"),
    ]
    assert not any(case.references or case.relevant for case in dataset.cases[2:])


def test_spans_of_chroma_are_quotes(tmp_path: Path) -> None:
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "ferries.md").write_text("It leaves at noon. It is red.")
    spans = [{"content": "It leaves at noon.", "start_index": 0, "end_index": 18}]
    row = {"question": "When?", "references": json.dumps(spans), "corpus_id": "ferries"}
    _dump_table(tmp_path / "questions_df.csv", [row])
    dataset = datasets.chroma(tmp_path)
    assert dict(dataset.documents) == {"ferries": "It leaves at noon. It is red."}
    (case,) = dataset.cases
    assert case.relevant == (PageRef("ferries.txt", None, "It leaves at noon."),)


@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1, max_size=8))
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_titles_become_file_names_of_their_own(passages: list[tuple[str, str]]) -> None:
    def named(order: list[tuple[str, str]]) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as folder:
            corpus = [{"title": title, "text": text} for title, text in order]
            _dump(Path(folder) / "2wikimultihopqa_corpus.json", corpus)
            _dump(Path(folder) / "2wiki_101_questions.json", [])
            return dict(datasets.two_wiki(Path(folder)).documents)

    documents = named(passages)
    assert documents == named(passages[::-1])
    assert len({name.casefold() for name in documents}) == len(set(documents.values()))
    for name in documents:
        assert len(f"{name}.txt".encode()) <= 255
        assert name == name.strip(" .")
        assert not set(name) & set('/\\:*?"<>|\0\n\t')


def test_titles_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    def names(*titles: str) -> dict[str, str]:
        corpus = [{"title": title, "text": "Text."} for title in titles]
        _dump(tmp_path / "2wikimultihopqa_corpus.json", corpus)
        _dump(tmp_path / "2wiki_101_questions.json", [])
        documents = datasets.two_wiki(tmp_path).documents
        return {text: name for name, text in documents.items()}

    there = names("Queen of Spades", "queen of spades", "Goat", "...", "/")
    assert there["Goat\n\nText."] == "Goat"
    assert there["Queen of Spades\n\nText."].startswith("Queen of Spades-")
    assert there["...\n\nText."].startswith("untitled-")
    assert names("/", "...", "Goat", "queen of spades", "Queen of Spades") == there


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus\.jsonl"):
        datasets.load("scifact", tmp_path)
    with pytest.raises(UsageError, match="holds no PDF"):
        datasets.load("sec10q", tmp_path)
    with pytest.raises(UsageError, match=r"alps_wiki\.pdf"):
        datasets.load("alps", tmp_path)
    with pytest.raises(UsageError, match=r"no data set 'nope' \(there are held-out, unseen, "):
        datasets.load("nope", tmp_path)


@pytest.mark.parametrize("content", ['{"data": [{}]}', '{"data": 1}', "{"])
def test_a_damaged_set_is_named(tmp_path: Path, content: str) -> None:
    _squad(tmp_path / "squad")
    (tmp_path / "squad" / "val-v2.json").write_text(content)
    with pytest.raises(UsageError, match="doesn't hold squad-val as it was published"):
        datasets.load("squad-val", tmp_path)


def test_the_command_writes_documents_and_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _squad(tmp_path / "squad")
    out = tmp_path / "out"
    command = ["squad-val", "--data", str(tmp_path), "--out", str(out)]
    for _ in range(2):  # writing it anew changes nothing
        assert datasets.main(command) == 0
        assert capsys.readouterr().out == "2 documents, 2 cases (1 answerable, 1 not)\n"
        assert sorted(file.name for file in (out / "docs").iterdir()) == [
            "p00000.txt",
            "p00001.txt",
        ]
        golden = cases.read(out / "cases.jsonl")
        assert golden.cases == datasets.load("squad-val", tmp_path).cases
        cases.check_places(golden, {"p00001.txt": 1})


def test_the_command_copies_pdfs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "docugami_sec10q" / "docs" / "2023 Q1 ACME.pdf"
    _pdf(source, "Net sales")
    row = {"Question": "How much?", "Source Docs": "*ACME*", "Answer": "9"}
    kind = {"Question Type": "Multi-Doc RAG", "Source Chunk Type": "Table"}
    _dump_table(tmp_path / "docugami_sec10q" / "qna_data.csv", [row | kind])
    out = tmp_path / "out"
    assert datasets.main(["sec10q", "--data", str(tmp_path), "--out", str(out)]) == 0
    assert capsys.readouterr().out == "1 documents, 1 cases (1 answerable, 0 not)\n"
    assert (out / "docs" / source.name).read_bytes() == source.read_bytes()


def test_other_documents_in_the_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _squad(tmp_path / "squad")
    (tmp_path / "out" / "docs").mkdir(parents=True)
    (tmp_path / "out" / "docs" / "mine.txt").write_text("The ferry leaves at two.")
    out = str(tmp_path / "out")
    assert datasets.main(["squad-val", "--data", str(tmp_path), "--out", out]) == 2
    assert "holds mine.txt, which isn't of this set" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _squad(tmp_path / "squad")
    (tmp_path / "out").write_text("a file")
    out = str(tmp_path / "out")
    assert datasets.main(["squad-val", "--data", str(tmp_path), "--out", out]) == 2
    assert f"{tmp_path / 'out'}" in capsys.readouterr().err


def test_the_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert datasets.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(datasets.SETS)


@real
@pytest.mark.parametrize(
    ("name", "documents", "answerable", "unanswerable"),
    [
        ("squad", 1204, 2910, 3168),
        ("squad-val", 558, 630, 520),
        ("squad-train", 558, 2388, 2257),
        ("scifact", 5183, 300, 0),
        ("2wiki", 6119, 101, 0),
        ("musique", 1890, 100, 0),
        ("hotpotqa", 994, 100, 0),
        ("sec10q", 12, 116, 0),
        ("clapnq", 596, 300, 300),
        ("mtrag", 1140, 332, 175),
        ("chroma", 5, 472, 0),
    ],
)
def test_the_real_set_is_whole(
    name: str, documents: int, answerable: int, unanswerable: int, tmp_path: Path
) -> None:
    dataset = datasets.load(name, REAL)
    assert len(dataset.documents) + len(dataset.files) == documents
    count = sum(case.answerable for case in dataset.cases)
    assert (count, len(dataset.cases) - count) == (answerable, unanswerable)
    there = {f"{each}.txt" for each in dataset.documents} | {file.name for file in dataset.files}
    cases.write(tmp_path / "cases.jsonl", dataset.cases)
    golden = cases.read(tmp_path / "cases.jsonl")
    assert golden.cases == dataset.cases
    cases.check_places(golden, dict.fromkeys(there, 1))


@real
def test_all_real_quotes_stand_in_their_documents() -> None:
    for name in ("hotpotqa", "clapnq", "chroma"):
        dataset = datasets.load(name, REAL)
        refs = [ref for case in dataset.cases for ref in case.relevant if ref.quote]
        assert refs
        for ref in refs:
            assert ref.quote in dataset.documents[ref.document.removesuffix(".txt")], ref


@real
def test_all_real_evidence_of_the_pdf_is_found() -> None:
    pytest.importorskip("pyarrow.parquet")
    dataset = datasets.load("alps", REAL)
    assert len(dataset.cases) == 39
    refs = [ref for case in dataset.cases for ref in case.relevant]
    assert all(ref.page and ref.quote for ref in refs)
    by_question = {case.question: case.relevant[0].page for case in dataset.cases}
    asked = "What did the Frankish expansion and the Bavarian expansion introduce?"
    assert by_question[asked] == 14  # read in the PDF by eye
