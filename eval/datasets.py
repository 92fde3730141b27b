"""Public question sets as golden cases and the documents they are about.

    python -m eval.datasets --list
    python -m eval.datasets squad --data ../shared/data --out /tmp/squad

writes `DIR/docs/`, one file a document, and `DIR/cases.jsonl`. A case that several sentences of
one page prove has a `PageRef` for each of them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pypdfium2

from eval import cases
from eval.cases import GoldenCase, PageRef
from rag_bot.errors import RagBotError, Unavailable, UsageError
from rag_bot.types import Message

HELD_OUT = Path(__file__).parent / "data" / "held_out.jsonl"
"""Documents written for this project, from which nothing learns: thresholds are chosen on them."""
UNSEEN = HELD_OUT.with_name("unseen.jsonl")
"""More of them, by which nothing is chosen either."""
NAME_LENGTH = 60
"""Characters of a file's name: 240 bytes at most, where file systems stop at 255."""

T = TypeVar("T")

_UNSAFE = re.compile(r"[^\w .,'()&+-]+")
_SOURCES = re.compile(r"\s*SOURCE\(S\):([^\n]*)$")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Documents, and golden cases that name them.

    `documents` are texts by file name without its ending, which is `.txt`; `files` are documents
    that are files already.
    """

    documents: Mapping[str, str]
    cases: tuple[GoldenCase, ...]
    files: tuple[Path, ...] = ()


class Public(NamedTuple):
    """A set that `load` knows: what it is, in a line, and what reads it from the data's folder."""

    line: str
    read: Callable[[Path], Dataset]
    text: bool = True


def squad(folder: Path, questions_from: str, corpus_from: Sequence[str]) -> Dataset:
    """SQuAD 2.0: each distinct paragraph is a document (Rajpurkar et al., 2018).

    The questions are those of the file `questions_from`, which is among `corpus_from`. Their
    references are the distinct gold answers, the one most often given first.
    """
    wishes: dict[str, str] = {}
    asked: list[tuple[str, str, Any]] = []
    for file in corpus_from:
        for article in _json(folder / f"{file}.json")["data"]:
            for paragraph in article["paragraphs"]:
                context = paragraph["context"]
                wishes.setdefault(context, f"p{len(wishes):05}")
                if file == questions_from:
                    asked += [(article["title"], context, qa) for qa in paragraph["qas"]]
    names = _names(wishes.items())
    found = []
    for title, context, qa in asked:
        answerable = not qa.get("is_impossible", False)
        answers = Counter(answer["text"] for answer in qa["answers"]) if answerable else Counter()
        found.append(
            GoldenCase(
                id=qa["id"],
                question=qa["question"],
                references=tuple(answer for answer, _ in answers.most_common()),
                relevant=(_anywhere(names[context]),) if answerable else (),
                answerable=answerable,
                group=title,
            )
        )
    return _of_texts(names, found)


def scifact(folder: Path) -> Dataset:
    """BEIR's SciFact: 5,183 abstracts, 300 test claims, no answers (Wadden et al., 2020)."""
    texts = {
        row["_id"]: _titled(row["title"], row["text"]) for row in _jsonl(folder / "corpus.jsonl")
    }
    names = _names((text, id_) for id_, text in texts.items())
    claims = {row["_id"]: row["text"] for row in _jsonl(folder / "queries.jsonl")}
    relevant: dict[str, list[str]] = {}
    for row in _table(folder / "qrels" / "test.tsv", "\t"):
        if int(row["score"]) > 0:
            relevant.setdefault(row["query-id"], []).append(row["corpus-id"])
    found = [
        GoldenCase(claim, claims[claim], (), tuple(_anywhere(names[texts[id_]]) for id_ in ids))
        for claim, ids in relevant.items()
    ]
    return _of_texts(names, found)


