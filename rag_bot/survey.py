"""Questions about many documents: "Which contracts expire in 2027?", "How many policies …?"

Four sources in a prompt can't answer them. Here every document is looked at instead, the likeliest
first, and code writes the answer: a line with a quote for each document that counts, and how far
it looked. What the question pins down (a number, a code, a name) must stand in the passage; what
else it asks for is judged by the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from rag_bot.catalogue import Collection, Entry
from rag_bot.config import Retrieval
from rag_bot.index import Flipped, Index
from rag_bot.lexical import UNSPACED
from rag_bot.rank import header
from rag_bot.retrieve import retrieve
from rag_bot.scope import Scope
from rag_bot.sentences import passages
from rag_bot.types import Chunk, Citation, Source, Verdict
from rag_bot.verify import Verifier, citation
from rag_bot.words import CAPITALISED, INSIDE, MONTHS, content, numbers

if TYPE_CHECKING:
    from rag_bot.embed import Embedder
    from rag_bot.read import Reader

SEARCHED = 1000
"""Documents that are searched for what a question pins down."""
READ = 60
"""Documents whose passages the reader reads."""
_PASSAGES = 4
"""Passages read of each, the best first."""
_DEPTH = 1000
COUNTS_FROM = 0.5
"""The reader's probability from which a passage counts."""
CLOSE_FROM = 0.55
"""How well a passage must fit the question where there is no reader."""

# What documents are called, and what their file name or title then says. Nothing for any of them.
_KINDS = {
    r"documents?|files?|papers?|sources?": "",
    r"contracts?|agreements?|leases?": r"contract|agreement|lease|amendment|terms|conditions",
    r"polic(?:ies|y)": r"polic(?:y|ies)|handbook",
    r"handbooks?|manuals?|guides?|instructions": r"handbook|manual|guide|instruction|anleitung",
    r"procedures?": r"procedure|instruction",
    r"reports?": r"report",
    r"reviews?": r"review",
    r"(?:board\s+|meeting\s+)?minutes": r"minutes",
    r"price\s+lists?": r"price.?list",
    r"invoices?": r"invoice",
    r"e-?mails?|mails?": r"\.eml|\.msg",
    r"letters?": r"letter|\.eml",
    r"presentations?|slide\s+decks?|slides": r"\.pptx|\.odp",
    r"spreadsheets?|workbooks?": r"\.xlsx|\.ods|\.csv",
    r"pdfs?": r"\.pdf",
}
_NOUN = rf"(?P<noun>{'|'.join(_KINDS)})\b"
_SINGULAR = re.compile(
    r"document|file|paper|source|contract|agreement|lease|policy|handbook|manual|guide|procedure|"
    r"report|review|price\s+list|invoice|e-?mail|mail|letter|presentation|slide\s+deck|"
    r"spreadsheet|workbook|pdf",
    re.IGNORECASE,
)
_BEFORE = (
    r"(?:of\s+)?(?:(?:the|our|my|your|these|those|all|any|different|other|current|signed|internal|"
    r"external|customer|supplier|company|sales|rental|service|safety|legal|written|pdf|english|"
    r"german|french|\d{4})\s+)*"
)
_IN = r"\b(?:in|under|from|across|throughout)\s+"
_SURELY = (
    re.compile(rf"{_IN}(?:how\s+many|which|what)\s+{_BEFORE}{_NOUN}", re.IGNORECASE),
    re.compile(
        rf"^(?!\s*(?:is|are|do|does|did|was|were|has|have|must|can|may|should|will|would)\b)"
        rf".*(?:{_IN}|\bwhat\s+do(?:es)?\s+)(?P<each>all|each|every)\s+{_BEFORE}{_NOUN}",
        re.IGNORECASE,
    ),
)
_PERHAPS = (
    re.compile(rf"\b(?:which|what|how\s+many)\s+{_BEFORE}{_NOUN}", re.IGNORECASE),
    re.compile(
        r"^\s*(?:please\s+)?(?:list|name|show|find|give|count|enumerate)\s+(?:me\s+|us\s+)?"
        rf"{_BEFORE}{_NOUN}",
        re.IGNORECASE,
    ),
)
# "Which documents do I need?" asks for what one document says about documents.
_ORDINARY = re.compile(
    r"\s+(?:(?:do|does|did)\s+(?!not\b|(?:we|you|i)\s+have\b)"
    r"|(?:must|should|shall|can|may|will|would|could)\s+"
    r"(?:i|we|you|he|she|it|they|one|the|an?|my|our|every|each)\b"
    r"|(?:is|are|was|were)\s+(?:needed|required|necessary|due)\b"
    r"|(?:i|we|you|to|needed|required|necessary)\b"
    r"|(?:have|has|need|are|is)\s+to\b)",
    re.IGNORECASE,
)
_SAYS_SO = content(
    "mention mentioned name named appear occur contain refer reference list speak cite talk word"
    " term show include find found anything something"
)
"""What a question asks of documents that need only hold certain words."""
_MENTIONS = re.compile(
    r"\b(?:mention|nam|refer|speak|talk|cit|contain|appear|occur|includ|about|find|found)",
    re.IGNORECASE,
)
_OF_PIN = re.compile(r"\b(?:the|a|an|of|to|about)\s+(?:[^\W\d_]+\s+){1,3}(?=\x00)|[^\W\d_]+ \x00")
"""What a pin is called before it is named: "the error code E07", "batch FZ-2511"."""

