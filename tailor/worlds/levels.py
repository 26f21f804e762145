"""Make users with zones of tolerance: not satisfied below one level, fully above another."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

MINUTE_MS = 60_000
USES = ("mail", "music", "video", "games")
STARTS = (0.1, 0.2, 0.4, 0.5)  # mean level below which a use does not work
WIDTHS = (0.1, 0.2, 0.2, 0.3)  # from there to where more is no better


@dataclass(frozen=True, eq=False)
class Levels:
    """Users and levels of service, with the true zones, which no method may see.

    Levels take the amounts 1 to L of a resource; their column "amount". A user's column "use" is
    what the service is used for. U users, L levels.
    """

    user_ids: list[str]
    uses: list[str]
    level_ids: list[str]
    adequate: np.ndarray
    """(U,) share of the largest amount below which satisfaction is 0."""
    desired: np.ndarray
    """(U,) share from which it is 1."""
    noise: float

    def satisfaction(self) -> np.ndarray:
        """Return (U, L) true satisfaction, linear between the ends of the zone."""
        n = len(self.level_ids)
        shares = np.arange(1, n + 1) / n
        rise = (shares - self.adequate[:, None]) / (self.desired - self.adequate)[:, None]
        satisfaction: np.ndarray = np.clip(rise, 0, 1)
        return satisfaction

    def feedback(self, levels: np.ndarray, rng: np.random.Generator, step: int = 0) -> Dataset:
        """Return what users say to levels (U, R), as values from 0 to 1 with noise.

        `step` is the number of rounds before: events of later rounds are later.
        """
        users, rounds = levels.shape
        truth = np.take_along_axis(self.satisfaction(), levels, axis=1)
        values = np.clip(truth + rng.normal(0, self.noise, truth.shape), 0, 1)
        ids = np.array(self.level_ids)
        times = START_MS + MINUTE_MS * (step + np.arange(rounds))
        events = {
            "user_id": np.repeat(self.user_ids, rounds),
            "item_id": ids[levels.ravel()],
            "time_ms": np.tile(times, users),
            "value": values.ravel(),
        }
        amounts = np.arange(1, len(ids) + 1, dtype=float)
        tables = {
            "events": pl.DataFrame(events),
            "items": pl.DataFrame({"item_id": self.level_ids, "amount": amounts}),
            "users": pl.DataFrame({"user_id": self.user_ids, "use": self.uses}),
        }
        return Dataset(tables, "levels")


def levels(
    users: int = 200, levels: int = 10, deviation: float = 0.1, noise: float = 0.15, seed: int = 0
) -> Levels:
    """Make users of four uses; a zone is that of the use, moved for a user by a normal `deviation`.

    The same arguments give the same users. Raises DataError for sizes below 1 or a negative spread.
    """
    if min(users, levels) < 1 or deviation < 0 or noise < 0:
        raise DataError(
            f"users {users}, levels {levels}: at least 1 each; deviation {deviation}, noise"
            f" {noise}: at least 0"
        )
    rng = random_of(seed, "levels")
    uses = rng.integers(len(USES), size=users)
    adequate = np.clip(np.array(STARTS)[uses] + rng.normal(0, deviation, users), 0, 0.8)
    return Levels(
        user_ids=opaque_ids("u-", users, seed).to_list(),
        uses=[USES[use] for use in uses.tolist()],
        level_ids=[f"level-{level}" for level in range(1, levels + 1)],
        adequate=adequate,
        desired=adequate + np.array(WIDTHS)[uses],
        noise=noise,
    )
