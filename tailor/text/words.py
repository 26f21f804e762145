"""Split texts into words: the one place that decides which characters make a word.

BM25, TF-IDF, text match, the hashing encoder, phrases and the search of the service all read texts
through this module, so that an item is found by the words of its title however they are typed:
in capitals or small letters, with or without accents, with any apostrophe, in full width, composed
or decomposed. Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese, whose words no space
separates reliably, are read as pairs of neighbouring characters.
"""

import functools
import html
import operator
import re
import sys
import unicodedata
from collections.abc import Collection, Container, Iterable
from typing import Any

from tailor.errors import DataError, nearest

RULES = 2  # raised when texts are split otherwise: what an older version indexed is indexed again

ASCII_WORD = re.compile(r"\w+(?:'\w+)?", re.ASCII)
# One letter before ++ or # names a programming language.
LANGUAGE_NAME = r"(?<!\w)[a-z](?:\+\+|#)(?!\w)"
ASCII_WORD_OR_LANGUAGE = re.compile(rf"{LANGUAGE_NAME}|{ASCII_WORD.pattern}", re.ASCII)
BACKTICK = re.compile(r"(?<=[a-zA-Z])`(?=[a-zA-Z])")
HYPHEN = re.compile("[-\u2010\u2011]")
COMPOUND = re.compile(r"\w+(?:[-\u2010\u2011]\w+)+")
NAME = re.compile(r"\w'\w{3,}")  # such as o'neill, l'oreal
CONTRACTION = re.compile("'(?:ll|d|ve|re|m)$")  # without the apostrophe another word: "well"
VULGAR_FRACTION = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215f])")
# A non-joiner separates the parts of a Persian word; elsewhere it only tells how letters are drawn.
ARABIC_NON_JOINER = re.compile("(?<=[\u0600-\u06ff])\u200c")
EMOJI = (
    "\u231a\u231b\u23e9-\u23fa\u25b6\u25c0\u2600-\u266e\u2670-\u27bf\u2934\u2935"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001faff"
)
UNSPACED_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1100, 0x11FF),  # Korean letters
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x3005, 0x3007),  # marks of repetition, zero
    (0x3040, 0x31FF),  # kana, Bopomofo
    (0x3400, 0x9FFF),  # Chinese characters
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9FF),  # Javanese, Burmese
    (0xAA60, 0xAADF),  # Burmese, Tai Viet
    (0xAC00, 0xD7FF),  # Korean syllables
    (0xF900, 0xFAFF),  # Chinese characters
    (0x20000, 0x323AF),  # Chinese characters
)
# Quotes, primes and letters of other alphabets that are typed as an apostrophe.
APOSTROPHES = "\u2018\u2019\u201b\u2032\u02b9\u02bb\u02bc\u02bd\u055a\u05f3\ua78c\uff07\u00b4"
# Letters that no decomposition leads to the letter that is typed for them.
TYPED_AS = {
    **{"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h"},
    **{"ŧ": "t", "ı": "i", "ĸ": "k", "ŋ": "n", "ƀ": "b", "ɨ": "i", "ʉ": "u", "ɓ": "b", "ɗ": "d"},
    **{"ё": "е", "ѐ": "е", "ѝ": "и", "♯": "#"},
    **{"ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه", "ۀ": "ه", "ـ": ""},
}
OPTIONAL_MARKS = (
    (0x0300, 0x036F),  # accents
    (0x0591, 0x05C7),  # points of Hebrew
    (0x0610, 0x061A),  # signs of Arabic
    (0x064B, 0x065F),  # vowels of Arabic
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE00, 0xFE0F),  # which picture is drawn
    (0xFE20, 0xFE2F),
    (0x1F3FB, 0x1F3FF),  # skin tones of emoji
    (0xE0100, 0xE01EF),
)
ACCENTED_BLOCKS = (
    (0x0041, 0x024F),  # Latin
    (0x0370, 0x03FF),  # Greek
    (0x0620, 0x06FF),  # Arabic
    (0x1E00, 0x1FFF),  # Latin, Greek
)

ENGLISH_STOP_WORDS = """
a about after all also an and any are as at be been before being but by can could did do
does for from had has have he her his how i if in into is it its just me more most my no not
of on only or other our out over she should so some such than that the their them then there
these they this to under up very was we were what when where which who why will with would
you your
"""
STOP_WORDS = {"english": frozenset(ENGLISH_STOP_WORDS.split())}
ELIDED = {
    "french": re.compile(r"^(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|quoiqu)'(?=\w)"),
    "italian": re.compile(
        r"^(?:[cdlmnstv]|un|all|dall|dell|nell|sull|quell|gl|agl|dagl|degl)'(?=\w)"
    ),
    "catalan": re.compile(r"^[dlmnst]'(?=\w)"),
}