_SPELT = re.compile(r"[^\W_]+")
_QUOTED = re.compile(r"“([^”]+)”|\"([^\"]+)\"|«([^»]+)»|(?<!\w)[‘']([^’']+)[’'](?!\w)")
_CODE = re.compile(
    r"\b(?!\d+(?:st|nd|rd|th)\b)(?=[\w./-]*\d)(?=[\w./-]*[^\W\d_])[^\W_]+(?:[-./][^\W_]+)*"
)
_COMPARED = re.compile(
    r"\b(?:(?:more|less|fewer|longer|shorter|later|earlier|higher|lower|greater|older|newer|larger|"
    r"smaller|bigger|cheaper|dearer)\s+than|over|above|below|under|exceed\w*|at\s+(?:least|most)|"
    r"up\s+to|before|after|between|beyond)\s+(?:[^\W\d]+\s+){0,2}\d[\d.,]*"
    r"(?:\s+(?:and|to)\s+(?:[^\W\d]+\s+)?\d[\d.,]*)?(?:\s+[A-Z][a-z]+\s+\d{4})?",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"\b([^\W\d_]{2,}) \d+(?:[.,]\d+)*\b(?! ?[^\W\d_]|/)(?=[?.,; ]*$| [a-z])")
"""A thing with its number: "room 0.07", "firmware 5.0", "Tarn 20". Not an amount: "12 months"."""
_PREPOSITIONS = ("in", "of", "from", "until", "since", "for", "to", "by", "on", "at", "with")
_NAME = re.compile(rf"{INSIDE}(?: {CAPITALISED})*")
_DATE = re.compile(rf"\b(\d{{1,2}}) ({'|'.join(MONTHS)}) (\d{{4}})\b", re.IGNORECASE)
_HOP = re.compile(
    r"\bthe\s+(?P<what>person|man|woman|employee|colleague|company|firm|supplier|customer|product|"
    r"article|part)\s+(?:who|that|which)\s+(?P<clause>[^,;?]+)",
    re.IGNORECASE,
)
_VERB_LAST = re.compile(r"\s+(?:is\s+|are\s+)?(?:appears?|occurs?|mentioned|named)$", re.IGNORECASE)
_PERSONS = ("person", "man", "woman", "employee", "colleague")


