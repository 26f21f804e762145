"""Summaries of what a user likes, rolled forward over blocks of items.

An item is known by its phrases: attributes, categories, words of its title. A block changes the
summary of the blocks before it, so that order counts and a change of taste is told as one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tailor.data.nouns import Evidence, Fact, Profile

Item: TypeAlias = tuple[str, Sequence[str]]
"""An item's id and its phrases."""
LIKED = 0.5  # share of the highest weight, from which a phrase is liked
FADED = 0.5  # share of its own highest weight, below which a phrase was liked before
EARLIER = "; earlier "
"""Stands in a summary before what was liked before."""
MAX_EVIDENCE = 3  # items a phrase, the latest ones


@dataclass(frozen=True, eq=False)
class Taste:
    """Weights of phrases after some blocks, and the items behind them."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """Phrase -> share of the items of a block that have it, summed, older blocks counting less."""
    peaks: Mapping[str, float] = field(default_factory=dict)
    """Phrase -> the highest weight that it ever had."""
    evidence: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Phrase -> ids of the latest items that have it, the latest last."""

    @classmethod
    def of(cls, items: Sequence[Item], block: int, decay: float) -> "Taste":
        """Return the taste that items show, oldest first, `block` at a time.

        Each block multiplies the weights of the blocks before it by `decay`.
        """
        taste = cls()
        for start in range(0, len(items), block):
            taste = taste.after(items[start : start + block], decay)
        return taste

    def after(self, items: Sequence[Item], decay: float) -> "Taste":
        """Return the taste after one more block of items."""
        weights = {phrase: decay * weight for phrase, weight in self.weights.items()}
        evidence = dict(self.evidence)
        for item_id, phrases in items:
            for phrase in dict.fromkeys(phrases):
                weights[phrase] = weights.get(phrase, 0.0) + 1 / len(items)
                evidence[phrase] = (*evidence.get(phrase, ()), item_id)[-MAX_EVIDENCE:]
        peaks = {
            phrase: max(weight, self.peaks.get(phrase, 0)) for phrase, weight in weights.items()
        }
        return Taste(weights, peaks, evidence)

    def likes(self, most: int) -> list[str]:
        """Return the phrases of highest weight, at most `most`, the highest first."""
        least = LIKED * max(self.weights.values(), default=0.0)
        ranked = sorted(self.weights, key=lambda phrase: (-self.weights[phrase], phrase))
        return [phrase for phrase in ranked if self.weights[phrase] >= least][:most]

    def earlier_likes(self, most: int) -> list[str]:
        """Return phrases that were liked in earlier blocks and have faded since."""
        least = LIKED * max(self.peaks.values(), default=0.0)
        ranked = sorted(self.peaks, key=lambda phrase: (-self.peaks[phrase], phrase))
        present = set(self.likes(len(ranked)))
        return [
            phrase
            for phrase in ranked
            if self.peaks[phrase] >= least
            and self.weights[phrase] < FADED * self.peaks[phrase]
            and phrase not in present
        ][:most]

    def profile(self, user_id: str | None, most: int) -> Profile:
        """Return the summary in words, with a fact and its items for each of its phrases.

        At most `most` phrases that are liked now, and half as many that were before.
        """
        likes, earlier = self.likes(most), self.earlier_likes(most // 2)
        text = f"likes {', '.join(likes)}" if likes else ""
        text += f"{EARLIER}{', '.join(earlier)}" if earlier else ""
        facts = [self._fact(phrase, "now") for phrase in likes]
        facts += [self._fact(phrase, "earlier") for phrase in earlier]
        return Profile(user_id, text, tuple(facts))

    def _fact(self, phrase: str, period: str) -> Fact:
        items = self.evidence[phrase][::-1]
        evidence = tuple(Evidence("item", item_id, 1 / len(items)) for item_id in items)
        details = {"period": period, "weight": round(self.weights[phrase], 4)}
        verb = "likes" if period == "now" else "liked"
        return Fact(f"{verb} {phrase}", evidence, details=details)
