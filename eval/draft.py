"""Drafts of golden cases from a user's own documents, for a person to accept or mend.

No model: rules find sentences, lines and table rows that state one thing, and turn them into a
question about it. The answer is a span of the page, the quote the sentence or row around it.
Every case bears the tag `draft` and the tag of its kind; taking `draft` away accepts it.

Prose is read in English alone. Lines `label: value`, records `a: x | b: y` and tables `a | b` are
read in any language, and asked about in English, German, French, Spanish or Italian.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import NamedTuple

from eval.cases import DRAFT, GoldenCase, PageRef

UNANSWERABLE = 0.25
"""The share of near misses, where the documents give enough to swap."""

KINDS = ("definition", "number", "date", "money", "person", "label", "table", "heading")
NEAR_MISS = "near_miss"

_SHARES = {"heading": 0.08}
_TABLE_SHARE = 0.4
"""At most so many of the cases are about headings, and about tables, records and labels."""


class _Line(NamedTuple):
    """A line of a page. `kind` is heading, row, bullet, prose or blank."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A question and its answer, before it is a case."""

    kind: str
    question: str
    answer: str
    document: str
    page: int
    quote: str
    title: str
    subject: str


def draft(
    texts: Mapping[str, Sequence[str]],
    *,
    count: int,
    seed: int = 0,
    about: Collection[str] | None = None,
) -> list[GoldenCase]:
    """At most so many cases from documents' pages (file name to the texts of its pages, in order).

    `about` names the documents that are asked about, if not all are: what no document holds, and
    what two answer differently, is told from all.
    Spread over documents, then over their pages. About a quarter are near misses: a drafted
    question in which a name, code or year is another one that no document holds. A quote has its
    white space put in order, and is otherwise the page's, letter for letter. The same texts, count
    and seed give the same cases, whatever the order of `texts`.
    """
    chance = random.Random(seed)
    titles = _titles(texts)
    found = [
        each
        for document in sorted(texts)
        for each in _from_document(document, texts[document], titles[document])
        if _asks_for_something(each)
    ]
    found = [each for each in _unambiguous(found) if about is None or each.document in about]
    wanted = round(count * UNANSWERABLE)
    everything = "\n".join(page for document in sorted(texts) for page in texts[document])
    misses = _near_misses(_spread(found, len(found), chance), everything, wanted, chance)
    answerable = [_case(each) for each in _spread(found, count - len(misses), chance)]
    return answerable + misses


def _case(found: _Found) -> GoldenCase:
    return GoldenCase(
        id=_id(found.document, found.question),
        question=found.question,
        references=(found.answer,),
        relevant=(PageRef(found.document, found.page, found.quote),),
        tags=(DRAFT, found.kind),
        group=found.document,
    )


def _id(document: str, question: str) -> str:
    return f"draft-{hashlib.sha256(f'{document} {question}'.encode()).hexdigest()[:10]}"


# Which of them


def _spread(found: Sequence[_Found], count: int, chance: random.Random) -> list[_Found]:
    """So many, document by document, and in a document page by page; kinds within their shares.

    The first of each document is taken whatever its kind.
    """
    left: dict[str, dict[int, list[_Found]]] = defaultdict(lambda: defaultdict(list))
    for each in chance.sample(found, len(found)):
        left[each.document][each.page].append(each)
    documents = list(left)
    chance.shuffle(documents)
    used: dict[str, int] = defaultdict(int)
    chosen: list[_Found] = []
    spare: list[_Found] = []
    while documents and len(chosen) < count:
        for document in list(documents):
            pages = left[document]
            page = next(iter(pages))
            each = pages[page].pop()
            stack = pages.pop(page)
            if stack:
                pages[page] = stack  # to the end: another page is next
            if not pages:
                documents.remove(document)
            group = "row" if each.kind in ("label", "table") else each.kind
            share = _TABLE_SHARE if group == "row" else _SHARES.get(group, 1.0)
            first = not any(one.document == document for one in chosen)
            if used[group] + 1 > share * count and not first:
                spare.append(each)
            elif len(chosen) < count:
                used[group] += 1
                chosen.append(each)
    chosen += [each for each in spare if each.kind != "heading"][: count - len(chosen)]
    return chosen


