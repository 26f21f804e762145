"""Lift of profiles: own ones help, another user's do not, empty ones change nothing."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.data.nouns import Profile
from tailor.data.splits import split_by
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.profiles.interaction_profile import InteractionProfile
from tailor.profiles.lift import Lift, Qualities, lift, qualities, swapped
from tailor.testing.data import tiny_data


@dataclass(eq=False)
class Reader(ScoringRecommender):
    """Recommends what the profile's words name."""

    items_: Vocabulary = field(init=False, repr=False)
    words_: list[str] = field(init=False, repr=False)

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue
        self.words_ = [kinds[0] for kinds in data.item_table["categories"]]

    def _scores(self, queries):
        noise = np.random.default_rng(0).random(len(self.items_)) * 0.1
        texts = [p.text if (p := queries.profile(i)) else "" for i in range(len(queries))]
        return np.array([[word in text for word in self.words_] + noise for text in texts])


SPLIT = split_by(tiny_data(), "last")
READER = Reader().fit(SPLIT.train, Run())
PROFILES = InteractionProfile().fit(SPLIT.train).profile(SPLIT.queries("test")[0])


def test_own_profiles_help_and_anothers_do_not():
    result = lift(PROFILES, READER, SPLIT)
    assert result.gain.low > 0 and result.over_swapped.low > 0 and result.passes_swap
    assert result.swapped.mean < result.gain.mean
    assert result.per_100_tokens == pytest.approx(result.gain.mean / result.tokens * 100)


def test_profiles_that_say_the_same_of_all_fail_the_swap():
    alike = [Profile(p.user_id, "kettle tent novel lamp") for p in PROFILES]
    result = lift(alike, READER, SPLIT)
    assert result.over_swapped.mean == 0 and not result.passes_swap
    empty = lift([Profile(p.user_id, notes=("none",)) for p in PROFILES], READER, SPLIT)
    assert empty.gain.mean == empty.swapped.mean == 0


def test_data_sets_are_taken_together_user_by_user():
    values = qualities(PROFILES, READER, SPLIT)
    assert Lift.of(values) == lift(PROFILES, READER, SPLIT)
    twice = Qualities(*(np.tile(column, 2) for column in values))
    assert Lift.of(twice).users == 2 * len(PROFILES)
    assert Lift.of(twice).gain.mean == Lift.of(values).gain.mean


def test_everybody_gets_anothers_profile_once():
    for n in (2, 3, 60):
        other = swapped(n, seed=n)
        assert sorted(other) == list(range(n)) and all(i != j for i, j in enumerate(other))


def test_wrong_input_is_named():
    with pytest.raises(DataError, match="profiles for 60 users"):
        lift(PROFILES[:2], READER, SPLIT)