class Pin(NamedTuple):
    """Something that must stand in a passage word for word: `kind` says how it is compared."""

    text: str
    kind: str


class Survey(NamedTuple):
    """A question about many documents.

    `asks` is what is asked of each of them, `kind` a pattern for their names (empty for all
    documents) and `noun` what the question calls them. A `literal` one asks for nothing but the
    pins, so nothing is left to judge. `compared` are conditions that no pin can hold ("before
    2024").
    """

    question: str
    counts: bool
    noun: str
    kind: str
    asks: str
    pins: tuple[Pin, ...]
    literal: bool
    compared: tuple[str, ...]


class Hop(NamedTuple):
    """A question inside a question: `clause` of it stands for what `question` asks."""

    clause: str
    question: str


class Gathered(NamedTuple):
    """What is to be read: `documents` holds the candidate passages of each, the likeliest first.

    Of the `total` documents of the collection, `eligible` are of the kind asked for, `searched`
    were searched for the pins, and `holding` have passages with all of them.
    """

    documents: tuple[tuple[Source, ...], ...]
    total: int
    eligible: int
    searched: int
    holding: int

    @property
    def sources(self) -> tuple[Source, ...]:
        """All candidate passages, in their order."""
        return tuple(source for each in self.documents for source in each)

    @property
    def partial(self) -> bool:
        """Whether documents were left out for their number."""
        return self.searched < self.eligible or len(self.documents) < self.holding


Finding = tuple[Source, Verdict]
"""A passage that counts, and the line about it."""


def wanted(question: str) -> Survey | None:
    """What a question asks of many documents, or None for an ordinary question.

    Cautious: a question that asks what one document says ("How many days …", "Which documents do
    I need for …") is ordinary, and so is one that asks nothing of the documents.
    """
    found = next((m for each in _SURELY if (m := each.search(question))), None)
    if found is None:
        found = next((m for each in _PERHAPS if (m := each.search(question))), None)
        if found is None or _ORDINARY.match(question, found.end()):
            return None
    noun = " ".join(found["noun"].split())
    if _SINGULAR.fullmatch(noun) and not found.groupdict().get("each"):
        return None
    asks = " ".join(f"{question[: found.start()]} {question[found.end() :]}".split())
    kind = next(name for called, name in _KINDS.items() if re.fullmatch(called, noun, re.I))
    compared = tuple(match[0] for match in _COMPARED.finditer(asks))
    # A year before the noun is asked for too: "Which 2026 price lists …".
    years = re.findall(r"\b\d{4}\b", found[0])
    pins = _pins(" ".join([_COMPARED.sub(" ", f". {asks}"), *years]))
    said = content(_COMPARED.sub(" ", asks)) - _SAYS_SO
    pinned = frozenset[str]().union(*(content(pin.text) for pin in pins))
    literal = bool(pins) and not compared and bool(_MENTIONS.search(asks))
    if not said and not compared and not pins:
        return None
    return Survey(
        question=question,
        counts=bool(re.search(r"\bhow\s+many\b|^\s*count\b", found[0], re.IGNORECASE)),
        noun=noun,
        kind=kind,
        asks=asks,
        pins=pins,
        literal=literal and (content(_unnamed(asks, pins)) - _SAYS_SO) <= pinned,
        compared=compared,
    )


def hop(survey: Survey) -> Hop | None:
    """What must be known first: "the person who leads Sales" is "Who leads Sales?"."""
    found = _HOP.search(survey.question)
    clause = _VERB_LAST.sub("", found["clause"].strip()) if found else ""
    if found is None or not clause:
        return None
    what = found["what"].casefold()
    return Hop(
        found[0][: found[0].index(clause) + len(clause)],
        f"{'Who' if what in _PERSONS else f'Which {what}'} {clause}?",
    )