def _unambiguous(found: Sequence[_Found]) -> list[_Found]:
    """Each question once. One that two documents answer differently is asked of each by name.

    One that two pages of a document answer differently is asked of neither.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    within: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in found:
        key = _same(each.question)
        answers[key].add(_same(each.answer))
        within[each.document, key].add(_same(each.answer))
    seen: set[str] = set()
    kept: list[_Found] = []
    for each in found:
        key = _same(each.question)
        if len(within[each.document, key]) > 1:
            continue
        if len(answers[key]) > 1:
            if each.kind not in _PROSE:
                continue  # it names the document already
            question = _ASK_OF.format(question=each.question.rstrip("?"), title=each.title)
            each = replace(each, question=question)
            key = _same(question)
        if key not in seen:
            seen.add(key)
            kept.append(each)
    return kept


def _same(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


_PROSE = ("definition", "number", "date", "money", "person")
_ASK_OF = "{question}, according to “{title}”?"
"""Of what prose says, in English as that is."""
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        "a an the this that these those it its is are was were be been do does did has have had can"
        " could may might must should shall will would what which who whom whose when where why how"
        " many much long high of in on at to from by for with within until since about after before"
        " up most least more than less and or not no as per each every any all some other another"
        " both one two there here they them their he she his her we our us you your i my mean come"
        " according under value values amount number date time day days week weeks month months"
        " year years hour hours minute minutes item items total section page table document"
        " documents given give gives point points limit part parts case cases percentage percent"
        " people persons person thing things following above below note notes first second third"
        " reason result cause aim answer problem question maker remark fault quarter"
        " period area sum budget range load rate share giver price cost fee",
    )
)


def _asks_for_something(found: _Found) -> bool:
    """Whether a question names what it asks after, besides the document's title."""
    words = re.findall(r"[^\W_]{2,}", found.subject.lower())
    named = [word for word in words if word not in _EMPTY and not word.isdigit()]
    return bool(named) and 8 <= len(found.question) <= 220 and len(found.answer) <= 200


# Pages to lines


_HEADING = re.compile(r"#{1,6}\s+\S|(?:\d{1,2}\.)*\d{1,2}\.?\s+[A-ZÄÖÜ][^.!?|]{1,60}$")
_BULLET = re.compile(r"(?:[-*•–]|\(?[a-z0-9]{1,2}\))\s+|\d{1,2}\.\d{1,2}\s+(?=[A-Z].{50})")
_RULE = re.compile(r"[\s|:=-]+")


def _lines(page: str) -> list[_Line]:
    lines: list[_Line] = []
    for raw in page.split("\n"):
        text = raw.strip()
        if not text or _RULE.fullmatch(text):
            if text and lines and lines[-1].kind == "row":
                continue  # the rule below a table's header
            lines.append(_Line("blank", ""))
        elif text.count("|") >= 2 or " | " in text:
            lines.append(_Line("row", text))
        elif _HEADING.match(text) and not text.endswith((",", ";")):
            lines.append(_Line("heading", text))
        elif _BULLET.match(text):
            lines.append(_Line("bullet", text))
        else:
            lines.append(_Line("prose", text))
    return lines


_ABBREVIATED = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Art|Fig|approx|e\.g|i\.e|etc|ca|z\.B)|\b[A-Z])\.$"
)


def _sentences(lines: Sequence[_Line]) -> Iterator[str]:
    """Whole sentences of the running text, their white space put in order."""
    blocks: list[str] = []
    open_ = False
    for line in lines:
        if line.kind == "prose" and open_:
            blocks[-1] += f" {line.text}"
        elif line.kind in ("prose", "bullet"):
            blocks.append(
                _BULLET.sub("", line.text, count=1) if line.kind == "bullet" else line.text
            )
            open_ = True
        else:
            open_ = False
    for block in blocks:
        held = ""
        for piece in re.split(
            r"(?<=[.!?])(?:\[\d+\])*\s+(?=[\"“A-ZÄÖÜ0-9])", " ".join(block.split())
        ):
            held = f"{held} {piece}" if held else piece
            if not _ABBREVIATED.search(held):
                yield held
                held = ""


# Documents


_STOPWORDS = {
    "en": frozenset({"the", "of", "and", "is", "to", "are", "with", "for"}),
    "de": frozenset({"der", "die", "und", "das", "ist", "mit", "nicht", "für", "von"}),
    "fr": frozenset({"le", "la", "les", "des", "est", "une", "du", "et", "pour"}),
    "es": frozenset({"el", "los", "las", "una", "es", "del", "y", "para", "con"}),
    "it": frozenset({"il", "gli", "della", "di", "è", "una", "per", "che", "sono"}),
}


def _language(text: str) -> str:
    """The language of a document by its small words; English if it has next to none."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {code: sum(word in small for word in words) for code, small in _STOPWORDS.items()}
    best = max(counts, key=lambda code: (counts[code], code == "en"))
    return best if counts[best] >= 3 else "en"


def _titles(texts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What each document is called: its file's name where it calls itself as another one does."""
    titles = {document: _title(document, pages) for document, pages in texts.items()}
    often = Counter(titles.values())
    return {name: _stem(name) if often[title] > 1 else title for name, title in titles.items()}


