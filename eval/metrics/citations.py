"""Are an answer's citations there, and are they right?

    citation recall     claims with a supporting citation / claims
    citation precision  citations that support their claim / citations
    page precision      cited pages that are relevant / cited pages
    page recall         relevant pages that are cited / relevant pages
    resolved            markers that stand for a source that was shown / markers
    verbatim            quotes that stand on their page letter for letter / quotes

The first two after Gao et al., "Enabling Large Language Models to Generate Text with Citations"
(ALCE), EMNLP 2023. ALCE asks whether the citations of a claim support it together; here one of
them must do so alone, so a citation that adds nothing can't hide among others.

Each is in [0, 1], and None where there is nothing to divide by.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

Page = tuple[str, int | None]
"""A document and a page of it. Among relevant pages, None stands for any page."""


def citation_recall(supporting: Sequence[int]) -> float | None:
    """For each claim, how many of its citations support it."""
    return _share([count > 0 for count in supporting])


def citation_precision(supports: Sequence[bool]) -> float | None:
    """For each citation, whether it supports the claim that it stands behind."""
    return _share(supports)


def page_precision(cited: Collection[Page], relevant: Collection[Page]) -> float | None:
    """However often a page is cited, it counts once."""
    return _share([any(_meets(page, each) for each in relevant) for page in set(cited)])


def page_recall(cited: Collection[Page], relevant: Collection[Page]) -> float | None:
    """A relevant "any page" is met by any cited page of its document."""
    return _share([any(_meets(page, each) for page in cited) for each in set(relevant)])


def resolved(markers: Sequence[int], shown: Collection[int]) -> float | None:
    """The markers of an answer, as often as they stand in it, and those that were shown."""
    return _share([marker in shown for marker in markers])


def verbatim(quotes: Sequence[bool]) -> float | None:
    """For each quote, whether it stands on its page."""
    return _share(quotes)


def _meets(cited: Page, relevant: Page) -> bool:
    return cited[0] == relevant[0] and relevant[1] in (None, cited[1])


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
