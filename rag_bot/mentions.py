"""Documents that name each other: what a good passage speaks of is looked at as well.

"Who directed the film that was shot in Leland?" One passage says that the film "Maximum Overdrive"
was shot there, another one, named so, who directed it, and neither the words nor the meaning of the
question lead to that. A leave form that says "see the Travel Policy" is no different. Following
links from what was found to what it names is how retrieval over several hops was first made to work
(Asai et al., "Learning to Retrieve Reasoning Paths over Wikipedia Graph", ICLR 2020); here the
links are names of documents in the text, and no model walks along them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from rag_bot.types import ScoredChunk
from rag_bot.words import content

_WORD = re.compile(r"[^\W_]+")
_ASIDE = re.compile(r"\s*\([^)]*\)")
_LONGEST = 10
"""Words of a name that is looked for."""
_SHORTEST = 4
"""Characters of a name of one word."""

# What documents are, not which one: a contract says "this Contract" of itself.
_KINDS = content(
    "agreement amendment annex appendix attachment budget certificate charter chapter conditions"
    " contract copy document draft faq file final form guide guideline handbook index instructions"
    " introduction invoice lease letter list mail manual memo memorandum message minutes note"
    " notice offer order overview paper part plan policy presentation procedure proposal protocol"
    " quotation quote readme receipt record report request review rules schedule section sheet"
    " specification statement summary table terms text title untitled version"
    " annual quarterly monthly weekly"
    " Anhang Anlage Angebot Bericht Brief Dokument Entwurf Handbuch Liste Plan Protokoll Rechnung"
    " Satzung Vertrag"
    " accord annexe bail contrat convention facture lettre note offre rapport statuts"
)

_SOURCES = 5
"""So many documents are looked through for names of others, the best ones found."""
_FALL = 0.7
"""What a source one place lower has to say counts less by this factor."""


class Names:
    """What the documents of a collection go by."""

    def __init__(self, documents: Iterable[tuple[str, str, str]]) -> None:
        """`documents`: each one's id, source and title, which may be empty."""
        self._documents: dict[tuple[str, ...], set[str]] = {}
        self._own: dict[str, set[tuple[str, ...]]] = {}
        for document, source, title in documents:
            for name in (PurePath(source).stem, title):
                words = tuple(_WORD.findall(_ASIDE.sub("", name).casefold()))
                if _tells(words):
                    self._documents.setdefault(words, set()).add(document)
                    self._own.setdefault(document, set()).add(words)
        self._lengths: dict[str, set[int]] = {}
        for words in self._documents:
            self._lengths.setdefault(words[0], set()).add(len(words))

    def within(self, text: str, besides: str) -> dict[str, float]:
        """The documents that a text names, and how surely each is meant: a share of those so named.

        `besides` is the text's own document; what has the same name as it does is not meant. A name
        of one word counts where it is written with a capital.
        """
        words = _WORD.findall(text)
        folded = [word.casefold() for word in words]
        own = self._own.get(besides, set())
        found: dict[str, float] = {}
        for at, first in enumerate(folded):
            for length in self._lengths.get(first, ()):
                name = tuple(folded[at : at + length])
                documents = self._documents.get(name)
                if not documents or name in own or (length == 1 and words[at].islower()):
                    continue
                for document in documents:
                    if document != besides:
                        found[document] = max(found.get(document, 0.0), 1 / len(documents))
        return found


def followed(
    query: str, ranking: Sequence[ScoredChunk], names: Names, gain: float
) -> list[ScoredChunk]:
    """The ranking, the best passage of each document that is named moved up.

    `gain` is what its score, of one in [0, 1], is raised by if the query or the best source names
    the document. A document that was not found at all is not added.
    """
    best: dict[str, ScoredChunk] = {}
    for hit in ranking:
        best.setdefault(hit.chunk.document_id, hit)
    said = [(1.0, names.within(query, ""))]
    for place, hit in enumerate(list(best.values())[:_SOURCES]):
        said.append((_FALL**place, names.within(hit.chunk.text, hit.chunk.document_id)))
    gains: dict[str, float] = {}
    for weight, named in said:
        for document in named.keys() & best.keys():
            chunk_id = best[document].chunk.id
            gains[chunk_id] = max(gains.get(chunk_id, 0.0), gain * weight * named[document])
    return sorted(
        (replace(hit, score=hit.score + gains.get(hit.chunk.id, 0.0)) for hit in ranking),
        key=lambda hit: -hit.score,
    )


def _tells(name: Sequence[str]) -> bool:
    """Whether a name would not be found everywhere by chance, and can be found at all."""
    if not name or len(name) > _LONGEST or (len(name) == 1 and len(name[0]) < _SHORTEST):
        return False
    return any(not word.isnumeric() for word in content(" ".join(name)) - _KINDS)