def _stem(document: str) -> str:
    return re.sub(r"[_\s]+", " ", PurePath(document).stem).strip()


def _title(document: str, pages: Sequence[str]) -> str:
    """What a document calls itself, if its first line looks like a title; else its file's name."""
    first = next((line.strip() for page in pages for line in page.split("\n") if line.strip()), "")
    first = re.sub(r"^(?:#+\s*|(?:Subject|Betreff|Objet): (?:(?:Re|AW|Fwd?): )*)", "", first)
    titled = 2 <= len(first.split()) <= 10 and len(first) <= 80 and first[:1].isupper()
    return first if titled and not re.search(r"[|;]|\.$|\s{3}|^\w+:\s", first) else _stem(document)


def _from_document(document: str, pages: Sequence[str], title: str) -> Iterator[_Found]:
    language = _language("\n".join(pages))
    for number, page in enumerate(pages, start=1):
        lines = _lines(page)
        asked = [*_from_rows(lines, title, language), *_from_labels(lines, title, language)]
        if language == "en":
            asked += _from_headings(lines, title)
            for sentence in _sentences(lines):
                asked += _from_sentence(sentence)
        for kind, question, answer, quote, subject in asked:
            question = question[:1].upper() + question[1:]
            yield _Found(kind, question, answer, document, number, quote, title, subject)


class _Asked(NamedTuple):
    kind: str
    question: str
    answer: str
    quote: str
    subject: str


# Labels, records, tables and headings

_FIELD = re.compile(r"([^:|]{2,40}):\s+(.+)")
_NOT_LABELS = re.compile(
    r"[\d.,]|https?|\bthe\b|^(?:note|notes|warning|caution|example|for example|subject|from|to"
    r"|cc|date|re|sent|hinweis|achtung|won|lost|open|source|von|an|betreff|de|objet)$",
    re.IGNORECASE,
)
_ASK_LABEL = {
    "en": "What does “{title}” state for “{label}”?",
    "de": "Was gibt „{title}“ für „{label}“ an?",
    "fr": "Qu'indique « {title} » pour « {label} » ?",
    "es": "¿Qué indica «{title}» para «{label}»?",
    "it": "Che cosa indica «{title}» per «{label}»?",
}
_ASK_CELL = {
    "en": "What is the {label} of {thing}, according to “{title}”?",
    "de": "Was steht in „{title}“ bei „{thing}“ unter „{label}“?",
    "fr": "Dans « {title} », qu'est-ce qui est indiqué pour « {thing} » sous « {label} » ?",
    "es": "En «{title}», ¿qué figura para «{thing}» en «{label}»?",
    "it": "In «{title}», che cosa è indicato per «{thing}» alla voce «{label}»?",
}
_NOUN = re.compile(r"(?!.*(?:\d|\b(?:from|until|on|by|to|for|fits|is|to close)$))", re.IGNORECASE)
"""What one can ask for the ... of a thing: no period, no half sentence."""
_ASK_COLUMN = "What does “{title}” give for {thing} under “{label}”?"


def _fields(text: str) -> list[tuple[str, str]]:
    """The fields of a record `a: x | b: y`; none for any other row."""
    parts = [part.strip() for part in text.strip("| ").split(" | ")]
    matches = [_FIELD.fullmatch(part) for part in parts]
    if len(parts) < 2 or not all(matches):
        return []
    return [(match[1].strip(), match[2].strip()) for match in matches if match]


def _named(label: str) -> str:
    """A column's name as one would say it."""
    text = label.replace("_", " ").strip()
    text = re.sub(r"\b(?:eur|usd|gbp|chf)\b", lambda match: match[0].upper(), text)
    coded = text.isupper() or re.match(r"[A-Z]\w*[A-Z0-9]", text)
    return text if coded else text[:1].lower() + text[1:]


def _fit(value: str) -> bool:
    return 0 < len(value) <= 90 and bool(re.search(r"\w", value)) and "…" not in value


def _from_rows(lines: Sequence[_Line], title: str, language: str) -> Iterator[_Asked]:
    header: list[str] = []
    before = ""
    heading = title
    records = [fields for line in lines if line.kind == "row" for fields in [_fields(line.text)]]
    often = Counter(field for fields in records for field in fields)
    dull = {field for field, times in often.items() if times > max(3, len(records) / 3)}
    for line in lines:
        if line.kind == "heading":
            heading = re.sub(r"^[#\d.\s]+", "", line.text)
        if line.kind != "row":
            header = []
            before = line.kind
            continue
        fields = _fields(line.text)
        if fields:
            telling = [field for field in fields if field == fields[0] or field not in dull]
            yield from _from_record(telling, line.text, title, language)
            continue
        cells = [cell.strip() for cell in line.text.strip("|").split("|")]
        if not header:
            header = cells if before != "row" else []
        elif len(cells) == len(header):
            yield from _from_cells(header, cells, line.text, heading, title, language)
        before = "row"


