"""Languages of answers: how models begin and refuse an answer in them, and with which letters they are written."""

import re
import unicodedata
from typing import NamedTuple


class Language(NamedTuple):
    """A row of the table; patterns are matched at the beginning of an answer, case ignored.

    Attributes:
        script: first word of the Unicode names of its letters.
        preamble: what models say before the answer; may match nothing.
        refusal: what assistants say instead of an answer.
    """

    script: str
    preamble: re.Pattern[str]
    refusal: re.Pattern[str]

    def is_written(self, text: str) -> bool:
        """Whether no more than half of the letters are of another script: models slip into other languages."""
        letters = [letter for letter in text if letter.isalpha()]
        return sum(self.script in unicodedata.name(letter, "") for letter in letters) >= len(letters) / 2


def _language(script: str, preamble: str, refusal: str) -> Language:
    return Language(script, re.compile(f"^(?:{preamble})?", re.IGNORECASE), re.compile(f"^(?:{refusal})", re.IGNORECASE))


LANGUAGES = {
    # "Sure, here is a title:", "Certainly!", "Here's what could come next:". People who refuse something in a talk say
    # other verbs.
    "en": _language(
        "LATIN",
        r"(?:(?:sure|certainly|of course|okay)(?:[!.]|,\s*(?=here))\s*)?(?:here(?:'s|’s| is| are)\b[^:\n]*:\s*)?",
        r"(?:(?:i(?:'m|’m| am) )?(?:sorry|afraid)[,.]? (?:but )?)?(?:i (?:can(?:not|'t|’t)|(?:am|'m|’m) (?:not able|unable) to)"
        r" (?:help|assist|provide|answer|determine|identify|comply|fulfill|generate|predict)\b|as an? (?:ai|language model)\b)",
    ),
    "de": _language(
        "LATIN",
        r"(?:(?:gerne?|natürlich|klar|sicher)(?:[!.]|,\s*(?=hier))\s*)?(?:hier (?:ist|sind|kommt|kommen)\b[^:\n]*:\s*)?",
        r"(?:(?:es )?tut mir leid[,.]? (?:aber )?)?(?:(?:ich kann|kann ich) (?:dabei|dir|ihnen|das|die|diese|darauf|nicht)\b"
        r"[^.\n]*\bnicht\b|als (?:ki|sprachmodell)\b)",
    ),
    "fr": _language(
        "LATIN",
        r"(?:(?:bien sûr|certainement|d['’]accord)(?:\s?!|\.|,\s*(?=voici))\s*)?(?:voici\b[^:\n]*?\s?:\s*)?",
        r"(?:(?:je suis )?désolée?[,.]? (?:mais )?)?(?:je ne (?:peux|suis) pas (?:en mesure |capable )?(?:de |d['’])?"
        r"(?:vous )?(?:aider|fournir|répondre|déterminer|identifier|générer|prédire)\b|en tant qu['’](?:ia|intelligence)\b)",
    ),
    "es": _language(
        "LATIN",
        r"(?:¡?(?:claro|por supuesto|de acuerdo)(?:[!.]|,\s*(?=aquí))\s*)?(?:aquí (?:está|están|tienes?)\b[^:\n]*:\s*)?",
        r"(?:lo siento[,.]? (?:pero )?)?(?:no (?:puedo|soy capaz de) (?:ayudar|proporcionar|responder|determinar|identificar"
        r"|generar|predecir)\w*|como (?:una? )?(?:ia|modelo de lenguaje)\b)",
    ),
}
