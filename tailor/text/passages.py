"""Passages of a document that answer a request, and checks that words stand in their source."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tailor.ports.base import Encoder
from tailor.text.cached import item_vectors, plain
from tailor.text.words import STOP_WORDS, search_words, words

# A sentence ends at a line's end, or at a mark that a space or a closing quote follows: "3.5" and
# "a.b.com" stay whole.
SENTENCE = re.compile(
    r"[^\s].*?(?:(?<![.!?])[.!?]++[\"')\]]*+(?=\s|$)|[。！？；]+|(?=\n)|$)", re.MULTILINE
)
EXACT = re.compile(
    r"https?://[^\s<>\"]+|(?<!\w)`[^`\n]+`(?!\w)|[\w.+-]+@[\w.-]+"
    r"|(?<!\w)[+-]?(?:\w+-)*\w*\d(?:[\w.,:/%-]*[\w%])?"
)
NAME = re.compile(r"(?<![\w'])[A-Z][\w'-]*\w")
# A capital that opens a sentence, with no other capital behind it: "Names the price", not
# "Van Gogh".
OPENING = re.compile(r"(?:(?<=[.!?:] )|^)[\"'(]*[A-Z][\w-]*\w(?!['\w]|\s+[A-Z])", re.MULTILINE)
# A line break of HTML ends a clause whatever its length; a comma or a conjunction ends a long one.
LINE_BREAK = re.compile(r"\s*<br\s*/?>\s*", re.IGNORECASE)
CONJUNCTIONS = (
    "and|but|or|so|yet|because|since|although|though|while|whereas|when|if|unless|until|which|who"
    "|however"
)
CLAUSE_EDGE = re.compile(
    rf"(?<=[,;:\u2014\u2013])\s+|\s+(?:-+|\u2014|\u2013)\s+|\s*[()]\s*|\s+(?=(?:{CONJUNCTIONS})\b)",
    re.IGNORECASE,
)
LEAST_CLAUSE = 3  # words
COMMON = STOP_WORDS["english"] | frozenset(
    ["i'm", "i've", "i'd", "it's", "that's", "there", "he's", "she's", "they"]
)
COVERAGE_WEIGHT = 1.0  # of the request's words beside the cosine


class Span(NamedTuple):
    """A part of a text, by offsets of its characters."""

    start: int
    end: int


class Part(NamedTuple):
    """An exact part of a text (number, name, address, code), and its offsets in the source."""

    text: str
    start: int
    end: int

    @property
    def is_found(self) -> bool:
        """True if the part stands in the source; offsets are -1 where it does not."""
        return self.start >= 0


def sentence_spans(text: str) -> list[Span]:
    """Return the sentences of a text in order; lines end sentences."""
    spans = (Span(match.start(), match.end()) for match in SENTENCE.finditer(text))
    return [span for span in spans if text[span.start : span.end].strip()]


def clause_spans(text: str, least: int = LEAST_CLAUSE) -> list[Span]:
    """Return the clauses of a text in order: its elementary discourse units, by rules.

    Sentences are cut at commas, brackets, dashes and before conjunctions. A clause of fewer than
    `least` words stays with the clause before it in its sentence, the first one with the next.
    """
    lines = [line for span in sentence_spans(text) for line in _pieces(text, span, LINE_BREAK)]
    return [clause for line in lines for clause in _long_clauses(text, line, least)]


def _pieces(text: str, span: Span, edge: re.Pattern[str]) -> list[Span]:
    """Return the parts of a span between the edges in it, without those that have no word."""
    starts = [span.start]
    ends: list[int] = []
    for match in edge.finditer(text, span.start, span.end):
        ends.append(match.start())
        starts.append(match.end())
    ends.append(span.end)
    pieces: list[Span] = []
    for start, end in zip(starts, ends, strict=True):
        if words(text[start:end]):
            pieces.append(Span(start, end))
    return pieces


def _long_clauses(text: str, line: Span, least: int) -> list[Span]:
    """Return the clauses of a line, those of too few words joined to a neighbour."""

    def is_short(span: Span) -> bool:
        return len(words(text[span.start : span.end])) < least

    clauses: list[Span] = []
    for piece in _pieces(text, line, CLAUSE_EDGE):
        # only the first clause can be short still, while it is the only one
        if clauses and (is_short(piece) or is_short(clauses[0])):
            clauses[-1] = Span(clauses[-1].start, piece.end)
        else:
            clauses.append(piece)
    return clauses


def exact_parts(text: str, source: str, skips_openings: bool = False) -> list[Part]:
    """Return numbers, names, addresses and code of a text, each looked up in its source.

    Numbers, addresses and code must stand in the source as whole words, sign by sign; of names,
    capitals do not count. With `skips_openings` a word that opens a sentence is no name, unless
    another capital or an apostrophe follows it.
    """
    strict = [match.group().rstrip(".,") for match in EXACT.finditer(text)]
    distinct = dict.fromkeys(strict)
    strict_parts = [_looked_up(part, source, False) for part in distinct]
    if skips_openings:
        text = OPENING.sub(" ", text)
    plain_text = EXACT.sub(" ", text)
    names = dict.fromkeys(match.group() for match in NAME.finditer(plain_text))
    rare_names = [name for name in names if name.lower() not in COMMON]
    name_parts = [_looked_up(name, source, True) for name in rare_names]
    return strict_parts + name_parts


def _looked_up(part: str, source: str, ignores_case: bool) -> Part:
    pattern = rf"(?<![\w])(?<!\d[.,]){re.escape(part)}(?!\w)(?![.,]\d)"
    match = re.search(pattern, source, re.IGNORECASE if ignores_case else 0)
    return Part(part, *match.span()) if match else Part(part, -1, -1)


@dataclass(frozen=True)
class PassageFinder:
    """Finds the sentences of documents that answer a request.

    A sentence scores by its cosine with the request, plus the share of the request's words that it
    has, by rarity in the document. Those beside the best are taken too while there is room, because
    an answer often follows the question that was asked.
    """

    encoder: Encoder
    """Encoder of requests and sentences."""
    most: int = 3
    """Most sentences around which the passages lie."""
    share: float = 0.3
    """Most of the document's words that the passages have together."""

    def of(self, pairs: Sequence[tuple[str, str]]) -> list[list[Span]]:
        """Return the passages of each (request, document), in the document's order.

        They are spans of whole sentences. A document of which no sentence is short enough has
        none.
        """
        spans = [sentence_spans(text) for _, text in pairs]
        sentences = [
            [text[span.start : span.end] for span in of_text]
            for (_, text), of_text in zip(pairs, spans, strict=True)
        ]
        flat = list(dict.fromkeys(sentence for of_text in sentences for sentence in of_text))
        if not flat:
            return [[] for _ in pairs]
        vectors = item_vectors(self.encoder, flat)
        row_of = {sentence: row for row, sentence in enumerate(flat)}
        requests = list(dict.fromkeys(request for request, _ in pairs))
        # requests are people's words: they are kept in no cache
        request_vectors = dict(zip(requests, plain(self.encoder).encode(requests), strict=True))
        passages = []
        for (request, _), of_text, of_document in zip(pairs, spans, sentences, strict=True):
            cosines = vectors[[row_of[part] for part in of_document]] @ request_vectors[request]
            scores = cosines + COVERAGE_WEIGHT * coverage(request, of_document)
            passages.append(self._chosen(of_text, of_document, scores))
        return passages

    def _chosen(
        self, spans: Sequence[Span], sentences: Sequence[str], scores: np.ndarray
    ) -> list[Span]:
        """Return the best sentences, then those beside them, as long as there is room."""
        lengths = [len(words(sentence)) for sentence in sentences]
        room = self.share * sum(lengths)
        order = np.argsort(-scores, kind="stable").tolist()
        seeds: list[int] = []
        for row in order:
            if len(seeds) < self.most and lengths[row] <= room:
                seeds.append(row)
                room -= lengths[row]
        chosen = set(seeds)
        for row in [beside for seed in seeds for beside in (seed + 1, seed - 1)]:
            if 0 <= row < len(sentences) and row not in chosen and lengths[row] <= room:
                chosen.add(row)
                room -= lengths[row]
        return _joined(spans, sorted(chosen))


def coverage(request: str, texts: Sequence[str]) -> np.ndarray:
    """Return (n,) the share of the request's words in each text, weighed by rarity among them."""
    request_words = set(search_words(request, "english"))
    shared = [request_words & set(search_words(text, "english")) for text in texts]
    weights = {
        word: np.log(1 + len(texts) / (0.5 + sum(word in of_text for of_text in shared)))
        for word in request_words
    }
    total = sum(weights.values()) or 1.0
    return np.array([sum(weights[word] for word in of_text) / total for of_text in shared])


def _joined(spans: Sequence[Span], rows: Sequence[int]) -> list[Span]:
    """Return the spans of these rows; rows that follow each other give one span."""
    joined: list[Span] = []
    for position, row in enumerate(rows):
        if position and rows[position - 1] == row - 1:
            joined[-1] = Span(joined[-1].start, spans[row].end)
        else:
            joined.append(spans[row])
    return joined