def words(text: str) -> list[str]:
    """Return the words and numbers of a text in order, each in its plainest form.

    `words("Salt &amp; 0.5-Ounce Café")` is ["salt", "0", "5", "ounce", "cafe"]. HTML entities are
    decoded, letters are made small and lose their accents, digits of any script are 0 to 9.
    """
    return split_words(fold(normalise(text)))


def search_words(text: str, language: str | None = None, title: str = "") -> list[str]:
    """Return the words that a text is found by, or that a query asks for.

    With a language they are stems (Porter 2001) without the stop words of that language, where a
    list of them is known. Where nothing but stop words is left they count, and where there is no
    word at all, signs do: "The Who" and "!!!" are found too. The same holds for the `title` of a
    longer text.
    """
    terms = _stems(words(text), language) or normalise(text).split()
    title_words = words(title)
    if title and not _without_stop_words(title_words, language):
        terms += [term for term in search_words(title, language) if term not in terms]
    return terms


def normalise(text: str) -> str:
    """Return a text in small letters and one spelling of each character; accents stay.

    Compatibility forms such as full width are replaced (Unicode's NFKC), all apostrophes become
    "'", and characters that nobody sees are left out.
    """
    text = html.unescape(text)
    if "`" in text:
        text = BACKTICK.sub("'", text)
    if text.isascii():
        return text.lower()
    text = VULGAR_FRACTION.sub(" ", text.translate(_replaced_before()))
    text = unicodedata.normalize("NFKC", ARABIC_NON_JOINER.sub(" ", text))
    return unicodedata.normalize("NFC", text.translate(_VISIBLE).lower())


def fold(text: str) -> str:
    """Return a normalised text as it is typed plainly: without accents, vowel points and case."""
    return text if text.isascii() else text.casefold().translate(_FOLDED)


def split_words(text: str) -> list[str]:
    """Return the words of a normalised text; runs of a script without spaces become pairs."""
    if not text.isascii():
        return _split(_word_pattern(), text)
    if "++" in text or "#" in text:
        return _split(ASCII_WORD_OR_LANGUAGE, text)
    return ASCII_WORD.findall(text)


def check_language(language: str | None) -> None:
    """Raise DataError for a language without stems."""
    if language is not None:
        _stemmer(language)


def compounds(text: str, language: str | None = None) -> dict[str, list[str]]:
    """Return the words of a text that are joined by hyphens: the whole -> the words.

    `compounds("a Wi-Fi router")` is {"wifi": ["wi", "fi"]}; with a language all are stems.
    """
    if not HYPHEN.search(text):
        return {}
    joined: dict[str, list[str]] = {}
    for compound in COMPOUND.findall(fold(normalise(text))):
        whole = _stems(split_words(HYPHEN.sub("", compound)), language)
        if len(whole) == 1:
            joined[whole[0]] = _stems(split_words(compound), language)
    return joined


class Variants:
    """Indexed words by the other forms in which they are typed.

    A word with an apostrophe is typed without it ("oneill" for "o'neill"), words with a hyphen are
    typed as one ("wifi" for "wi-fi"), and a single character of a script without spaces stands for
    every pair that holds it.
    """

    def __init__(self, language: str | None = None) -> None:
        """`language` is that of the stems in the index."""
        self.language = language
        self._longer: dict[str, list[str]] = {}
        self._parts: dict[str, list[str]] = {}  # of words with hyphens

    def add(self, word: str) -> None:
        """Take in a word of the index."""
        for short in _short_forms(word):
            self._longer.setdefault(short, []).append(word)

    def add_text(self, text: str) -> None:
        """Take in the words of an indexed text that are joined by hyphens."""
        self._parts.update(compounds(text, self.language))

    def keep(self, index: Collection[str]) -> None:
        """Forget all words but those of an index."""
        self._longer = {}
        for word in index:
            self.add(word)
        self._parts = {
            whole: parts
            for whole, parts in self._parts.items()
            if all(part in index for part in parts)
        }

    def indexed_words(self, text: str, index: Container[str]) -> list[str]:
        """Return the words of the index that a query stands for; repeated ones too."""
        words_of_query = search_words(text, self.language)
        matches = [match for word in words_of_query for match in self.matches(word, index)]
        for whole, parts in compounds(text, self.language).items():
            if whole in index and not all(part in index for part in parts):
                matches.append(whole)
        return matches

    def matches(self, word: str, index: Container[str]) -> list[str]:
        """Return the indexed words that a query's word stands for, itself first."""
        others = self._others(word)
        if word in index:
            others = [other for other in others if _is_same_word(word, other)]
        else:
            others += self._parts.get(word, [])
        candidates = dict.fromkeys([word, *others])
        return [candidate for candidate in candidates if candidate in index]

    def _others(self, word: str) -> list[str]:
        """Return longer and shorter forms of a word, indexed or not."""
        shorter = sorted(_short_forms(word)) if "'" in word else []
        longer = [other for form in (word, *shorter) for other in self._longer.get(form, ())]
        return shorter + longer


