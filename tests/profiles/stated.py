"""A proposer that reads a closed form, for tests: `likes tea`, `denies likes tea`, `bought tea`."""

import re
from dataclasses import dataclass

from tailor.profiles.propositions import INFERRED, STATED, Draft

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