def _from_record(
    fields: Sequence[tuple[str, str]], quote: str, title: str, language: str
) -> Iterator[_Asked]:
    name, thing = fields[0]
    if not _fit(thing) or len(thing) > 60 or thing.lower().startswith("total"):
        return
    entity = (
        thing if name.lower() in ("name", "item", "title", "product") else f"{_named(name)} {thing}"
    )
    start = 1
    if (
        len(fields) >= 3
        and re.fullmatch(r"[\w-]*\d[\w-]*|[A-Z]+-[A-Z]+", thing)
        and _fit(fields[1][1])
    ):
        start = 2  # a code and its name
        if not re.match(r"\d", fields[1][1]) and len(fields[1][1]) <= 45:
            entity = f"{fields[1][1]} ({thing})"
    for label, value in fields[start:]:
        if not _fit(value) or _same(value) == _same(thing) or value in ("0", "-"):
            continue
        form = _ASK_CELL[language]
        if language == "en" and not _NOUN.match(label.replace("_", " ")):
            form = _ASK_COLUMN
        question = form.format(
            label=_named(label) if form is _ASK_CELL["en"] else label, thing=entity, title=title
        )
        yield _Asked("table", question, value, quote, f"{label} {thing}")


def _from_cells(
    header: Sequence[str],
    cells: Sequence[str],
    quote: str,
    heading: str,
    title: str,
    language: str,
) -> Iterator[_Asked]:
    start = 1
    thing = cells[0]
    if re.fullmatch(r"[\d.:]+", thing):
        if len(cells) < 3:
            return
        thing, start = cells[1], 2
    if not re.search(r"[^\W\d_]{2}", thing) or len(thing) > 80 or thing.lower() == "total":
        return
    where = (
        title
        if _same(heading) in _same(title)
        else f"{title}”, “{heading}"
        if language == "en"
        else title
    )
    for label, value in zip(header[start:], cells[start:], strict=True):
        if not label or not _fit(value) or not re.search(r"\w", value):
            continue
        plain = len(header) == 2 and _same(label) in ("value", "wert", "valeur", "valor", "valore")
        if plain:
            question = _ASK_LABEL[language].format(label=thing, title=title)
        elif language == "en":
            question = _ASK_COLUMN.format(label=label, thing=f"“{thing}”", title=where)
        else:
            question = _ASK_CELL[language].format(label=label, thing=thing, title=title)
        yield _Asked("table", question, value, quote, f"{thing} {'' if plain else label}")


def _from_labels(lines: Sequence[_Line], title: str, language: str) -> Iterator[_Asked]:
    for number, line in enumerate(lines):
        if line.kind not in ("prose", "bullet"):
            continue
        text = _BULLET.sub("", line.text, count=1).replace("**", "")
        found = _FIELD.fullmatch(text)
        following = lines[number + 1] if number + 1 < len(lines) else _Line("blank", "")
        if not found or (following.kind == "prose" and not _FIELD.match(following.text)):
            continue  # a value that goes on in the next line
        label = found[1].strip()
        value = re.split(r"(?<=[^\W\d]{3}[.])\s+(?=[A-ZÄÖÜ])", found[2].strip())[0].rstrip(".;")
        if _NOT_LABELS.search(label) or len(label.split()) > 5 or not label[:1].isupper():
            continue
        if _fit(value) and len(value.split()) <= 12 and not value.endswith(","):
            question = _ASK_LABEL[language].format(label=label, title=title)
            yield _Asked("label", question, value, line.text, label)


def _from_headings(lines: Sequence[_Line], title: str) -> Iterator[_Asked]:
    for number, line in enumerate(lines):
        if line.kind != "heading":
            continue
        heading = re.sub(r"^[#\d.\s]+", "", line.text).strip()
        below: list[_Line] = []
        for each in lines[number + 1 :]:
            if each.kind not in ("prose", "blank") or (each.kind == "blank" and below):
                break
            below += [each] if each.kind == "prose" else []
        first = next(_sentences(below), "")
        if (
            40 <= len(first) <= 200
            and first.endswith(".")
            and "**" not in first
            and 1 <= len(heading.split()) <= 6
        ):
            lead = re.match(r"(?:it|this|they|these)\b", first, re.IGNORECASE)
            if not lead and not heading.isupper():
                named = (
                    heading[:1].lower() + heading[1:]
                    if not re.match(r"[A-Z]\S*[A-Z\d]", heading)
                    else heading
                )
                question = f"What does “{title}” say about “{named}”?"
                yield _Asked("heading", question, first, first, heading)


