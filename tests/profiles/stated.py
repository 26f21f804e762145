"""For tests of memories: a proposer that reads a closed form, messages, and a clock.

The form: `likes tea`, `denies likes tea`, `bought tea`.
"""

import re
from dataclasses import dataclass

from tailor.profiles.propositions import DAY_MS, INFERRED, STATED, Draft, Observation

NOW_MS = 1_700_000_000_000

FORM = re.compile(r"(denies )?(likes|lives in|works at|bought) (.+?)(?: \((at \w+)\))?$", re.DOTALL)
SLOTS = {"likes": "preference", "bought": "preference", "lives in": "fact", "works at": "fact"}


@dataclass(frozen=True)
class Stated:
    """Reads what is said in the closed form; other texts say nothing."""

    name: str = "stated@1"

    def propose(self, observations):
        drafts = []
        for observation in observations:
            match = FORM.match(observation.text)
            if observation.kind == "edit" or match is None:
                continue
            denial, verb, words, scope = match.groups()
            drafts.append(
                Draft(
                    observation.observation_id,
                    SLOTS[verb],
                    "likes" if verb == "bought" else verb,
                    words[:200],
                    -1 if denial else 1,
                    INFERRED if verb == "bought" else STATED,
                    observation.occurred_ms,
                    scope or "",
                    self.name,
                )
            )
        return drafts


class Clock:
    """A clock that tests set."""

    def __init__(self, now_ms=NOW_MS):
        self.now_ms = now_ms

    def __call__(self):
        return self.now_ms


def chat(text, days=0.0, **more):
    """A message of so many days before NOW_MS."""
    return Observation("chat", text, NOW_MS - int(days * DAY_MS), **more)
