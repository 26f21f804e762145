"""Splitting text into words."""

import functools
import html
import re
import sys
import unicodedata
from typing import Any

from tailor.errors import DataError, nearest

# kana and Chinese characters stand without spaces: each counts as a word
UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+(?:'[^\W{UNSPACED}]+)?", re.UNICODE)
# hyphens for the end of a line, and joiners, which only tell how letters are drawn
UNSEEN = "\u00ad", "\u200d"


def words(text: str) -> list[str]:
    """Lower-case words and numbers in order, HTML entities decoded: `words("Salt &amp; 0.5-Ounce")`
    is ["salt", "0", "5", "ounce"].
    """
    return split_words(joined(html.unescape(text).lower()))


def split_words(text: str) -> list[str]:
    """The words of a text that is `joined`, as they are."""
    return (WORD if text.isascii() else _marked_word()).findall(text)


def joined(text: str) -> str:
    """The text with letters and their accents as one character where there is one, without
    characters that nobody sees.
    """
    if text.isascii():
        return text
    for one in UNSEEN:
        text = text.replace(one, "")
    return unicodedata.normalize("NFC", text)


@functools.cache
def marks() -> str:
    """All characters that are written onto the letter before them, as a class of a regular
    expression: vowels of Indian scripts, points of Hebrew and Arabic, accents.
    """
    return "".join(
        f"\\U{at:08x}"
        for at in range(0x300, sys.maxunicode + 1)
        if unicodedata.category(chr(at))[0] == "M"
    )


@functools.cache
def _marked_word() -> re.Pattern[str]:
    letters = rf"[^\W{UNSPACED}]+(?:(?![\x00-\u02ff])[{marks()}]+[^\W{UNSPACED}]*)*"
    return re.compile(rf"[{UNSPACED}]|{letters}(?:'{letters})?")


COMMON = {
    "english": frozenset(
        [
            "a",
            "about",
            "after",
            "all",
            "also",
            "an",
            "and",
            "any",
            "are",
            "as",
            "at",
            "be",
            "been",
            "before",
            "being",
            "but",
            "by",
            "can",
            "could",
            "did",
            "do",
            "does",
            "for",
            "from",
            "had",
            "has",
            "have",
            "he",
            "her",
            "his",
            "how",
            "i",
            "if",
            "in",
            "into",
            "is",
            "it",
            "its",
            "just",
            "me",
            "more",
            "most",
            "my",
            "no",
            "not",
            "of",
            "on",
            "only",
            "or",
            "other",
            "our",
            "out",
            "over",
            "she",
            "should",
            "so",
            "some",
            "such",
            "than",
            "that",
            "the",
            "their",
            "them",
            "then",
            "there",
            "these",
            "they",
            "this",
            "to",
            "under",
            "up",
            "very",
            "was",
            "we",
            "were",
            "what",
            "when",
            "where",
            "which",
            "who",
            "why",
            "will",
            "with",
            "would",
            "you",
            "your",
        ]
    )
}


def telling(text: str, language: str | None = None) -> list[str]:
    """The words; with a language, their stems (Porter 2001), without its commonest words where a
    list of them is known here.
    """
    found = words(text)
    if language is None:
        return found
    common = COMMON.get(language, frozenset())
    stems: list[str] = _stemmer(language).stemWords([word for word in found if word not in common])
    return stems


def check_language(language: str | None) -> None:
    """Raise DataError for a language without stems."""
    if language is not None:
        _stemmer(language)


@functools.cache
def _stemmer(language: str) -> Any:
    import Stemmer

    if language not in Stemmer.algorithms():
        raise DataError(
            "there are no stems for the language"
            f' "{language}".{nearest(language, Stemmer.algorithms())}'
        )
    return Stemmer.Stemmer(language)