# Sentences

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_COUNT = (
    r"(?:\d[\d.,]*\d|\d|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty"
    r"|thirty)"
)
_MONEY = (
    r"(?:(?:EUR|USD|GBP|CHF|€|\$|£) ?\d(?:[\d,.]*\d)?(?: (?:million|billion))?"
    r"|\d[\d,.]* (?:euros?|dollars|pounds|EUR|USD|€)(?! ?\d))"
)
_DATE = (
    rf"(?:\d{{1,2}} {_MONTH}(?: \d{{4}})?|{_MONTH} \d{{1,2}}, \d{{4}}|{_MONTH} \d{{4}}"
    r"|\d{4}-\d\d-\d\d|(?:1\d|20)\d\d)"
)
_SPAN = (
    r"(?:calendar |working |business )?"
    r"(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)"
)
_UNIT = (
    r"(?:%|°C|°F|°|kg|g|mm|cm|m²|m|km|m/s|km/h|V|A|W|kW|Ah|Wh|Hz|MHz|hPa|bar|Nm|N|MB|GB|TB|l|ml"
    r"|dB\(A\))(?![\w/²])"
)
_NAME = (
    r"(?:(?:Dr|Mr|Mrs|Ms|Prof|Advocate)\.? )?"
    r"(?!The\b)[A-Z][a-zéèäöüß'’]+(?: [A-Z][a-zéèäöüß'’-]+(?:-[A-Z][a-z]+)?){1,2}"
)
_AUX = r"(?:is|are|was|were|will|can|may|must|should|shall)"
_VERBS = {
    word + "s": word
    for word in re.findall(
        r"\w+",
        "pay cost receive run last contain cover begin end start require need hold offer allow"
        " grant weigh measure store send lapse earn charge provide serve employ expire take"
        " answer bear include keep give meet lie stand open close use insure refund make"
        " demand increase leave settle stay get work",
    )
} | {"reaches": "reach", "applies": "apply", "carries": "carry", "has": "have"}
_VERBS |= {"supplies": "supply", "does": "do"}
_VERB = "(?:" + "|".join(sorted({*_VERBS, *_VERBS.values()}, key=len, reverse=True)) + ")"
_SUBJECT = (
    r"(?P<s>(?!(?:If|When|Where|While|After|Before|From|In|On|For|At|By|Of|To|Until|Since|During"
    r"|Only|Up|Between|Without|With|Instead|Whoever|Then|Here|Please)\b)"
    r"[A-Z“\"][^,;:.!?()]{1,70}?)"
)
_MID = r"(?P<m>(?: [^\s,;:.()]+){0,9}?)"
_QUANTIFIER = (
    r"(?P<q>up to|at most|at least|more than|less than|about|no more than|not more than|only)"
)
_BAD_SUBJECT = re.compile(
    r"^(?:it|its|they|he|she|this|that|these|those|there|we|you|i|one|both|either|neither|all"
    r"|some|others?|none|another|each|his|her|their|such|here|nothing|what|which|who|anything"
    r"|everything|nobody|everybody|time|the other|the latter|the former|the same"
    r"|(?:this|that|these|those|his|her|their|its) .*)$"
    r"|\b(?:that|which|who|if|when|because|but|whose|where|unless|while|although|as|than)\b"
    r"|\d\d:\d\d",
    re.IGNORECASE,
)
_PROPER = re.compile(r"[A-Z][\w-]*[A-Z\d]|[A-Z]\w+ (?:[A-Z]|\d)")