def two_wiki(folder: Path) -> Dataset:
    """101 questions of 2WikiMultiHopQA with the titles that answer them (Ho et al., 2020)."""
    corpus = _json(folder / "2wikimultihopqa_corpus.json")
    texts = {each["title"]: _titled(each["title"], each["text"]) for each in corpus}
    names = _names((_titled(each["title"], each["text"]), each["title"]) for each in corpus)
    found = [
        GoldenCase(
            id=f"2wiki-{number:03}",
            question=row["question"],
            references=(),
            relevant=tuple(_anywhere(names[texts[title]]) for title in row["gold_titles"]),
            tags=("multi-hop",),
        )
        for number, row in enumerate(_json(folder / "2wiki_101_questions.json"))
    ]
    return _of_texts(names, found)


def musique(folder: Path) -> Dataset:
    """100 questions of MuSiQue; passages that share a title are apart (Trivedi et al., 2022)."""
    corpus = _json(folder / "musique_train_corpus.json")
    names = _names((_titled(each["title"], each["text"]), each["title"]) for each in corpus)
    found = [
        GoldenCase(
            id=row["id"],
            question=row["question"],
            references=_distinct([row["answer"], *row["answer_aliases"]]),
            relevant=tuple(
                _anywhere(names[_titled(each["title"], each["paragraph_text"])])
                for each in row["paragraphs"]
                if each["is_supporting"]
            ),
            tags=("multi-hop",),
        )
        for row in _json(folder / "musique_train.json")
    ]
    return _of_texts(names, found)


def hotpotqa(folder: Path) -> Dataset:
    """100 questions of HotpotQA, the supporting sentences as quotes (Yang et al., 2018)."""
    corpus = _json(folder / "hotpotqa_train_corpus.json")
    texts = {title: _titled(title, "".join(sentences)) for title, sentences in corpus.items()}
    names = _names((text, title) for title, text in texts.items())
    found = [
        GoldenCase(
            id=row["_id"],
            question=row["question"],
            references=(row["answer"],),
            relevant=_distinct(
                _anywhere(names[texts[title]], corpus[title][number].strip())
                for title, number in row["supporting_facts"]
            ),
            tags=("multi-hop", row["type"]),
        )
        for row in _json(folder / "hotpotqa_train.json")
    ]
    return _of_texts(names, found)


def sec10q(folder: Path) -> Dataset:
    """Docugami's questions about quarterly reports: those whose companies' files are here.

    A question names its documents by a pattern, and the answer's last line which of them it was
    drawn from: these are relevant. That line is left out of the reference.
    """
    files = _pdfs(folder / "docs")
    found = []
    for number, row in enumerate(_table(folder / "qna_data.csv")):
        within = [file.name for file in files if fnmatchcase(file.name, row["Source Docs"])]
        if not within:
            continue
        answer = row["Answer"].strip()
        line = _SOURCES.search(answer)
        drawn = [name for name in within if line and Path(name).stem in line[1]]
        found.append(
            GoldenCase(
                id=f"sec10q-{number:03}",
                question=row["Question"].strip(),
                references=(answer[: line.start()] if line else answer,),
                relevant=tuple(PageRef(name, None) for name in drawn or within),
                tags=(
                    row["Question Type"].removesuffix(" RAG").lower(),
                    row["Source Chunk Type"].lower(),
                ),
            )
        )
    return Dataset({}, tuple(found), files)


def alps(folder: Path) -> Dataset:
    """39 questions about one PDF, their evidence looked up on its pages. Needs pyarrow.

    The quote is the evidence as the page has it. Evidence that no one page holds is anywhere in
    the document, without a quote. Cases of one page are a group.
    """
    file = folder / "alps_wiki.pdf"
    pages = _pages(file)
    found = []
    for number, row in enumerate(_parquet(folder / "alps_ground_truth_mixtral_v2.parquet")):
        relevant = tuple(_evidence(file.name, pages, fact) for fact in row["facts"])
        found.append(
            GoldenCase(
                id=f"alps-{number:02}",
                question=row["question"].strip(),
                references=(row["answer"],),
                relevant=relevant,
                group=f"page {relevant[0].page}",
            )
        )
    return Dataset({}, tuple(found), (file,))


