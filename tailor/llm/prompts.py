"""Prompts: templates with declared slots, filled within a budget of tokens that never costs the
instruction.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tailor.data.nouns import Profile
from tailor.errors import ModelError, nearest
from tailor.llm.fencing import CLOSE, Fenced, fenced
from tailor.text.percentiles import Percentiles

SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")
CUT = "..."
LEAST = 8  # tokens that every text keeps


def estimated_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand: a third of its bytes, which is more than most
    need.
    """
    return len(text.encode("utf-8", "replace")) // 3 + 1


@dataclass(frozen=True)
class Prompt:
    """A prompt ready to be asked, and what happened to what was put into it."""

    text: str
    tokens: int
    shortened: tuple[str, ...] = ()
    """Slots, or slot[n], whose text was cut."""
    flagged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Slot, or slot[n] -> what in it spoke to the model and was taken out."""


@dataclass(frozen=True)
class Template:
    """A text with slots in braces, each declared as `trusted` (ours), `foreign` (an item's or a
    user's words) or `listed` (several foreign texts, numbered from 1).

    What is foreign is fenced, and shortened where the budget is too small; the template's own words
    never are, so that the instruction at its end always stands. Foreign texts are put in after all
    slots are found: braces in them mean nothing.
    """

    text: str
    trusted: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        declared, used = [*self.trusted, *self.foreign, *self.listed], SLOT.findall(self.text)
        for name in used:
            if name not in declared:
                raise ModelError(
                    f"the template uses {{{name}}}, which is not declared.{nearest(name, declared)}"
                )
        if (
            len(set(declared)) != len(declared)
            or set(declared) != set(used)
            or len(set(used)) != len(used)
        ):
            raise ModelError(
                f"declared slots are {declared}, the template uses {used}: declare each once, use"
                " each once"
            )

    def filled(
        self,
        budget: int,
        tokens: Callable[[str], int] = estimated_tokens,
        **given: str | Sequence[str],
    ) -> Prompt:
        """The prompt of at most `budget` tokens. Raises ModelError for slots that are missing or
        unknown, and where the template alone is too long.
        """
        names = {*self.trusted, *self.foreign, *self.listed}
        for name in names ^ set(given):
            raise ModelError(
                f"slot {name} is"
                f" {'not given' if name in names else f'unknown.{nearest(name, names)}'}"
            )
        for name in self.listed:
            if isinstance(given[name], str):
                raise ModelError(
                    f"slot {name} is one text, {given[name][:40]!r}: give a list of texts"
                )
        pieces = {name: fenced(str(given[name])) for name in self.foreign}
        pieces |= {
            f"{name}[{at}]": fenced(text)
            for name in self.listed
            for at, text in enumerate(given[name], start=1)
        }
        own = self._with(
            {name: str(given[name]) for name in self.trusted}, dict.fromkeys(pieces, f"<<{CUT}>>")
        )
        room = budget - tokens(own)
        if room < 0:
            raise ModelError(
                f"a budget of {budget} tokens is too small: the template and its {len(pieces)}"
                f" slots need {tokens(own)} before any text"
            )
        kept = _within(pieces, room, tokens)
        text = self._with({name: str(given[name]) for name in self.trusted}, kept)
        while tokens(text) > budget:  # tokens of parts do not add up exactly
            room -= tokens(text) - budget
            kept = _within(pieces, max(room, 0), tokens)
            shorter = self._with({name: str(given[name]) for name in self.trusted}, kept)
            if shorter == text:
                raise ModelError(
                    f"a budget of {budget} tokens is too small for {len(pieces)} texts: the prompt"
                    f" needs {tokens(text)}"
                )
            text = shorter
        return Prompt(
            text,
            tokens(text),
            tuple(name for name in pieces if kept[name] != pieces[name].text),
            {name: one.removed for name, one in pieces.items() if one.removed},
        )

    def _with(self, trusted: Mapping[str, str], pieces: Mapping[str, str]) -> str:
        def one(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in self.listed:
                lines = [
                    f"[{at}] {text}"
                    for at, text in enumerate(
                        (text for key, text in pieces.items() if key.startswith(f"{name}[")),
                        start=1,
                    )
                ]
                return "\n".join(lines)
            return trusted[name] if name in trusted else pieces[name]

        return SLOT.sub(one, self.text)


def _within(
    pieces: Mapping[str, Fenced], room: int, tokens: Callable[[str], int]
) -> dict[str, str]:
    """The texts within `room` tokens together: short ones whole, the long ones cut to one common
    length.
    """
    costs = {name: tokens(one.text) for name, one in pieces.items()}
    left, share, waiting = room, 0, sorted(costs, key=lambda name: costs[name])
    for at, name in enumerate(waiting):
        share = left // (len(waiting) - at)
        if costs[name] > share:
            return {
                **{one: pieces[one].text for one in waiting[:at]},
                **{one: _cut(pieces[one].text, max(share, 1), tokens) for one in waiting[at:]},
            }
        left -= costs[name]
    return {name: one.text for name, one in pieces.items()}


def _cut(text: str, most: int, tokens: Callable[[str], int]) -> str:
    """The longest beginning of at most so many tokens that ends at a space, its fence closed."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if tokens(text[:middle] + CUT + CLOSE) <= most else (low, middle - 1)
        )
    kept = text[:low]
    kept = kept.rpartition(" ")[0] or kept
    return (kept if kept.startswith("<<") else "<<") + CUT + CLOSE


def history_lines(
    titles: Sequence[str],
    values: Sequence[float] | None = None,
    name: str = "rating",
    among: Percentiles | None = None,
) -> list[str]:
    """One line an event, oldest first: the title, and where its number stands among all numbers, in
    words that a model understands.

    Numbers like "4,213 views" say little to a language model; "views: high, percentile 71 of 100"
    does (LinkedIn's feed, 2025).
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
    """What is known about a person, for a foreign slot; a plain sentence where nothing is."""
    known = (
        [] if profile is None else [one for one in (profile.text, *profile.facts) if one.strip()]
    )
    return " ".join(known) or "nothing is known about this person"