_VALUE_AFTER = {
    "money": rf"(?P<v>{_MONEY})",
    "percent": rf"(?P<v>{_COUNT} ?%)",
    "span": rf"(?P<v>(?P<n>{_COUNT}) (?P<u>{_SPAN}))\b",
    "date": rf"(?P<v>{_DATE})\b",
    "unit": rf"(?P<v>{_COUNT} ?{_UNIT})",
    "count": rf"(?P<v>(?P<n>{_COUNT}) (?P<u>(?:[a-z-]+ )?[a-z-]+s|people|staff))\b",
}
_PATTERNS = tuple(
    (
        kind,
        re.compile(
            rf"{_SUBJECT} (?P<x>{_AUX}|{_VERB}){_MID}"
            rf"(?: (?P<p>in|on|by|until|from|since|within|for|after|to|before|at|of))?"
            rf"(?: {_QUANTIFIER})? {value}(?P<r>[^,;:.!?()]*)"
        ),
    )
    for kind, value in _VALUE_AFTER.items()
)
_MEASURES = (
    r"(?:(?!(?:an?|the|each|is|was) )[a-z-]+ ){0,3}(?:tension|voltage|limit|height|speed"
    r"|temperature|rate|share|diameter|length|width|weight|mass|capacity|margin|discount|reduction|penalty|allowance|fee|fees|budget"
    r"|surcharge|dividend|deposit|rent|price|distance|depth|area|load|accuracy|uncertainty|bonus"
    r"|interest|pressure|power|current|frequency|resistance|subsidy|credit|excess|tolerance|range"
    r"|contribution|premium|salary|cost|costs|charge|fine|sum|loan|value)"
)
_OF = re.compile(
    rf"\b(?P<d>[Aa]n?|[Tt]he|[Ee]ach) (?P<s>{_MEASURES})(?: for the [a-z]+)? of"
    rf" (?P<q>up to |at least |at most )?(?P<v>{_MONEY}|{_COUNT} ?{_UNIT})"
    r"(?P<r> (?:for|per|on) (?:(?!(?:is|was|are|were|has|can|may|must|will)\b)[^,;:.!?()])*)?"
)
_MEANS = re.compile(
    r"[“\"](?P<s>[^”\"]{2,50})[”\"],? (?:means|is|stands for|refers to) (?P<v>[^.;]{8,180})\.?"
)
_IS_A = re.compile(
    r"(?!(?:Above|Below|Beyond|In|On|At|Among|Near|Under|Behind|Also|Here|There)\b)"
    r"(?P<s>(?:An? |The )?[^,;:.()\"]{3,50}?) (?P<x>is|are)"
    r" (?P<v>(?:an?|the) [a-z][^.;]{12,160})\.(?=\s|$)"
)
_ROLE = (
    r"(?:[a-z]+ ){0,2}(?:officer|head|director|manager|chair(?:man|woman)?|auditor|president"
    r"|secretary|treasurer|engineer|author|owner|editor|founder|ombudsperson|supervisor"
    r"|coordinator|consultant|lead|captain|minister|doctor)(?: of (?:the )?[\w ]{3,30})?"
)
_WHO_IS = re.compile(
    rf"(?P<s>(?:The|Our) [^,;:.()]{{3,60}}?) (?P<x>is|was) (?P<v>{_NAME})(?=[,.;]| \()"
)
_WHO_BY = re.compile(
    r"(?P<s>[A-Z][^,;:.()]{2,60}?) (?P<x>is|are|was|were) (?P<m>(?:[a-z]+ ){0,2}[a-z]+) by"
    rf" (?P<v>{_NAME})\b"
)
_APPOSED = re.compile(rf"(?P<v>{_NAME})(?:,| \() ?(?P<s>(?:the |our )?{_ROLE})(?=[,.;)]|$)")
_WORKS = re.compile(rf"^(?P<v>{_NAME}) (?P<x>[a-z]+ed) (?P<m>[^,;:]{{8,90}}?)\.")


def _from_sentence(sentence: str) -> list[_Asked]:
    """What a sentence lets one ask; the first question that its forms give, and people's."""
    if not 20 <= len(sentence) <= 320 or "|" in sentence or sentence.endswith("?"):
        return []
    asked = [*_of_people(sentence), *_of_meaning(sentence)]
    return asked or _of_values(sentence)


def _of_people(sentence: str) -> Iterator[_Asked]:
    for found in _WHO_IS.finditer(sentence):
        if not _BAD_SUBJECT.search(found["s"]):
            yield _Asked(
                "person",
                f"Who {found['x']} {_small(found['s'])}?",
                found["v"],
                sentence,
                found["s"],
            )
            return
    for found in _WHO_BY.finditer(sentence):
        if found.start() == 0 and not _BAD_SUBJECT.search(found["s"]):
            question = f"By whom {found['x']} {_small(found['s'])} {found['m']}?"
            yield _Asked("person", question, found["v"], sentence, f"{found['s']} {found['m']}")
            return
    for found in _APPOSED.finditer(sentence):
        role = re.sub(r"^(?:the|our) ", "", found["s"])
        question = f"Who is the {role}?"
        yield _Asked("person", question, found["v"], sentence, f"{role} {role}")
        return
    acted = _WORKS.search(sentence)
    if acted and not re.search(r"\b(?:he|she|his|her|it|this|and)\b", acted["m"]):
        question = f"Who {acted['x']} {acted['m']}?"
        yield _Asked("person", question, acted["v"], sentence, acted["m"])


def _of_meaning(sentence: str) -> Iterator[_Asked]:
    found = _MEANS.match(sentence)
    if found:
        yield _Asked(
            "definition",
            f"What does “{found['s']}” mean?",
            found["v"].strip(),
            sentence,
            found["s"],
        )
        return
    found = _IS_A.match(sentence)
    if found and not _BAD_SUBJECT.search(found["s"]) and len(found["s"].split()) <= 5:
        question = f"What {found['x']} {_small(found['s'])}?"
        yield _Asked("definition", question, found["v"].strip(), sentence, found["s"])


