"""Plans of short texts: which clauses of a source are told, and prompts that mark them."""

import re
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

from tailor.llm.fencing import Fenced, fenced
from tailor.llm.prompts import Template
from tailor.text.passages import Span, clause_spans
from tailor.text.title_words import telling_words
from tailor.text.words import words

Plan: TypeAlias = tuple[int, ...]
"""Clauses of a source, in its order."""
TAGS = re.compile(r"<[^<>]*>")
LEADING = re.compile(r"^(?:and|but|or|so|yet|because|since|which|however)\b[\s,]*", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A text and its clauses."""

    text: str
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, text: str, most_clauses: int) -> "Source":
        """Return a text with its first clauses."""
        return cls(text, tuple(clause_spans(text)[:most_clauses]))

    @property
    def clauses(self) -> list[str]:
        return [self.text[span.start : span.end] for span in self.spans]

    def plans(self, most: int) -> list[Plan]:
        """Return all plans of at most `most` clauses, short ones first."""
        rows = range(len(self.spans))
        return [plan for size in range(1, most + 1) for plan in combinations(rows, size)]

    def extract(self, plan: Plan, most_words: int) -> str:
        """Return the clauses of a plan as a short text.

        Tags and opening conjunctions are left out, and the text is cut after `most_words`.
        """
        clauses = self.clauses
        bare = [" ".join(TAGS.sub(" ", clauses[row]).strip(" .,;:-\n").split()) for row in plan]
        text = ", ".join(LEADING.sub("", clause) or clause for clause in bare)
        text = " ".join(text.split(" ")[:most_words]).rstrip(",;:-")
        return text[:1].upper() + text[1:]

    def adherence(self, text: str, plan: Plan) -> float:
        """Return the share of a text's telling words that stand in the clauses of a plan."""
        text_words = telling_words(text)
        clauses = self.clauses
        plan_words = {word for row in plan for word in words(clauses[row])}
        return sum(word in plan_words for word in text_words) / max(len(text_words), 1)

    def prompt(self, template: Template, plan: Plan, budget: int, **slots: Any) -> str:
        """Return a template's prompt whose slot `text` has the plan's clauses between <e> and </e>.

        It is "" where a clause cannot be shown: it spoke to the model and was taken out, or lies
        beyond the budget of tokens.
        """
        # Marks are set after fencing, which takes whole sentences out, and would take marks too.
        safe = fenced(TAGS.sub(" ", self.text))
        clauses = self.clauses
        pieces: list[str] = []
        end = 0
        for row in plan:
            clause = TAGS.sub(" ", clauses[row])
            start = safe.text.find(clause, end)
            if start < 0:
                return ""
            pieces += [safe.text[end:start], f"<e>{clause}</e>"]
            end = start + len(clause)
        marked = Fenced("".join([*pieces, safe.text[end:]]), safe.removed)
        prompt = template.filled(budget, text=marked, **slots).text
        is_whole = prompt.count("</e>") == len(plan) + template.text.count("</e>")
        return prompt if is_whole else ""