def clapnq(folder: Path) -> Dataset:
    """ClapNQ's development set, the chosen sentences as quotes (Rosenthal et al., 2024)."""
    rows = [
        row
        for kind in ("answerable", "unanswerable")
        for row in _jsonl(folder / f"clapnq_dev_{kind}.jsonl")
    ]
    passages = [each for row in rows for each in row["passages"]]
    names = _names((_titled(each["title"], each["text"]), each["title"]) for each in passages)
    found = []
    for row in rows:
        outputs = [output for output in row["output"] if output["answer"].strip()]
        quotes = _distinct(quote for output in outputs for quote in output["selected_sentences"])
        relevant: list[PageRef] = []
        for each in row["passages"] if outputs else ():
            name = names[_titled(each["title"], each["text"])]
            here = [quote for quote in quotes if quote in each["text"]]
            relevant += [_anywhere(name, quote) for quote in here or [""]]
        found.append(
            GoldenCase(
                id=row["id"],
                question=row["input"],
                references=_distinct(output["answer"].strip() for output in outputs),
                relevant=tuple(relevant),
                answerable=bool(outputs),
                group=row["id"],
            )
        )
    return _of_texts(names, found)


def mtrag(folder: Path) -> Dataset:
    """Turns of conversations of MT-RAG, each with what was said before it (Katsis et al., 2025).

    Its four kinds are tags. Unanswerable and underspecified turns, which ask for an admission or
    a question back, are unanswerable cases; partly answerable ones are answerable. Passages that
    underspecified turns came with are documents too. A conversation is a group.
    """
    rows = _jsonl(folder / "mtragun_reference.jsonl")
    contexts = [each for row in rows for each in row["contexts"]]
    names = _names(
        (_titled(each.get("title", ""), each["text"]), each["document_id"]) for each in contexts
    )
    found = []
    for row in rows:
        *before, last = row["input"]
        kind = row["answerability"][0].lower()
        answerable = kind in ("answerable", "partial")
        passages = [names[_titled(each.get("title", ""), each["text"])] for each in row["contexts"]]
        found.append(
            GoldenCase(
                id=row["task_id"],
                question=last["text"],
                references=tuple(each["text"].strip() for each in row["targets"] if answerable),
                relevant=tuple(_anywhere(name) for name in _distinct(passages) if answerable),
                answerable=answerable,
                history=tuple(
                    Message("user" if each["speaker"] == "user" else "assistant", each["text"])
                    for each in before
                ),
                tags=(kind, row["Collection"]),
                group=row["conversation_id"],
            )
        )
    return _of_texts(names, found)


def chroma(folder: Path) -> Dataset:
    """Chroma's chunking questions: no answers, the spans that hold them as quotes (2024)."""
    rows = _table(folder / "questions_df.csv")
    texts = {
        corpus: _text(folder / "corpora" / f"{corpus}.md")
        for corpus in dict.fromkeys(row["corpus_id"] for row in rows)
    }
    names = _names((text, corpus) for corpus, text in texts.items())
    found = [
        GoldenCase(
            id=f"{row['corpus_id']}-{number:03}",
            question=row["question"].strip(),
            references=(),
            relevant=tuple(
                _anywhere(names[texts[row["corpus_id"]]], span["content"])
                for span in json.loads(row["references"])
            ),
        )
        for number, row in enumerate(rows)
    ]
    return _of_texts(names, found)


def written(file: Path) -> Dataset:
    """Contracts, manuals, tables, mails and the like, asked about as people ask.

    One document a line, with its questions: `{"title", "kind", "text", "questions": [{"q",
    "answer", "within"}]}`. An answer is words of the text, null where it tells none, `within` what
    is around them, should they stand there twice.
    """
    rows = _jsonl(file)
    names = _names((row["text"], row["title"]) for row in rows)
    found = [
        GoldenCase(
            id=f"{number:03}-{place:02}",
            question=asked["q"],
            references=(asked["answer"],) if asked["answer"] else (),
            relevant=(_anywhere(names[row["text"]], asked.get("within") or asked["answer"]),)
            if asked["answer"]
            else (),
            answerable=bool(asked["answer"]),
            tags=(row["kind"],),
            group=names[row["text"]],
        )
        for number, row in enumerate(rows)
        for place, asked in enumerate(row["questions"])
    ]
    return _of_texts(names, found)