def _is_same_word(word: str, other: str) -> bool:
    """Return whether two forms are surely one word: "oneill" is "o'neill", "well" not "we'll"."""
    with_apostrophe = word if "'" in word else other
    return "'" not in with_apostrophe or NAME.match(with_apostrophe) is not None


def _short_forms(word: str) -> set[str]:
    if "'" in word:
        return set() if CONTRACTION.search(word) else {word.replace("'", "")}
    if word.isascii():
        return set()
    characters = _character_pattern().findall(word)
    return set(characters) if len(characters) == 2 else set()


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    tokens: list[str] = []
    for word in pattern.findall(text):
        if word[-1] in "+#":
            tokens.append(word[0])
        characters = [] if word.isascii() else _character_pattern().findall(word)
        if len(characters) > 1:
            tokens += map(operator.add, characters, characters[1:])
        else:
            tokens.append(word)
    return tokens


def _without_stop_words(terms: list[str], language: str | None) -> list[str]:
    stop_words = STOP_WORDS.get(language or "", frozenset())
    return [word for word in terms if word not in stop_words]


def _stems(terms: list[str], language: str | None) -> list[str]:
    if language is None:
        return terms
    telling_terms = _without_stop_words(terms, language) or terms
    if language in ELIDED:
        telling_terms = [ELIDED[language].sub("", term) for term in telling_terms]
    stems: list[str] = _stemmer(language).stemWords(telling_terms)
    return stems


@functools.cache
def _stemmer(language: str) -> Any:
    import Stemmer

    if language not in Stemmer.algorithms():
        raise DataError(
            "there are no stems for the language"
            f' "{language}".{nearest(language, Stemmer.algorithms())}'
        )
    return Stemmer.Stemmer(language)


@functools.cache
def _replaced_before() -> dict[int, str]:
    """Return what is replaced before compatibility forms are: those lose the information."""
    return {ord("™"): " ", ord("℠"): " ", **dict.fromkeys(map(ord, APOSTROPHES), "'")}


class _Visible(dict[int, str]):
    """Characters without those that nobody sees, worked out when first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character) == "Cf":  # formats: joiners, soft hyphens, directions
            character = " " if code == 0x200B else ""  # a space without width separates words
        self[code] = character
        return character


class _Folded(dict[int, str]):
    """Characters as they are typed plainly, worked out when first met."""

    def __missing__(self, code: int) -> str:
        self[code] = self._fold(chr(code))
        return self[code]

    def _fold(self, character: str) -> str:
        if character in TYPED_AS:
            return TYPED_AS[character]
        if _is_within(character, OPTIONAL_MARKS) and not character.isalnum():
            return ""
        if unicodedata.category(character) == "Nd":
            return str(unicodedata.decimal(character))
        base = unicodedata.normalize("NFD", character)[0]
        if base != character and _is_within(character, ACCENTED_BLOCKS):
            return TYPED_AS.get(base, base)
        return character


_VISIBLE = _Visible()
_FOLDED = _Folded()


def _is_within(character: str, blocks: Iterable[tuple[int, int]]) -> bool:
    return any(first <= ord(character) <= last for first, last in blocks)


def character_class(categories: str, blocks: Iterable[tuple[int, int]]) -> str:
    """Return the characters of some Unicode categories within blocks, for a regular expression."""
    ranges: list[list[int]] = []
    for first, last in blocks:
        for code in range(first, last + 1):
            if unicodedata.category(chr(code))[0] not in categories:
                continue
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


@functools.cache
def marks() -> str:
    """Return all characters that are written onto the letter before them, for a regular expression.

    They are the vowels of Indian scripts, points of Hebrew and Arabic, and accents.
    """
    return character_class("M", [(0x300, sys.maxunicode)])


@functools.cache
def _unspaced() -> str:
    return character_class("LN", UNSPACED_BLOCKS)


@functools.cache
def _character_pattern() -> re.Pattern[str]:
    """Match a character of a script without spaces together with its marks."""
    return re.compile(f"[{_unspaced()}][{marks()}]*")


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    spaced = rf"[^\W{_unspaced()}]"
    letters = rf"{spaced}+(?:(?![\x00-\u02ff])[{marks()}]+{spaced}*)*"
    return re.compile(
        rf"(?:{_character_pattern().pattern})+|{LANGUAGE_NAME}|{letters}(?:'{letters})?|[{EMOJI}]"
    )
