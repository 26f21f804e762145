"""Conditions on the rows of a table, as people write them: `price <= 200 and not (categories has
'adult')`.

    condition   either [or either ...]
    either      fact [and fact ...]
    fact        not fact | ( condition ) | column | column TEST
    TEST        = == != <> < <= > >=  value or column      has value | (value, ...)      is [not]
    missing | null
                [not] in (value, ...)                      contains 'text'
    value       'text' or "text" (a doubled quote stands for one), number, true, false

Words of the language count in any case; a column whose name is one of them, or is no plain word,
stands in backticks. A bare column is one of true and false. `has` is for columns of lists (any of
the values), `contains` looks for a text in a text, in any case. What is missing (null, NaN) makes a
comparison neither true nor false; `not`, `and` and `or` keep that where it matters, and a row where
the whole stays undecided does not pass: a condition fails closed. Nothing is ever evaluated but
these tests: no function, no file, no other table can be reached.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from tailor.errors import DataError

LONGEST = 160  # characters of a condition that an error quotes
DEEPEST = 50  # brackets and nots within each other
TOKENS = re.compile(  # possessive: a hostile text costs no more than its length
    r"""\s*+(?:(?P<text>'(?:[^']|'')*+'|"(?:[^"]|"")*+") | (?P<name>`[^`]++`) | (?P<word>[^\W\d][\w.]*+)
         | (?P<number>[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?(?![\w.])) | (?P<sign><=|>=|==|!=|<>|[=<>(),]) | (?P<end>\Z) | (?P<bad>.))""",
    re.VERBOSE | re.DOTALL,
)
WORDS = frozenset(
    ["and", "or", "not", "in", "has", "contains", "is", "missing", "null", "true", "false"]
)
SAME = {"==": "=", "<>": "!="}
Value = str | int | float | bool


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    at: int
    """Its first character, from 0."""


@dataclass(frozen=True)
class Test:
    """One fact about a column."""

    column: Token
    sign: str
    """= != < <= > >=, in, has, contains, missing, or "" for a bare column."""
    values: tuple[Value, ...] = ()
    other: Token | None = None
    """The column compared with."""


@dataclass(frozen=True)
class Joined:
    word: str
    """And, or, not."""
    parts: "tuple[Test | Joined, ...]"


Tree = Test | Joined


def read(text: str, what: str = "condition") -> Tree:
    """The tree of a condition. Raises DataError that quotes the place where it cannot be read;
    `what` is what the error calls it.
    """
    return _Reader(text, what).all()


def refuse(text: str, what: str, problem: str, token: Token | None = None) -> NoReturn:
    at = token.at if token else 0
    shown = (
        text
        if len(text) <= LONGEST
        else f"...{text[max(at - LONGEST // 2, 0) : at + LONGEST // 2]}..."
    )
    place = (
        ""
        if token is None
        else f', at "{token.text[:LONGEST]}" (character {at + 1})'
        if token.text
        else ", at its end"
    )
    raise DataError(f'the {what} "{shown}" cannot be used{place}: {problem}')


class _Reader:
    """Reads an expression from left to right, one token ahead."""

    def __init__(self, text: str, what: str) -> None:
        self.text, self.what = text, what
        self.tokens: list[Token] = []
        for found in TOKENS.finditer(text):
            kind = str(found.lastgroup)
            self.tokens.append(Token(kind, found[kind], found.start(kind)))
            if kind == "bad":
                self.refuse(
                    (
                        "a quotation mark is not closed"
                        if found[kind] in "'\"`"
                        else "this sign has no meaning here"
                    ),
                    self.tokens[-1],
                )
            if kind == "end":
                break
        self.at = 0
        self.depth = 0

    def refuse(self, problem: str, token: Token) -> NoReturn:
        refuse(self.text, self.what, problem, token)

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def taken(self, *texts: str) -> str:
        """The next token's text, and past it, where it is one of these words or signs; else
        nothing.
        """
        found = self.next.text.lower() if self.next.kind in ("word", "sign") else ""
        self.at += found in texts
        return found if found in texts else ""

    def need(self, text: str) -> None:
        if not self.taken(text):
            self.refuse(f"{text} is expected here", self.next)

    def all(self) -> Tree:
        found = self.joined("or")
        if self.next.kind != "end":
            self.refuse("and, or, or the end is expected here", self.next)
        return found

    def joined(self, word: str) -> Tree:
        read: Callable[[], Tree] = (lambda: self.joined("and")) if word == "or" else self.fact
        parts = [read()]
        while self.taken(word):
            parts.append(read())
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def fact(self) -> Tree:
        self.depth += 1
        if self.depth > DEEPEST:
            self.refuse(f"more than {DEEPEST} brackets and nots within each other", self.next)
        found = self._fact()
        self.depth -= 1
        return found

    def _fact(self) -> Tree:
        if self.taken("not"):
            return Joined("not", (self.fact(),))
        if self.taken("("):
            inside = self.joined("or")
            self.need(")")
            return inside
        column = self.column()
        if column is None:
            self.refuse("a column is expected here", self.next)
        if self.taken("is"):
            is_not = self.taken("not")
            if not self.taken("missing", "null"):
                self.refuse("missing is expected here, as in `price is missing`", self.next)
            return _negated(Test(column, "missing"), bool(is_not))
        is_not = self.taken("not")
        if self.taken("in"):
            return _negated(Test(column, "in", self.values()), bool(is_not))
        if is_not:
            self.refuse("in is expected after not here", self.next)
        if self.taken("has"):
            return Test(column, "has", self.values() if self.next.text == "(" else (self.value(),))
        if self.taken("contains"):
            return Test(column, "contains", (self.value(str),))
        sign = self.taken("=", "==", "!=", "<>", "<", "<=", ">", ">=")
        if not sign:
            return Test(column, "")
        sign, other = SAME.get(sign, sign), self.column()
        return Test(column, sign, other=other) if other else Test(column, sign, (self.value(),))

    def column(self) -> Token | None:
        token = self.next
        is_column = token.kind == "name" or (
            token.kind == "word" and token.text.lower() not in WORDS
        )
        self.at += is_column
        return token if is_column else None

    def values(self) -> tuple[Value, ...]:
        self.need("(")
        out = [self.value()]
        while self.taken(","):
            out.append(self.value())
        self.need(")")
        return tuple(out)

    def value(self, kind: type | None = None) -> Value:
        token = self.next
        found: Value | None = None
        if token.kind == "text":
            found = token.text[1:-1].replace(token.text[0] * 2, token.text[0])
        elif token.kind == "number" and kind is None:
            found = (
                int(token.text) if re.fullmatch(r"[-+]?\d{1,18}", token.text) else float(token.text)
            )
        elif token.kind == "word" and token.text.lower() in ("true", "false") and kind is None:
            found = token.text.lower() == "true"
        if found is None:
            self.refuse(
                (
                    "a text in quotation marks is expected here"
                    if kind
                    else "a value is expected here; texts stand in quotation marks"
                ),
                token,
            )
        self.at += 1
        return found


def _negated(test: Test, is_not: bool) -> Tree:
    return Joined("not", (test,)) if is_not else test
