"""Validate a net while it is trained, to stop early and keep the best weights."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from tailor.core.methods import Method, Recommender
from tailor.core.run import Run
from tailor.core.specs import identity
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import Split, inner_cut
from tailor.metrics.ranking import hits, ndcg, relevant_counts

OWN_TARGETS = 2_000  # users whose last event is held back where no validation part is given
VALID_USERS = 5_000  # users of a validation part that are asked about
REPEATS = 0.05  # share of repeated targets above which validation does not exclude seen items


@dataclass(frozen=True, eq=False)
class Validation:
    """Queries of up to VALID_USERS users and their held-out targets.

    Seen items are excluded, unless users of this data often return to items that they had.
    """

    split: Split
    """Split whose validation part the targets are."""
    learned: Dataset
    """Data that may be learned from: it holds none of the targets."""
    queries: Queries
    """One query per user."""
    targets: Ragged
    """Target rows of the queries' catalogue, per query."""

    @classmethod
    def of(cls, data: Dataset, run: Run, valid: Split | None) -> "Validation | None":
        """Return the validation of a split, or else of some users' last events.

        Returns None where no split is given and no user has three events.
        """
        split = valid or inner_cut(data, run.seed, OWN_TARGETS)
        if split is None:
            return None
        queries, targets = split.queries("valid")
        rows = np.sort(run.rng("validation").permutation(len(queries))[:VALID_USERS])
        queries, targets = queries.take(rows), targets.take(rows)
        history_counts = queries.histories.matrix(len(queries.catalogue))
        counts = history_counts[targets.row_ids, np.maximum(targets.values, 0)]
        repeat_share = (np.asarray(counts).ravel() > 0).mean()
        return cls(
            split,
            data if valid else split.train,
            queries if repeat_share > REPEATS else queries.without_history(),
            targets,
        )

    def value(self, method: Recommender) -> float:
        """Return the NDCG@10 of the method's present answers."""
        lists = method._recommend(self.queries, 10, None).reindexed(self.queries.catalogue)
        offsets, targets = self.targets.offsets, self.targets.values
        is_hit = hits(lists.rows, offsets, targets)
        return float(np.nanmean(ndcg(is_hit, relevant_counts(offsets, targets), 10)))


def cut_validation(
    data: Dataset, run: Run, valid: Split | None, needed: bool
) -> tuple[Validation | None, Dataset]:
    """Return the validation, and the data that may be learned from.

    Without a split, a validation is cut from `data` only if it is `needed` (for early stopping);
    None and the whole data otherwise.
    """
    validation = Validation.of(data, run, valid) if needed or valid is not None else None
    return validation, data if validation is None else validation.learned


def run_key(method: Method, data: Dataset, split: Split | None, run: Run) -> str:
    """Return a name that tells a training run from any other.

    It depends on the settings, the data, the split of the validation, and the seed.
    """
    parts = [identity(method), data.content_hash, None if split is None else split.hash, run.seed]
    return f"{method.name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"