def known(survey: Survey, inner: Hop, sources: Sequence[Source]) -> tuple[Survey, Finding] | None:
    """The question with what the sources name in the place of the clause, and where they name it.

    None where the reader is not sure of a name, or nothing is asked of many documents any more.
    """
    read = [(each.reading, each) for each in sources if each.reading]
    if not read:
        return None
    reading, source = max(read, key=lambda each: each[0].answerable)
    name = " ".join(source.chunk.text[reading.start : reading.end].split()).strip(".,;: ")
    if reading.answerable < COUNTS_FROM or not name:
        return None
    said = name if _NAME.fullmatch(f". {name}", 2) else f"“{name}”"
    asked = wanted(survey.question.replace(inner.clause, said))
    if asked is None:
        return None
    source = replace(source, marker=1)
    verdict = _line(around(source, reading.start, reading.end), reading.answerable)
    clause = inner.clause[0].upper() + inner.clause[1:]
    claim = f"{clause} is {name}: {verdict.claim}"
    return asked, (source, replace(verdict, claim=claim))


def gather(
    index: Index,
    embedder: Embedder,
    collection: Collection,
    survey: Survey,
    settings: Retrieval,
    scopes: tuple[Scope, ...] = (),
    first: int = 1,
) -> Gathered:
    """The passages of each document that may answer, numbered from `first`.

    Documents go by their best passage in the hybrid ranking. Raises Flipped when the generation
    no longer answers.
    """
    found = retrieve(index, embedder, collection, survey.question, settings, _DEPTH, scopes)
    ranks = {hit.chunk.id: rank for rank, hit in enumerate(found.hits)}
    order = {
        document: rank
        for rank, document in enumerate(dict.fromkeys(h.chunk.document_id for h in found.hits))
    }
    with index.view():
        if not index.catalogue.is_live(collection):
            raise Flipped
        within = index.within(collection, scopes)
        entries = index.catalogue.entries(collection)
        if within is not None:
            entries = [each for each in entries if each.id in within.documents]
        eligible = [each for each in entries if _is_kind(survey.kind, each)] or entries
        eligible.sort(key=lambda each: order.get(each.id, len(order)))
        searched = eligible[: SEARCHED if survey.pins else READ]
        holding = []
        for entry in searched:
            chunks = [stored.chunk for stored in index.catalogue.chunks_of(entry.id)]
            chunks.sort(key=lambda chunk: ranks.get(chunk.id, len(ranks)))
            kept = _holding(survey, entry, chunks)
            if kept:
                holding.append((entry, kept[:_PASSAGES]))
    documents = []
    # Nothing is read where the words decide: then all of them can be shown.
    for entry, chunks in holding if survey.literal else holding[:READ]:
        name = PurePath(entry.source).name
        documents.append(
            tuple(
                Source(first + n, chunk, name, entry.source, 1 / (1 + ranks.get(chunk.id, _DEPTH)))
                for n, chunk in enumerate(chunks)
            )
        )
        first += len(chunks)
    return Gathered(tuple(documents), len(entries), len(eligible), len(searched), len(holding))


def findings(
    survey: Survey, gathered: Gathered, reader: Reader | None, embedder: Embedder
) -> Iterator[Finding]:
    """The documents that count, as they are read: the passage, and the line about it."""
    for sources in gathered.documents:
        if survey.literal:
            source = sources[0]
            yield source, _line(_at_pins(survey, source), 1.0)
        elif reader:
            texts = [(header(source), source.chunk.text) for source in sources]
            readings = reader.read(survey.question, texts)
            read = [
                replace(source, reading=reading)
                for source, reading in zip(sources, readings, strict=True)
            ]
            source, reading = max(
                zip(read, readings, strict=True), key=lambda each: each[1].answerable
            )
            if reading.answerable >= COUNTS_FROM:
                quote = around(source, reading.start, reading.end)
                yield source, _line(quote, reading.answerable)
        else:
            found = Verifier(survey.asks, sources, embedder).closest()
            if found and found[0] >= CLOSE_FROM:
                score, passage = found
                quote = citation(passage.source, passage.start, passage.end)
                yield passage.source, _line(quote, min(1.0, score))