def _of_values(sentence: str) -> list[_Asked]:
    """The question after the first value in a sentence that says so much of one thing."""
    best: list[tuple[int, _Asked]] = []
    for kind, pattern in _PATTERNS:
        found = pattern.match(sentence)
        if found and not _BAD_SUBJECT.search(found["s"]) and len(found["s"].split()) <= 9:
            asked = _of_value(kind, found, sentence)
            if asked:
                best.append((found.start("v"), asked))
    of = _OF.search(sentence)
    if of:
        kind = "money" if re.match(_MONEY, of["v"]) else "number"
        rest = _cut(of["r"] or "")
        ask = "How much" if kind == "money" else "What"
        question = f"{ask} is the {of['s']}{rest}?"
        asked = _Asked(kind, question, of["v"], sentence, f"{of['s']} {rest}")
        best.append((of.start("v") - 1, asked))  # of two forms for one value, the plainer one
    return [min(best, key=lambda each: each[0])[1]] if best else []


_WHEN = {
    **dict.fromkeys(("on", "in", ""), "when"),
    **dict.fromkeys(("until", "to"), "until when"),
    "from": "from when",
    "since": "since when",
    "by": "by when",
    "before": "before what date",
    "after": "after what date",
}
_DANGLING = re.compile(
    r"\b(?:of|the|an?|its|their|his|her|our|with|and|or|to|above|below|than|per|first|last|next"
    r"|every|each|by|plus|minus|another|additional|further|extra)$"
)
_BROKEN_OFF = re.compile(
    r"^(?:under|in|on|of|for|by|with|at|from|as|if)\b|\b(?:that|which|who|if|when|and|or|not|no"
    r"|never|it|them|him|this|these|those)\b|\d"
)


def _of_value(kind: str, found: re.Match[str], sentence: str) -> _Asked | None:
    """The question after a value: its phrase goes to the front, the verb before the subject."""
    subject, verb, mid = _small(found["s"]), found["x"], found["m"].strip()
    preposition, quantifier, value = found["p"] or "", found["q"] or "", found["v"]
    bare = not mid and verb in ("is", "are", "was", "were")
    if preposition == "of" or _BROKEN_OFF.search(mid) or _DANGLING.search(mid):
        return None
    plural_subject = subject.endswith("s") and not subject.endswith("ss")
    if verb in _VERBS.values():
        if not plural_subject:
            return None  # a noun, or what follows another verb
        verb, mid = "do", f"{verb} {mid}".strip()
    elif verb in _VERBS:
        if plural_subject:
            return None  # after a plural it is no verb
        if verb == "has" and re.match(r"\w+(?:ed|en|wn|ne)\b", mid):
            return None
        verb, mid = "does", f"{_VERBS[verb]} {mid}".strip()
    rest = _cut(found["r"])
    unit = found.groupdict().get("u", "")
    plural = unit if unit.endswith("s") or unit in ("people", "staff") else f"{unit}s"
    asked = {"money": "how much", "percent": "what percentage"}.get(kind, f"how many {plural}")
    tag = kind if kind in ("money", "date") else "number"
    if kind == "date":
        if preposition not in _WHEN or (not preposition and not bare):
            return None
        asked = _WHEN[preposition]
    elif bare and not preposition:
        asked = {"money": "how much", "span": "how long"}.get(kind, "what")
        if kind == "count":
            return None
        if found["r"].startswith(" old"):
            asked = "how old"
        if kind == "percent" and rest.startswith(" of"):
            asked, rest = f"what percentage{rest}", ""
        elif re.match(r" (?:after|before|from|of)\b", rest):
            return None
    elif (
        kind == "unit"
        or (kind, preposition) == ("count", "for")
        or re.search(r"\b(?:times|others|ones)$", unit)
    ):
        return None
    else:
        asked = " ".join(filter(None, (preposition, quantifier, asked)))
        if kind in ("span", "percent") and re.match(r" (?:of|after|before)\b", rest):
            asked, rest = f"{asked}{rest}", ""
    question = " ".join(f"{asked} {verb} {subject} {mid}{rest}".split()) + "?"
    answer = f"{quantifier} {value}".strip()
    about = f"{subject} {mid} {rest}"
    return _Asked(tag, question, answer if answer in sentence else value, sentence, about)


def _small(subject: str) -> str:
    """A subject as it stands within a sentence."""
    first, *more = subject.split()
    if first == "Our":
        return " ".join(["the", *more])
    common = first in ("The", "A", "An", "Each", "Every", "Any", "All", "No")
    proper = _PROPER.match(subject) or re.match(r"[A-Z]\w+ [A-Z]", subject)
    return subject[:1].lower() + subject[1:] if common or not proper else subject


_LEADS = "of|for|per|in|on|at|after|before|from|during|under|into|ahead"


