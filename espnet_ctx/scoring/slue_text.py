"""Transcripts with named entities tagged in the text, written and read exactly as the SLUE toolkit does.

S. Shon et al., "SLUE: New benchmark tasks for spoken language understanding evaluation on natural speech", ICASSP 2022
(arXiv 2111.10367), section 3.2. In `we met in % paris ] @ today ]` a character opens an entity and says its tag, and `]`
closes it. There are two sets of tags, which give the same characters different meanings: "raw", the 18 types of OntoNotes
that models are trained with, and "combined", the 7 that are scored.
"""

import re
from collections.abc import Sequence

from espnet_ctx.files import UserError

END = "]"
RAW_TAGS = {
    "CARDINAL": "!",
    "DATE": "@",
    "EVENT": "#",
    "FAC": "$",
    "GPE": "%",
    "LANGUAGE": "^",
    "LAW": "&",
    "LOC": "*",
    "MONEY": "(",
    "NORP": ")",
    "ORDINAL": "~",
    "ORG": "`",
    "PERCENT": "{",
    "PERSON": "}",
    "PRODUCT": "[",
    "QUANTITY": "<",
    "TIME": ">",
    "WORK_OF_ART": "?",
}
COMBINED_TAGS = {
    "LAW": "!",
    "NORP": "@",
    "ORG": "#",
    "PERSON": "$",
    "PLACE": "%",
    "QUANT": "^",
    "WHEN": "&",
}
TAGS = {"raw": RAW_TAGS, "combined": COMBINED_TAGS}
# the other raw types (FAC, EVENT, WORK_OF_ART, PRODUCT, LANGUAGE) are not scored
RAW_TO_COMBINED = {
    "DATE": "WHEN",
    "TIME": "WHEN",
    "CARDINAL": "QUANT",
    "ORDINAL": "QUANT",
    "QUANTITY": "QUANT",
    "MONEY": "QUANT",
    "PERCENT": "QUANT",
    "GPE": "PLACE",
    "LOC": "PLACE",
    "NORP": "NORP",
    "ORG": "ORG",
    "LAW": "LAW",
    "PERSON": "PERSON",
}

Span = tuple[str, int, int]  # raw type, first character, number of characters
Entity = tuple[str, str]  # tag, phrase

_PUNCTUATION = re.compile(r"[.,!?;]")
_NO_WORDS = ("", "'")


def tag_text(text: str, spans: Sequence[Span], tags: str) -> str:
    """Write a transcript with its entities tagged.

    Punctuation goes, and a word with an apostrophe is split before it (report's -> report 's), in each stretch
    between two boundaries of entities. An entity of nothing but punctuation is left out.

    Args:
        text: the transcript (SLUE's `normalized_text`).
        spans: its entities `(raw type, first character, number of characters)`, in any order.
        tags: "raw", or "combined" (a type that has no combined tag is then no entity).

    Raises:
        UserError: unknown set of tags or type, or a span that is empty, out of the text, or overlaps another.
    """
    characters = TAGS[_known(tags, TAGS, "set of tags")]
    words: list[str] = []
    position = 0
    for kind, start, end in check_spans(text, spans):
        tag = kind if tags == "raw" else RAW_TO_COMBINED.get(kind)
        if tag is None:
            continue
        words += _words(text[position:start])
        if entity := _words(text[start:end]):
            words += [characters[tag], *entity, END]
        position = end
    return " ".join([*words, *_words(text[position:])])


def check_spans(text: str, spans: Sequence[Span]) -> list[Span]:
    """Sort spans and turn `(type, first character, length)` into `(type, first character, character after the last)`.

    Raises:
        UserError: a type that is unknown, or a span that is empty, out of the text, or overlaps another.
    """
    result: list[Span] = []
    before = ("", 0, 0)
    for span in sorted(spans, key=lambda span: span[1:]):
        kind, start, length = span
        _known(kind, RAW_TAGS, "type of entity")
        if start < 0 or length < 1 or start + length > len(text):
            raise UserError(f"the entity {list(span)} does not lie in the text's {len(text)} characters")
        if result and start < result[-1][2]:
            raise UserError(f"the entities {list(before)} and {list(span)} overlap")
        result.append((kind, start, start + length))
        before = span
    return result


def letters(tagged: str) -> str:
    """Write a tagged text as letters: separated by spaces, `|` for a space and at the end."""
    return " ".join([*tagged.replace(" ", "|"), "|"])


def strip_tags(tagged: str, tags: str) -> str:
    """Leave the words of a tagged text."""
    marks = {END, *TAGS[_known(tags, TAGS, "set of tags")].values()}
    return " ".join(word for word in tagged.split() if word not in marks)


def parse_entities(tagged: str, tags: str) -> list[Entity]:
    """Read the entities of a tagged text, which may be what a model made of it.

    An entity ends at `]`. One that has no words, one in which another begins and one that is open at the end of the
    text do not count; nor does a `]` without an entity.

    Args:
        tagged: the text, in words.
        tags: the set of tags that it is written with, "raw" or "combined".
    """
    opens = {character: tag for tag, character in TAGS[_known(tags, TAGS, "set of tags")].items()}
    entities: list[Entity] = []
    tag, words = "", []  # of the open entity; no tag: none is open
    for word in tagged.strip().replace("  ", " ").split(" "):
        if word in opens:
            tag, words = opens[word], []
        elif word == END:
            if tag and words:
                entities.append((tag, " ".join(words)))
            tag, words = "", []
        elif tag:
            words.append(word)
    return entities


def combine(entities: Sequence[Entity]) -> list[Entity]:
    """Map raw tags to combined ones; entities that have none are left out."""
    return [(RAW_TO_COMBINED[tag], phrase) for tag, phrase in entities if tag in RAW_TO_COMBINED]


def _words(stretch: str) -> list[str]:
    words = []
    # two spaces become one once, as in the toolkit: of four, two are left
    for word in _PUNCTUATION.sub("", stretch).replace("  ", " ").strip().split(" "):
        if word not in _NO_WORDS:
            words += _split_apostrophe(word.removesuffix("'"))
    return words


def _split_apostrophe(word: str) -> list[str]:
    if "'" not in word or word == "'s":
        return [word]
    *pieces, last = word.split("'")
    return [*pieces, f"'{last}"]


def _known(name: str, names, what: str) -> str:
    if name not in names:
        raise UserError(f"unknown {what} '{name}': it must be one of {', '.join(names)}")
    return name