def written(
    survey: Survey, gathered: Gathered, found: Iterable[Finding], first: Finding | None = None
) -> Iterator[tuple[str, Sequence[Finding]]]:
    """The answer's text in pieces, each with the findings it tells of; nothing if none is found.

    A list grows as documents are read and ends with how far was looked. A count comes first, so
    all is read before it. `first` is what had to be known beforehand.
    """
    ahead = [first] if first else []
    if survey.counts:
        found = list(found)
        if found:
            yield extent(survey, gathered, len(found)), ()
            for each in [*ahead, *found]:
                yield f"\n{_marked(each)}", (each,)
        return
    count = 0
    for count, each in enumerate(found, start=1):
        if count == 1 and first:
            yield f"{_marked(first)}\n", (first,)
        yield f"{_marked(each)}\n", (each,)
    if count:
        yield extent(survey, gathered, count), ()


def around(source: Source, start: int, end: int) -> Citation:
    """The sentences that hold `source.chunk.text[start:end]`, as a citation."""
    spans = passages(source.chunk.text)
    hit = [span for span in spans if span.start < max(end, start + 1) and start < span.end]
    return citation(source, hit[0].start, hit[-1].end) if hit else citation(source, start, end)


def extent(survey: Survey, gathered: Gathered, found: int) -> str:
    """How many documents count, and how far was looked."""
    total, eligible = gathered.total, gathered.eligible
    several = "documents" if eligible != 1 else "document"
    among = f"{eligible} {several}"
    if eligible < total:
        among += f" (of {total}) whose name or title goes with “{survey.noun}”"
    count = f"{'At least ' if gathered.partial else ''}{found} of {among}."
    read = len(gathered.documents)
    held = " and ".join(f"“{pin.text}”" for pin in survey.pins)
    if gathered.searched < eligible:
        how = f" Partial: {gathered.searched} of {eligible} documents were looked at"
        how += f" for {held}" if held else ""
        how += ", the likeliest first."
    elif survey.literal:
        how = f" All of their text was searched for {held}."
    elif held:
        how = f" All of their text was searched for {held}"
        if gathered.partial:
            how += f". Partial: {read} of the {gathered.holding} that have it were read."
        else:
            how += f"; of the {read} that have it, the best passages were read."
    else:
        how = " All were looked at, the best passages of each."
    for condition in survey.compared:
        how += f" Whether “{condition}” is met, the quotes show: it was not computed."
    return count + how


def caveat(gathered: Gathered) -> str:
    """What is added where nothing was found and not everything was looked at."""
    if not gathered.partial:
        return ""
    read = gathered.searched if gathered.searched < gathered.eligible else len(gathered.documents)
    of = gathered.eligible if gathered.searched < gathered.eligible else gathered.holding
    return f" Partial: {read} of {of} documents were looked at."


def holds(pin: Pin, text: str) -> bool:
    """Whether a text has what a question pins down.

    Numbers are compared in one spelling, dates in words, as 2026-03-31 and 31.3.2026, codes and
    quoted words without regard to case, spaces and hyphens; of a name any word is enough.
    """
    if pin.kind == "number":
        return numbers(pin.text) <= numbers(text)
    if pin.kind == "date":
        day, month, year = pin.text.split()
        number = MONTHS.index(month.casefold()) + 1
        iso = rf"{year}-{number:02}-{int(day):02}"
        dotted = rf"0?{int(day)}\.\s?0?{number}\.\s?{year}"
        spelt = rf"{_spelt(pin.text)}|\b(?:{iso}|{dotted})\b"
        return bool(re.search(spelt, text, re.IGNORECASE))
    if pin.kind == "name":
        if pin.text.casefold() in MONTHS:
            place = MONTHS.index(pin.text.casefold()) + 1
            return bool(re.search(rf"\b{pin.text}\b|\b\d{{4}}-{place:02}\b", text, re.IGNORECASE))
        return bool(content(pin.text) & content(text))
    return bool(re.search(_spelt(pin.text), text, re.IGNORECASE))


