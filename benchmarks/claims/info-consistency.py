"""InfoConsistency in planted wordings: unseen wordings of 96 requests, in three worlds of films.

Eight wordings of each request are learned from, four others are asked. The rival is taught the good
films of every wording for as many steps; its lists are its best films, which is temperature 0.
Settings were chosen on world 5. Rewards of one kind alone are shown in the first world.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import SEEDS, seeded
from judged_lists import above

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.evaluation.consistency import Audit, wording_groups
from tailor.papers.reranking.info_consistency import InfoConsistency
from tailor.ports.base import Encoder
from tailor.retrieval.text_match import TextMatch
from tailor.text.sentences import SentenceEncoder
from tailor.worlds.wordings import WordingWorld, wording_world

K = 10
GAIN, MARGIN = 0.10, 0.01  # least gain of items in common, most loss of NDCG
MANNERS = 6  # of the consensus
ALONE = {"taught_epochs": 0, "help_share": 0.0, "closeness": 0.0, "lr": 5e-2}
REWARDED = InfoConsistency.epochs
TAUGHT = InfoConsistency.taught_epochs


@dataclass(frozen=True)
class Remembering(Encoder):
    """Encodes every text once: the methods are compared, not their encoding."""

    vectors: ClassVar[dict[str, np.ndarray]] = {}  # by text; no setting

    inner: Encoder

    @property
    def space(self) -> str:
        return self.inner.space

    def encode(self, texts):
        new = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        if new or not texts:
            self.vectors.update(zip(new, self.inner.encode(new), strict=True))
        if not texts:
            return self.inner.encode([])
        return np.array([self.vectors[text] for text in texts])


def measure(run: Run) -> Claim:
    """Learn in three worlds, and ask the requests in other words."""
    encoder = Remembering(SentenceEncoder().exact())
    rows = [in_world(wording_world(seed=seed), encoder, seeded(run, seed)) for seed in SEEDS]
    leads = [row["rewarded over taught"] for row in rows]
    checks = {
        f"items in common: {GAIN} above the taught policy, in every world": all(
            lead["items in common"]["difference"] >= GAIN and lead["items in common"]["low"] > 0
            for lead in leads
        ),
        f"NDCG@10: not {MARGIN} below the taught policy, in every world": all(
            lead["NDCG@10"]["low"] > -MARGIN for lead in leads
        ),
        "the entropy varies less between wordings than that of the taught policy": all(
            row["methods"]["rewarded"]["variance of the entropy"]
            < row["methods"]["taught"]["variance of the entropy"]
            for row in rows
        ),
    }
    return Claim(checks, {"worlds": rows}, list(SEEDS), ["planted wordings"])


def in_world(world: WordingWorld, encoder: Encoder, run: Run) -> dict:
    """Return figures of every method for unseen wordings of a world."""
    forms = {
        "untrained": {"taught_epochs": 0, "epochs": 0},
        "taught": {"taught_epochs": TAUGHT + REWARDED, "epochs": 0},
        "rewarded": {},
    }
    if run.seed == SEEDS[0]:
        forms |= {"helpfulness alone": {"help_share": 1.0}, "agreement alone": ALONE}
    methods = {
        name: InfoConsistency(encoder, **form).fit(world.data, run) for name, form in forms.items()
    }
    groups = wording_groups(world.unseen)
    audits = {name: Audit.of(method, groups, world.unseen, K) for name, method in methods.items()}
    voted = methods["taught"]._with_state()
    voted.consensus = MANNERS
    audits["taught, consensus of manners"] = Audit.of(voted, groups, world.unseen, K)
    words = TextMatch().fit(world.data, run)
    audits["words"] = Audit.of(words, groups, world.unseen, K)
    figures = {name: figures_of(audit) for name, audit in audits.items()}
    for name, method in methods.items():
        figures[name]["variance of the entropy"] = entropy_variance(method, audits[name])
    return {
        "seed": run.seed,
        "requests": len(groups),
        "films": len(world.data.catalogue),
        "methods": figures,
        "rewarded over taught": lead(audits["rewarded"], audits["taught"], run.seed),
    }


def figures_of(audit: Audit) -> dict[str, float | None]:
    """Return the figures of an audit by name."""
    return dict(zip(("requests", "wordings", *Audit.columns), audit.summary, strict=True))


def lead(a: Audit, b: Audit, seed: int) -> dict[str, dict[str, float]]:
    """Return by how much a is above b in agreement and NDCG, paired over requests."""
    shape = (len(a.groups), -1)
    means = [audit.ndcgs(audit.group_rows).reshape(shape).mean(axis=1) for audit in (a, b)]
    return {
        "items in common": above(a.agreements, b.agreements, seed),
        "NDCG@10": above(*means, seed),
    }


def entropy_variance(method: InfoConsistency, audit: Audit) -> float:
    """Return the mean over requests of the variance of the policy's entropy between wordings."""
    texts = [text for group in audit.groups for text in group.texts]
    log_probs = method._scores(Queries.of([Query(text=text) for text in texts]))
    entropies = -(np.exp(log_probs) * log_probs).sum(axis=1)  # nats
    return round(float(entropies.reshape(len(audit.groups), -1).var(axis=1).mean()), 5)