SETS: Mapping[str, Public] = {
    "held-out": Public(
        "Written for this project and held out: documents and questions of all kinds",
        lambda data: written(HELD_OUT),
    ),
    "unseen": Public(
        "The same, and nothing was ever chosen by it: for testing",
        lambda data: written(UNSEEN),
    ),
    "squad": Public(
        "SQuAD 2.0, the questions of test-v2 over all paragraphs; half unanswerable",
        lambda data: squad(data / "squad", "test-v2", ("train-v2", "val-v2", "test-v2")),
    ),
    "squad-val": Public(
        "SQuAD 2.0, the questions of val-v2: for settling thresholds",
        lambda data: squad(data / "squad", "val-v2", ("train-v2", "val-v2")),
    ),
    "squad-train": Public(
        "SQuAD 2.0, the questions of train-v2",
        lambda data: squad(data / "squad", "train-v2", ("train-v2", "val-v2")),
    ),
    "scifact": Public(
        "SciFact of BEIR: claims and the abstracts that bear on them; retrieval alone",
        lambda data: scifact(data / "scifact_beir"),
    ),
    "2wiki": Public(
        "2WikiMultiHopQA: questions over two or four passages; retrieval alone",
        lambda data: two_wiki(data / "multihop_hipporag"),
    ),
    "musique": Public(
        "MuSiQue: questions over two to four passages, with answers",
        lambda data: musique(data / "multihop_hipporag"),
    ),
    "hotpotqa": Public(
        "HotpotQA: questions over two passages, with answers and supporting sentences",
        lambda data: hotpotqa(data / "multihop_hipporag"),
    ),
    "sec10q": Public(
        "Quarterly reports as PDFs; long answers, relevant by document",
        lambda data: sec10q(data / "docugami_sec10q"),
        text=False,
    ),
    "alps": Public(
        "One PDF with evidence by page (needs pyarrow)",
        lambda data: alps(data / "alps_pdf_qa"),
        text=False,
    ),
    "clapnq": Public(
        "ClapNQ: long answers with their sentences; half unanswerable",
        lambda data: clapnq(data / "clapnq"),
    ),
    "mtrag": Public(
        "MT-RAG: turns of conversations; some unanswerable, some underspecified",
        lambda data: mtrag(data / "mtrag"),
    ),
    "chroma": Public(
        "Chroma's chunking questions: spans of five long documents; no answers",
        lambda data: chroma(data / "chroma_chunking_eval"),
    ),
}


def load(name: str, data: Path) -> Dataset:
    """A set by name from the folder that holds them all.

    Raises UsageError for an unknown name or files that are missing or damaged, Unavailable if a
    package is missing that reads them.
    """
    if name not in SETS:
        raise UsageError(f"no data set {name!r}", f"there are {', '.join(SETS)}")
    try:
        return SETS[name].read(data)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{data} doesn't hold {name} as it was published: {error!r}", "fetch the set anew"
        ) from error


