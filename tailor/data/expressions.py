"""The text of conditions: `price <= 200 and not (categories has 'adult')`, read as a tree.

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
    r"""\s*+(?:
          (?P<text>'(?:[^']|'')*+'|"(?:[^"]|"")*+")
        | (?P<name>`[^`]++`)
        | (?P<word>[^\W\d][\w.]*+)
        | (?P<number>[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?(?![\w.]))
        | (?P<sign><=|>=|==|!=|<>|[=<>(),])
        | (?P<end>\Z)
        | (?P<bad>.))""",
    re.VERBOSE | re.DOTALL,
)
WORDS = frozenset(
    ["and", "or", "not", "in", "has", "contains", "is", "missing", "null", "true", "false"]
)
SAME = {"==": "=", "<>": "!="}
Value = str | int | float | bool


@dataclass(frozen=True)
class Token:
    """A word, sign, name, text or number of a condition."""

    kind: str
    """Text, name, word, number, sign, end or bad."""
    text: str
    """The token as written."""
    at: int
    """Its first character, from 0."""


@dataclass(frozen=True)
class Test:
    """A test of one column."""

    column: Token
    """The column that is tested."""
    sign: str
    """= != < <= > >=, in, has, contains, missing, or "" for a bare column."""
    values: tuple[Value, ...] = ()
    """Values compared with."""
    other: Token | None = None
    """Column compared with, in place of values."""


@dataclass(frozen=True)
class Joined:
    """Several tests joined by a word."""

    word: str
    """And, or, not."""
    parts: "tuple[Test | Joined, ...]"
    """The tests; one for not."""


Tree = Test | Joined


def read(text: str, what: str = "condition") -> Tree:
    """Return the tree of a condition.

    Raises DataError that quotes the place where it cannot be read; `what` names the condition in
    it.
    """
    return _Reader(text, what).all()


def refuse(text: str, what: str, problem: str, token: Token | None = None) -> NoReturn:
    """Raise DataError that quotes the condition, the place of a token, and the problem."""
    quoted = text
    suffix = ""
    if len(text) > LONGEST:
        middle = token.at if token else 0
        quoted = f"...{text[max(middle - LONGEST // 2, 0) : middle + LONGEST // 2]}..."
    if token is not None:
        suffix = ", at its end"
        if token.text:
            suffix = f', at "{token.text[:LONGEST]}" (character {token.at + 1})'
    raise DataError(f'the {what} "{quoted}" cannot be used{suffix}: {problem}')


class _Reader:
    """Reads an expression from left to right, one token ahead."""

    def __init__(self, text: str, what: str) -> None:
        self.text, self.what = text, what
        self.tokens: list[Token] = []
        for match in TOKENS.finditer(text):
            kind = str(match.lastgroup)
            self.tokens.append(Token(kind, match[kind], match.start(kind)))
            if kind == "bad":
                problem = "this sign has no meaning here"
                if match[kind] in "'\"`":
                    problem = "a quotation mark is not closed"
                self.refuse(problem, self.tokens[-1])
            if kind == "end":
                break
        self.position = 0
        self.depth = 0

    def refuse(self, problem: str, token: Token) -> NoReturn:
        refuse(self.text, self.what, problem, token)

    @property
    def next(self) -> Token:
        """Return the token to be read next."""
        return self.tokens[self.position]

    def taken(self, *texts: str) -> str:
        """Go past the next token where it is one of these words or signs; return it, or ""."""
        text = self.next.text.lower() if self.next.kind in ("word", "sign") else ""
        if text not in texts:
            return ""
        self.position += 1
        return text

    def need(self, text: str) -> None:
        """Go past a word or sign. Raises DataError where another one is next."""
        if not self.taken(text):
            self.refuse(f"{text} is expected here", self.next)

    def all(self) -> Tree:
        """Return the tree of the whole text."""
        tree = self.joined("or")
        if self.next.kind != "end":
            self.refuse("and, or, or the end is expected here", self.next)
        return tree

    def joined(self, word: str) -> Tree:
        """Return the tree of parts joined by "or", each of parts joined by "and"."""
        read: Callable[[], Tree] = self.fact
        if word == "or":
            read = self.conjunction
        parts = [read()]
        while self.taken(word):
            parts.append(read())
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def conjunction(self) -> Tree:
        """Return the tree of facts joined by "and"."""
        return self.joined("and")

    def fact(self) -> Tree:
        """Return one test, or what stands in brackets."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.refuse(f"more than {DEEPEST} brackets and nots within each other", self.next)
        tree = self._fact()
        self.depth -= 1
        return tree

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
        return self._test(column)

    def _test(self, column: Token) -> Tree:
        """Return the test that follows a column."""
        if self.taken("is"):
            is_not = bool(self.taken("not"))
            if not self.taken("missing", "null"):
                self.refuse("missing is expected here, as in `price is missing`", self.next)
            return _negated(Test(column, "missing"), is_not)
        is_not = bool(self.taken("not"))
        if self.taken("in"):
            return _negated(Test(column, "in", self.values()), is_not)
        if is_not:
            self.refuse("in is expected after not here", self.next)
        if self.taken("has"):
            values = self.values() if self.next.text == "(" else (self.value(),)
            return Test(column, "has", values)
        if self.taken("contains"):
            return Test(column, "contains", (self.quoted(),))
        sign = self.taken("=", "==", "!=", "<>", "<", "<=", ">", ">=")
        if not sign:
            return Test(column, "")
        sign = SAME.get(sign, sign)
        other = self.column()
        if other is not None:
            return Test(column, sign, other=other)
        return Test(column, sign, (self.value(),))

    def column(self) -> Token | None:
        """Go past a column and return it; None where none is next."""
        token = self.next
        is_plain = token.kind == "word" and token.text.lower() not in WORDS
        if token.kind != "name" and not is_plain:
            return None
        self.position += 1
        return token

    def values(self) -> tuple[Value, ...]:
        """Return the values in brackets."""
        self.need("(")
        values = [self.value()]
        while self.taken(","):
            values.append(self.value())
        self.need(")")
        return tuple(values)

    def quoted(self) -> str:
        """Return a text in quotation marks."""
        token = self.next
        if token.kind != "text":
            self.refuse("a text in quotation marks is expected here", token)
        self.position += 1
        return _unquoted(token.text)

    def value(self) -> Value:
        """Return a text, a number, true or false."""
        token = self.next
        if token.kind == "text":
            return self.quoted()
        word = token.text.lower() if token.kind == "word" else ""
        if token.kind != "number" and word not in ("true", "false"):
            self.refuse("a value is expected here; texts stand in quotation marks", token)
        self.position += 1
        if word:
            return word == "true"
        is_whole = re.fullmatch(r"[-+]?\d{1,18}", token.text)
        return int(token.text) if is_whole else float(token.text)


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def _negated(test: Test, is_not: bool) -> Tree:
    return Joined("not", (test,)) if is_not else test
