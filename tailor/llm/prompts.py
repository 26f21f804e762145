"""Prompts: templates with declared slots, filled within a budget of tokens.

The budget shortens foreign texts and never the instruction.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tailor.data.nouns import Profile
from tailor.errors import ModelError, nearest
from tailor.llm.fencing import CLOSE, OPEN, Fenced, fenced
from tailor.text.percentiles import Percentiles

SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")
CUT = "..."
BYTES_PER_TOKEN = 3  # fewer than most texts have


def estimated_tokens(text: str) -> int:
    """Return an upper estimate of a text's tokens, for want of a tokenizer."""
    return len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN + 1


@dataclass(frozen=True)
class Prompt:
    """A prompt ready to be sent, with what happened to the texts in it."""

    text: str
    tokens: int
    shortened: tuple[str, ...] = ()
    """Slots, or slot[n], whose text was cut."""
    flagged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Slot, or slot[n] -> the parts that spoke to the model and were taken out."""


@dataclass(frozen=True)
class Template:
    """A text with slots in braces, each declared as trusted, foreign or listed.

    Foreign text is fenced, and shortened where the budget is too small; the template's own words
    never are, so that the instruction at its end always remains. Foreign texts are put in after all
    slots are found: braces in them mean nothing.
    """

    text: str
    """The template, such as "Rank: {items}"."""
    trusted: tuple[str, ...] = ()
    """Slots of our own words."""
    foreign: tuple[str, ...] = ()
    """Slots of an item's or a user's words."""
    listed: tuple[str, ...] = ()
    """Slots of several foreign texts, numbered from 1."""

    def __post_init__(self) -> None:
        declared = [*self.trusted, *self.foreign, *self.listed]
        used = SLOT.findall(self.text)
        for name in used:
            if name not in declared:
                raise ModelError(
                    f"the template uses {{{name}}}, which is not declared.{nearest(name, declared)}"
                )
        has_repetitions = len(set(declared)) != len(declared) or len(set(used)) != len(used)
        if has_repetitions or set(declared) != set(used):
            raise ModelError(
                f"declared slots are {declared}, the template uses {used}: declare each once, use"
                " each once"
            )

    def filled(
        self,
        budget: int,
        tokens: Callable[[str], int] = estimated_tokens,
        after: Mapping[str, Sequence[str]] | None = None,
        **slots: "str | Fenced | Sequence[str | Fenced]",
    ) -> Prompt:
        """Return the prompt with its slots filled, of at most `budget` tokens.

        `tokens` counts them. `after` has trusted words of our own behind each text of a listed
        slot, such as a score. A text that is fenced already is taken as it is. Raises ModelError
        for slots that are missing or unknown, and where the template alone is too long.
        """
        self._check(slots)
        trusted = {name: str(slots[name]) for name in self.trusted}
        trusted |= {
            f"{name}[{number}]": words
            for name, lines in (after or {}).items()
            for number, words in enumerate(lines, start=1)
        }
        pieces = {name: _piece(slots[name]) for name in self.foreign}
        pieces |= {
            f"{name}[{number}]": _piece(text)
            for name in self.listed
            for number, text in enumerate(slots[name], start=1)  # type: ignore[arg-type]
        }
        texts = self._shortened(trusted, pieces, budget, tokens)
        prompt = self._join(trusted, texts)
        return Prompt(
            prompt,
            tokens(prompt),
            tuple(name for name, piece in pieces.items() if texts[name] != piece.text),
            {name: piece.removed for name, piece in pieces.items() if piece.removed},
        )

    def _check(self, values: Mapping[str, Any]) -> None:
        names = {*self.trusted, *self.foreign, *self.listed}
        for name in names - set(values):
            raise ModelError(f"slot {name} is not given")
        for name in set(values) - names:
            raise ModelError(f"slot {name} is unknown.{nearest(name, names)}")
        for name in self.listed:
            if isinstance(values[name], str):
                raise ModelError(
                    f"slot {name} is one text, {values[name][:40]!r}: give a list of texts"
                )

    def _shortened(
        self,
        trusted: Mapping[str, str],
        pieces: Mapping[str, Fenced],
        budget: int,
        tokens: Callable[[str], int],
    ) -> dict[str, str]:
        """Return the foreign texts, cut so that the prompt keeps to its budget."""
        template_tokens = tokens(self._join(trusted, dict.fromkeys(pieces, OPEN + CUT + CLOSE)))
        room = budget - template_tokens
        if room < 0:
            raise ModelError(
                f"a budget of {budget} tokens is too small: the template and its {len(pieces)}"
                f" slots need {template_tokens} before any text"
            )
        texts = _fit(pieces, room, tokens)
        prompt = self._join(trusted, texts)
        while tokens(prompt) > budget:  # tokens of parts do not add up exactly
            room -= tokens(prompt) - budget
            texts = _fit(pieces, max(room, 0), tokens)
            shorter = self._join(trusted, texts)
            if shorter == prompt:
                raise ModelError(
                    f"a budget of {budget} tokens is too small for {len(pieces)} texts: the prompt"
                    f" needs {tokens(prompt)}"
                )
            prompt = shorter
        return texts

    def _join(self, trusted: Mapping[str, str], texts: Mapping[str, str]) -> str:
        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in trusted:
                return trusted[name]
            if name not in self.listed:
                return texts[name]
            lines = [
                f"{key.removeprefix(name)} {text}{trusted.get(key, '')}"
                for key, text in texts.items()
                if key.startswith(f"{name}[")
            ]
            return "\n".join(lines)

        return SLOT.sub(fill, self.text)


def _piece(text: Any) -> Fenced:
    return text if isinstance(text, Fenced) else fenced(str(text))


def _fit(pieces: Mapping[str, Fenced], room: int, tokens: Callable[[str], int]) -> dict[str, str]:
    """Return the texts within `room` tokens together.

    Short texts stay whole, the long ones are cut to one common length.
    """
    texts = {name: piece.text for name, piece in pieces.items()}
    costs = {name: tokens(text) for name, text in texts.items()}
    by_cost = sorted(costs, key=lambda name: costs[name])
    for i, name in enumerate(by_cost):
        share = room // (len(by_cost) - i)
        if costs[name] > share:
            limit = max(share, 1)
            cut = {long: _cut(texts[long], limit, tokens) for long in by_cost[i:]}
            return texts | cut  # in the order of the slots, not of the lengths
        room -= costs[name]
    return texts


def _cut(text: str, limit: int, tokens: Callable[[str], int]) -> str:
    """Return the longest beginning within `limit` tokens that ends at a space, its fence closed."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if tokens(text[:middle] + CUT + CLOSE) <= limit:
            low = middle
        else:
            high = middle - 1
    beginning = text[:low]
    beginning = beginning.rpartition(" ")[0] or beginning
    if not beginning.startswith(OPEN):
        beginning = OPEN
    return beginning + CUT + CLOSE


def history_lines(
    titles: Sequence[str],
    values: Sequence[float] | None = None,
    name: str = "rating",
    among: Percentiles | None = None,
) -> list[str]:
    """Return one line per event, oldest first: its title, and its value in words.

    A value is told by its percentile among `among`, else among `values`: "4,213 views" says little
    to a language model, "views: high, percentile 71 of 100" does (LinkedIn's feed, 2025).
    """
    if values is None:
        return list(titles)
    if len(values) != len(titles):
        raise ModelError(f"{len(titles)} titles and {len(values)} values: give one each")
    words = (among or Percentiles.of(values)).words(values, name)
    return [
        f"{title} ({word})" if word else title for title, word in zip(titles, words, strict=True)
    ]


def profile_text(profile: Profile | None) -> str:
    """Return a profile as text for a foreign slot, a sentence for an empty one."""
    lines = [] if profile is None else [profile.text, *(fact.text for fact in profile.facts)]
    return " ".join(line for line in lines if line.strip()) or (
        "nothing is known about this person"
    )