def write(dataset: Dataset, folder: Path) -> None:
    """The documents as files of a folder; what stands there already is left as it is.

    Raises UsageError if the folder holds other files: they would be searched too.
    """
    files: dict[str, Path | str] = {f"{name}.txt": text for name, text in dataset.documents.items()}
    files |= {file.name: file for file in dataset.files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        other = min((each.name for each in folder.iterdir() if each.name not in files), default="")
        if other:
            raise UsageError(f"{folder} holds {other}, which isn't of this set", "empty the folder")
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content.read_bytes()
            place = folder / name
            if not place.exists() or place.read_bytes() != data:
                place.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}", "check the folders given") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a set to a folder and say what is in it; or list the sets."""
    parser = argparse.ArgumentParser(prog="python -m eval.datasets", description=__doc__)
    parser.add_argument("name", nargs="?", help="one of those that --list shows")
    parser.add_argument("--list", action="store_true", help="name the sets")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    if options.list:
        for name, public in SETS.items():
            print(f"{name:12} {public.line}")
        return 0
    if options.name is None or options.out is None:
        parser.error("give a set's name and --out, or --list")
    try:
        dataset = load(options.name, options.data)
        write(dataset, options.out / "docs")
        cases.write(options.out / "cases.jsonl", dataset.cases)
    except RagBotError as error:
        print(f"eval.datasets: {error}", file=sys.stderr)
        return error.exit_status
    answerable = sum(case.answerable for case in dataset.cases)
    print(
        f"{len(dataset.documents) + len(dataset.files)} documents, {len(dataset.cases)} cases "
        f"({answerable} answerable, {len(dataset.cases) - answerable} not)"
    )
    return 0


def _of_texts(names: Mapping[str, str], found: Iterable[GoldenCase]) -> Dataset:
    return Dataset({name: text for text, name in names.items()}, tuple(found))


def _names(wishes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A file name for each distinct text, as near as can be to the one wished for.

    Names that would be the same, also where case doesn't count, get a hash of their text: so a
    name depends on the set, never on its order.
    """
    safe: dict[str, str] = {}
    for text, wish in wishes:
        safe[text] = min(_safe(wish), safe.get(text, _safe(wish)))
    times = Counter(name.casefold() for name in safe.values())
    return {
        text: name
        if times[name.casefold()] == 1
        else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        for text, name in safe.items()
    }


def _safe(wish: str) -> str:
    words = _UNSAFE.sub(" ", unicodedata.normalize("NFC", wish)).split()
    return " ".join(words).strip(" .")[:NAME_LENGTH].rstrip(" .") or "untitled"


def _anywhere(name: str, quote: str = "") -> PageRef:
    return PageRef(f"{name}.txt", None, quote)


def _titled(title: str, text: str) -> str:
    return f"{title}\n\n{text.strip()}" if title.strip() else text.strip()


def _distinct(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))


def _evidence(document: str, pages: Sequence[str], fact: str) -> PageRef:
    """The first page with the fact's letters and digits in a row, and that stretch of it."""
    wanted = "".join(letter for letter, _ in _letters(fact))
    for number, page in enumerate(pages, start=1):
        letters = _letters(page)
        start = "".join(letter for letter, _ in letters).find(wanted)
        if wanted and start >= 0:
            first, last = letters[start][1], letters[start + len(wanted) - 1][1]
            return PageRef(document, number, " ".join(page[first : last + 1].split()))
    return PageRef(document, None)


def _letters(text: str) -> list[tuple[str, int]]:
    """Letters and digits without their case, each with its place."""
    return [
        (letter, place)
        for place, each in enumerate(text)
        for letter in each.casefold()
        if letter.isalnum()
    ]


def _pages(file: Path) -> list[str]:
    try:
        pdf = pypdfium2.PdfDocument(file)
    except (OSError, pypdfium2.PdfiumError) as error:
        raise UsageError(f"{file} can't be read: {error}", "give the folder with --data") from None
    try:
        return [page.get_textpage().get_text_bounded() for page in pdf]
    finally:
        pdf.close()


def _pdfs(folder: Path) -> tuple[Path, ...]:
    files = tuple(sorted(folder.glob("*.pdf")))
    if not files:
        raise UsageError(f"{folder} holds no PDF", "give the folder with --data")
    return files


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Unavailable(
            f"{file.name} is a Parquet file, which needs the package pyarrow",
            "`pip install pyarrow`",
        ) from None
    try:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except OSError as error:
        raise UsageError(f"{file}: {error}", "give the folder with --data") from None
    return rows


def _table(file: Path, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_text(file), newline=""), delimiter=delimiter))


def _jsonl(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(file).split("\n") if line]


def _json(file: Path) -> Any:
    return json.loads(_text(file))


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", "give the folder with --data") from None


if __name__ == "__main__":
    sys.exit(main())
