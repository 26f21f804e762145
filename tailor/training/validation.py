"""What a net is asked while it learns, so that it stops in time and keeps its best weights."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from tailor.core.methods import Method, Recommender
from tailor.core.run import Run
from tailor.core.specs import spec
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import Split, inner_cut
from tailor.metrics.ranking import hits, ndcg, relevant_counts

OWN_TARGETS = 2_000  # users whose last event says when to stop, where no validation part is given
VALID_USERS = 5_000  # of a validation part that are asked
REPEATS = 0.05  # share of targets had before, above which validation keeps what was seen


@dataclass(frozen=True, eq=False)
class Validation:
    """Queries of up to VALID_USERS people and their targets; what they have seen is excluded unless
    people come back to what they have seen.
    """

    split: Split
    learned: Dataset
    """What may be learned from: nothing of the targets."""
    queries: Queries
    targets: Ragged
    """Rows of the queries' catalogue."""

    @classmethod
    def of(cls, data: Dataset, run: Run, valid: Split | None) -> "Validation | None":
        """Of the validation part given, else of the last events of some users of `data`; None where
        nobody has three.
        """
        split = valid or inner_cut(data, run.seed, OWN_TARGETS)
        if split is None:
            return None
        queries, targets = split.queries("valid")
        some = np.sort(run.rng("validation").permutation(len(queries))[:VALID_USERS])
        queries, targets = queries.take(some), targets.take(some)
        own = queries.histories.matrix(len(queries.catalogue))
        repeats = np.asarray(own[targets.row_ids, np.maximum(targets.values, 0)]).ravel() > 0
        return cls(
            split,
            data if valid else split.train,
            queries if repeats.mean() > REPEATS else queries.without_history(),
            targets,
        )

    def ndcg(self, method: Recommender) -> float:
        """NDCG@10 of what the method answers now."""
        lists = method._recommend(self.queries, 10, None).reindexed(self.queries.catalogue)
        found = hits(lists.rows, self.targets.offsets, self.targets.values)
        return float(
            np.nanmean(ndcg(found, relevant_counts(self.targets.offsets, self.targets.values), 10))
        )


def training_key(method: Method, data: Dataset, validation: Validation | None, run: Run) -> str:
    """A name for a training run that tells it from any other: of settings, data, validation and
    seed.
    """
    return run_key(method, data, None if validation is None else validation.split, run)


def run_key(method: Method, data: Dataset, split: Split | None, run: Run) -> str:
    """The same, for who is judged on the split's validation part by other means than `Validation`."""
    identity = [spec(method), data.content_hash, None if split is None else split.hash, run.seed]
    return f"{method.name}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"
