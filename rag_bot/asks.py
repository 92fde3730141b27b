"""What kind of answer a question asks for, told by its words."""

from __future__ import annotations

import re

_EXPLAINS = (
    r"process|procedure|purpose|functions?|role|motive|reasons?|causes?|meaning|differences?"
    r"|definition|effects?|origin|consequences?|relationship|significance|importance|impact"
    r"|factors|changes|trends|risks|conditions|requirements|duties|obligations|responsibilities"
)
_ENGLISH = (
    r"why|how\s+(?:to|do|does|did|can|could|should|must|will|would|is|are|was|were|has|have)"
    r"|explain|describe|compare|discuss|outline|analy[sz]e|summari[sz]e|summary\s+of|meaning\s+of"
    r"|tell\s+me\s+about|come\s+from"
    r"|what\s+happen(?:s|ed)|what\s+(?:should|must|can|shall|do|does|did)\s+(?:[\w'’-]+\s+){1,6}?do"
    r"|what\s+do(?:es)?\s.*\s(?:mean|say\s+about|stand\s+for|represent)"
    rf"|what\s+(?:(?:is|are|was|were)\s+)?(?:(?:the|an?|any|its|their)\s+)?(?:[\w-]+\s+){{0,2}}?"
    rf"(?:{_EXPLAINS})"
)
_OTHERS = (
    r"warum|weshalb|wieso|wozu|wie\s+(?!viele?\b|lange?\b|oft\b|hoch\b|weit\b|gro(?:ß|ss)\b|alt\b)\w+"
    r"|was\s+bedeutet|was\s+passiert|erkläre?n?|beschreiben?"
    r"|pourquoi|comment|que\s+signifie|expliquez?|décri(?:s|vez)"
)
_SENTENCE = re.compile(rf"\b(?:{_ENGLISH}|{_OTHERS})\b", re.IGNORECASE)
_WHAT_IT_IS = re.compile(
    r"\s*what\s+(?:is|are)\s+an?\s+[\w-]+(?:\s+[\w-]+)?\s*\?*\s*", re.IGNORECASE
)


def for_a_sentence(question: str) -> bool:
    """Whether a few words are no answer: reasons, ways, meanings and descriptions are sentences.

    In English, German and French; "How many …", "How long …" ask for a few words.
    """
    return bool(_SENTENCE.search(question) or _WHAT_IT_IS.fullmatch(question))