def _spelt(text: str) -> str:
    parts = _SPELT.findall(text)
    words = r"[\W_]*".join(map(re.escape, parts))
    # Chinese, Japanese and Korean words stand in running text without a boundary.
    before = "" if UNSPACED.match(parts[0][0]) else r"(?<![^\W_])"
    after = "" if UNSPACED.match(parts[-1][-1]) else r"(?![^\W_])"
    return before + words + after


def _unnamed(asks: str, pins: Sequence[Pin]) -> str:
    """The question without its pins and without what they are called."""
    for pin in pins:
        if pin.kind != "number":
            asks = asks.replace(pin.text, "\0")
    return _OF_PIN.sub(" ", asks)


def _pins(asks: str) -> tuple[Pin, ...]:
    pins: list[Pin] = []
    for match in _QUOTED.finditer(asks):
        text = next(group for group in match.groups() if group)
        if content(text) and _SPELT.search(text):
            pins.append(Pin(" ".join(text.split()), "words"))
    asks = _QUOTED.sub(" , ", asks)
    pins += (Pin(match[0], "words") for match in _CODE.finditer(asks))
    asks = _CODE.sub(" x ", asks)
    pins += (Pin(match[0], "date") for match in _DATE.finditer(asks))
    asks = _DATE.sub(" , ", asks)
    for match in _NUMBERED.finditer(asks):
        if match[1].casefold() not in (*MONTHS, *_PREPOSITIONS):
            pins.append(Pin(match[0], "words"))
            asks = asks.replace(match[0], " , ")
    for match in _NAME.finditer(asks):
        if content(match[0]) and not re.fullmatch("|".join(_KINDS), match[0], re.IGNORECASE):
            pins.append(Pin(match[0], "name"))
    pins += (Pin(each, "number") for each in re.findall(r"\d+(?:[.,]\d+)*", asks))
    return tuple(dict.fromkeys(pins))


def _is_kind(kind: str, entry: Entry) -> bool:
    name = PurePath(entry.source).name
    said = name if kind.startswith(r"\.") else f"{PurePath(name).stem} {entry.title} {name}"
    return bool(re.search(rf"(?:{kind})", said.replace("_", " "), re.IGNORECASE))


def _holding(survey: Survey, entry: Entry, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks that hold all pins, themselves or in the headings and names above them."""
    if not survey.pins:
        return list(chunks)
    name = f"{PurePath(entry.source).name} {entry.title}".replace("_", " ")
    names = [content(pin.text) for pin in survey.pins if pin.kind == "name"]
    if names:
        # Named in full somewhere in the document, a person may be "Ms Pellinack" from there on.
        whole = content(" ".join([name, *(chunk.text for chunk in chunks)]))
        months = content(" ".join(MONTHS))
        if not all(words - months <= whole for words in names):
            return []
    return [
        chunk
        for chunk in chunks
        if all(holds(pin, f"{name}\n{chunk.heading}\n{chunk.text}") for pin in survey.pins)
    ]


def _at_pins(survey: Survey, source: Source) -> Citation:
    """The sentence with the most pins."""
    text = source.chunk.text
    spans = passages(text)
    best = max(
        spans, key=lambda span: sum(holds(p, text[span.start : span.end]) for p in survey.pins)
    )
    return citation(source, best.start, best.end)


def _marked(finding: Finding) -> str:
    source, verdict = finding
    return f"- {verdict.claim} [{source.marker}]"


def _line(cited: Citation, score: float) -> Verdict:
    quote = " ".join(cited.quote.split())
    claim = f"{cited.document}, page {cited.page}: “{quote}”"
    return Verdict(claim, (cited,), "supported", round(score, 4))