def _cut(rest: str) -> str:
    """What follows a value, up to where another thought begins."""
    rest = re.split(
        r"\s(?:and|or|but|if|when|which|that|who|as|unless|because|with|plus|instead|so|by|to)\b",
        rest,
    )[0].rstrip(' "”')
    if not re.match(rf" (?:{_LEADS}|a (?:day|week|month|year))\b", rest):
        return ""
    whole = ""
    for part in re.split(rf"(?= (?:{_LEADS})\b)", rest):
        if len(f"{whole}{part}".split()) > 9 or re.search(r" at (?:most|least)\b| up\b", part):
            break
        whole += part
    return whole


# Near misses

_CODE = re.compile(r"\b[A-Z]{1,4}-?(?!(?:19|20)\d\d)\d{2,4}\b")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_MODEL = re.compile(rf"\b(?!{_MONTH}\b)[A-Z]\w+ (?!(?:19|20)\d\d)\d{{2,4}}(?!\d|[.,]\d| ?%)")
_BOTH = re.compile(r"(?P<lead>\b(?:of|for) )[^,“”]+? \((?P<code>[A-Z]{1,4}-?\d{1,4}[^)]*)\)")
_LASTS = tuple(
    re.findall(
        r"\w+",
        "Ravenscroft Ollenshaw Kettlewell Marchbanks Tindersley Pomfret Abernathy Quillfeather",
    )
)
_THINGS = {
    "battery": "antenna",
    "station": "buoy",
    "warranty": "leasing",
    "hotel": "hostel",
    "laptop": "tablet",
    "lease": "sublease",
    "wind": "tide",
    "car": "motorcycle",
    "bicycle": "scooter",
    "laboratory": "library",
    "pension": "stock option",
    "dividend": "royalty",
    "invoices": "refunds",
    "employee": "volunteer",
    "badge": "passport",
}
"""Things that stand beside each other, to swap where a question has no name, code or year."""


def _near_misses(
    found: Sequence[_Found], everything: str, count: int, chance: random.Random
) -> list[GoldenCase]:
    """Questions of the same form after something that no document holds, those of prose first."""
    words = set(re.findall(r"\w+", everything.lower()))
    people = {re.sub(r"^\w+\. |^Dr ", "", each.answer) for each in found if each.kind == "person"}
    misses: dict[str, GoldenCase] = {}
    used: Counter[str] = Counter()
    rows = ("label", "table")
    for each in sorted(found, key=lambda each: each.kind in rows):
        if len(misses) == count:
            break
        if each.kind == "heading" or used[each.document] > count // 6:
            continue
        question = _swapped(each, everything, words, people, chance)
        if question and question not in misses:
            used[each.document] += 1
            misses[question] = GoldenCase(
                id=_id(each.document, question),
                question=question,
                references=(),
                relevant=(),
                answerable=False,
                tags=(DRAFT, NEAR_MISS),
                group=each.document,
            )
    return list(misses.values())


def _swapped(
    found: _Found, everything: str, words: set[str], people: set[str], chance: random.Random
) -> str | None:
    """The question after another name, code, model, year or thing; None where it has none.

    The title of the document is left as it is.
    """
    before, title, after = found.question.partition(f"{found.title}”")
    before, after = (_BOTH.sub(r"\g<lead>\g<code>", part) for part in (before, after))
    names = re.compile("|".join(sorted(map(re.escape, people)))) if people else _CODE
    for pattern in (_CODE, _MODEL, names, _YEAR):
        for number, part in enumerate((before, after)):
            match = pattern.search(part)
            other = match and _another(match, everything, chance)
            if match and other:
                part = part[: match.start()] + other + part[match.end() :]
                return part + title + after if number == 0 else before + title + part
    if found.kind in ("label", "table"):
        return None
    for thing, other in _THINGS.items():
        match = re.search(rf"\b{thing}\b", before)
        if match and not set(other.split()) & words:
            return before[: match.start()] + other + before[match.end() :] + title + after
    return None


def _another(match: re.Match[str], everything: str, chance: random.Random) -> str | None:
    """Something of the same form that occurs nowhere."""
    text = match[0]
    if not any(sign.isdigit() for sign in text):
        fit = [name for name in _LASTS if name not in everything]
        return f"{text.split()[0]} {chance.choice(fit)}" if fit else None
    for _ in range(50):
        if match.re is _YEAR:
            other = str(int(text) + chance.choice((-12, -11, -9, -8, -7, 6, 7, 8, 9, 11)))
        else:
            other = re.sub(r"\d", lambda _: str(chance.randint(1, 9)), text, count=2)
        if other != text and not re.search(rf"(?<!\d){re.escape(other)}(?!\d)", everything):
            return other
    return None
