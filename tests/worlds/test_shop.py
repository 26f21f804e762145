"""The shop plants what its docstring says, and its truth is worth knowing."""

import re
import time
from functools import cache

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.splits import by_time, last_out
from tailor.errors import DataError
from tailor.worlds import words
from tailor.worlds.seeds import opaque_ids
from tailor.worlds.shop import shop
from tailor.worlds.shop_truth import DAY_MS, KINDS_N, NAMES, START_MS

CONSUMABLES = [kind.name for kind in words.KINDS if kind.cycle_days]


@cache
def made(**knobs):
    """Shops are used by several tests; nobody changes them."""
    return shop(**{"users": 1_200, "items": 400, **knobs})


def views(world):
    return world.data.events.filter(action="view")


def joined(world, action="view"):
    """Events of an action with their item's columns and kind."""
    items = world.data.tables["items"].with_columns(
        category=pl.col("categories").list[0], kind=pl.col("categories").list[1]
    )
    return world.data.events.filter(action=action).join(items, on="item_id", maintain_order="left")


def attribute(world, group):
    return [column for column, name in enumerate(NAMES) if name.startswith(f"{group}: ")]


# The same, and opaque


def test_same_arguments_same_data_another_seed_other_data():
    one, again, other = shop(80, 60, 30, seed=3), shop(80, 60, 30, seed=3), shop(80, 60, 30, seed=4)
    assert one.data.content_hash == again.data.content_hash
    assert one.data.content_hash != other.data.content_hash
    assert np.array_equal(one.truth.users.start, again.truth.users.start)


def test_a_knob_of_the_texts_leaves_the_events_as_they_are():
    one, other = shop(80, 60, 30, reviews=0.0), shop(80, 60, 30, reviews=1.0)
    assert one.data.events.equals(other.data.events)
    assert one.data.tables["items"].equals(other.data.tables["items"])


def test_saved_and_opened_it_is_the_same(tmp_path):
    data = shop(60, 60, 30).data
    data.save(tmp_path / "shop")
    opened = Dataset.open(tmp_path / "shop")
    assert Dataset(opened.tables).content_hash == data.content_hash


@pytest.mark.parametrize("n", [1, 5, 1_000, 65_536, 200_000])
def test_opaque_ids_are_distinct_and_scattered(n):
    ids = opaque_ids("u-", n, seed=1)
    assert ids.n_unique() == n
    assert ids.str.contains(r"^u-[0-9a-f]{4,}$").all()
    if n > 1_000:
        assert abs(spearmanr(np.arange(n), ids.rank().to_numpy())[0]) < 0.02
        assert ids.head(100).str.slice(2, 1).n_unique() > 10


@pytest.mark.parametrize("column", ["item_id", "user_id"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_ids_tells_neither_popularity_nor_time(column, seed):
    seen = (
        made(seed=seed)
        .data.events.group_by(column)
        .agg(n=pl.len(), first=pl.col("time_ms").min())
        .sort(column)
    )
    limit = 3.3 / np.sqrt(len(seen))  # about one in a thousand by chance
    for what in ("n", "first"):
        assert abs(spearmanr(np.arange(len(seen)), seen[what].to_numpy())[0]) < limit
    table = made(seed=seed).data.tables[column.removesuffix("_id") + "s"]
    assert table[column].is_sorted()


def test_the_order_of_event_and_session_ids_tells_no_time():
    events = made().data.events
    for column in ("event_id", "session_id"):
        first = (
            events.group_by(column).agg(pl.col("time_ms").min()).sort(column)["time_ms"].to_numpy()
        )
        assert abs(spearmanr(np.arange(len(first)), first)[0]) < 0.04
    assert events["event_id"].n_unique() == len(events)
    assert made().data.tables["texts"]["text_id"].is_unique().all()


# What every log must be


def test_tables_agree_with_each_other():
    world = made()
    tables = world.data.tables
    assert len(tables["items"]) == 400
    assert len(tables["users"]) == 1_200
    assert set(world.truth.item_ids) == set(tables["items"]["item_id"])
    # everybody came once
    assert (
        set(world.data.events["user_id"])
        == set(tables["users"]["user_id"])
        == set(world.truth.user_ids)
    )
    assert world.data.where("buy").sum() == (world.data.events["action"] == "buy").sum() > 0
    assert world.data.where("view").sum() == len(views(world))
    assert tables["items"]["title"].n_unique() > 390


def test_times_lie_within_the_period_and_grow_within_a_session():
    world = made()
    events = world.data.events
    assert START_MS <= events["time_ms"].min() <= events["time_ms"].max() < world.truth.end_ms
    steps = events.group_by("session_id").agg(
        pl.col("time_ms").diff().drop_nulls().min(), pl.col("user_id").n_unique()
    )
    assert steps["time_ms"].drop_nulls().min() > 0
    assert steps["user_id"].max() == 1
    joined_ms = events.join(world.data.tables["users"], on="user_id")
    assert (joined_ms["time_ms"] >= joined_ms["joined_ms"]).all()


def test_nothing_is_seen_before_it_is_on_sale():
    events = joined(made())
    assert (events["time_ms"] >= events["created_ms"]).all()
    assert (made().data.tables["items"]["created_ms"] > START_MS).mean() == pytest.approx(
        0.3 * (1 - KINDS_N / 400), abs=0.06
    )
    late = events.filter(pl.col("created_ms") > START_MS)["item_id"].n_unique()
    assert late > 50  # and launches are seen afterwards
    none = made(launches=0.0).data.tables["items"]
    assert (none["created_ms"] < START_MS).all()


def test_buys_have_a_price_and_follow_a_cart_which_follows_a_view():
    world = made()
    events = world.data.events
    assert (world.data.tables["items"]["price"] > 0).all()
    buys = joined(world, "buy")
    assert (
        (buys["value"] > 0)
        & (buys["value"] <= buys["price"])
        & (buys["value"] >= 0.79 * buys["price"])
    ).all()
    assert events.filter(pl.col("action") != "buy")["value"].is_null().all()
    first = events.group_by("session_id", "item_id").agg(
        *(
            pl.col("time_ms").filter(pl.col("action") == action).min().alias(action)
            for action in ("view", "cart", "buy")
        )
    )
    assert first["view"].null_count() == 0
    assert (first["cart"] > first["view"]).drop_nulls().all()
    assert (first["buy"] > first["cart"]).fill_null(first["buy"].is_null()).all()
    assert events.filter(action="buy").select("session_id", "item_id").is_duplicated().sum() == 0


def test_activity_has_a_heavy_tail_and_the_mean_asked_for():
    counts = (
        made(repeat=0.0)
        .data.events.group_by("user_id")
        .agg(pl.col("session_id").n_unique())["session_id"]
    )
    assert counts.mean() == pytest.approx(9, rel=0.12)
    assert counts.top_k(60).sum() > 0.2 * counts.sum()  # 5 in 100 users make a fifth of the visits


# The knobs


def test_taste_is_what_people_differ_in():
    def own_share(world):
        """How much more often two views of a user are of one category than two views of anybody."""
        seen = (
            joined(world)
            .group_by("user_id", "category")
            .len()
            .pivot("category", index="user_id", values="len")
            .fill_null(0)
        )
        counts = seen.drop("user_id").to_numpy()
        n, everybody = counts.sum(1), counts.sum(0) / counts.sum()
        return ((counts * (counts - 1)).sum() / (n * (n - 1)).sum()) / (everybody**2).sum()

    assert own_share(made(sequence=0.0, repeat=0.0)) > 2
    assert own_share(
        made(sequence=0.0, repeat=0.0, taste=0.0, drift=0.0, season=0.0)
    ) == pytest.approx(1, abs=0.05)


def test_users_of_a_country_have_a_little_in_common():
    world = made()
    unit = world.truth.users.start / np.linalg.norm(world.truth.users.start, axis=1, keepdims=True)
    alike = unit @ unit.T
    same = world.truth.users.country[:, None] == world.truth.users.country
    off = ~np.eye(len(unit), dtype=bool)
    assert 0.01 < alike[same & off].mean() - alike[~same].mean() < 0.25
    told = world.data.tables["users"].group_by("country").len()
    assert len(told) == 6


def test_drift_turns_tastes_away():
    def kept(world):
        """How much of a first day's taste for what is looked at is left in the last third, as a
        share of the first third's.
        """
        people, events = world.truth, views(world)
        users, times = people.user_ids.tolist(), events["time_ms"].to_numpy()
        first = people.tastes(users, START_MS)[:, attribute(world, "category")]
        category = people.attributes[:, attribute(world, "category")].argmax(axis=1)
        rows = (
            people._user_rows.codes(events["user_id"]),
            category[people._item_rows.codes(events["item_id"])],
        )
        felt = first[rows] - first[rows[0]].mean(axis=1)
        third = people.days * DAY_MS / 3
        return felt[times >= people.end_ms - third].mean() / felt[times < START_MS + third].mean()

    plain = {"season": 0.0, "sequence": 0.0, "repeat": 0.0}
    assert kept(made(drift=0.0, **plain)) == pytest.approx(1, abs=0.08)
    assert kept(made(drift=1.0, **plain)) < 0.6
    ids, truth = made(drift=0.0, **plain).truth.user_ids.tolist(), made(drift=0.0, **plain).truth
    assert np.array_equal(truth.tastes(ids, START_MS), truth.tastes(ids))
    start, end = (made(drift=0.5).truth.tastes(ids, time) for time in (START_MS, None))
    alike = (start * end).sum(1) / np.linalg.norm(start, axis=1) / np.linalg.norm(end, axis=1)
    assert 0.6 < alike.mean() < 0.9
    assert np.linalg.norm(end) == pytest.approx(np.linalg.norm(start), rel=0.15)


def test_season_sells_skis_in_winter_and_paddles_in_summer():
    def winter_share(world, category):
        events = joined(world).filter(category=category)
        day = (events["time_ms"].to_numpy() - START_MS) // DAY_MS % 365
        # winter over summer
        return (np.minimum(day, 365 - day) < 60).mean() / (np.abs(day - 182) < 60).mean()

    plain = {"days": 365, "drift": 0.0, "repeat": 0.0, "sequence": 0.0}
    seasonal, even = made(**plain), made(season=0.0, **plain)
    # below 1 in a world without seasons, as users join over the year
    usual = winter_share(even, "running")
    assert winter_share(seasonal, "skiing") > 4 * usual
    assert winter_share(seasonal, "water sports") < usual / 2
    for category in ("skiing", "water sports"):
        assert winter_share(even, category) == pytest.approx(usual, rel=0.25)


def test_consumables_are_bought_again_after_their_cycle():
    def again(world):
        """Share of consumables bought in the first half that their buyer buys again, and the middle
        of the gaps in cycles.
        """
        buys = (
            joined(world, "buy")
            .filter(pl.col("kind").is_in(CONSUMABLES))
            .sort("time_ms", maintain_order=True)
        )
        gap = (pl.col("time_ms").shift(-1) - pl.col("time_ms")).over("user_id", "item_id") / DAY_MS
        buys = buys.with_columns(gap=gap).filter(pl.col("time_ms") < START_MS + 90 * DAY_MS)
        cycle = buys["kind"].replace_strict(
            {kind.name: kind.cycle_days for kind in words.KINDS}, return_dtype=pl.Float64
        )
        return buys["gap"].is_not_null().mean(), (buys["gap"] / cycle).median()

    share, gap = again(made())
    assert share == pytest.approx(0.65, abs=0.1)
    assert gap == pytest.approx(1, abs=0.1)
    assert again(made(repeat=0.0))[0] < 0.2
    lasting = (
        joined(made(), "buy")
        .filter(~pl.col("kind").is_in(CONSUMABLES))
        .select("user_id", "item_id")
    )
    assert not lasting.is_duplicated().any()  # nobody buys the same tent twice


def test_fame_moves_views_only_through_popularity_bias():
    def with_fame(world):
        seen = np.bincount(world.truth._item_rows.codes(views(world)["item_id"]), minlength=400)
        before = world.truth.catalogue.created_ms < START_MS
        return (
            np.corrcoef(np.log(world.truth.catalogue.fame[before]), np.log1p(seen[before]))[0, 1],
            np.sort(seen)[-40:].sum() / seen.sum(),
        )

    biased, plain = with_fame(made()), with_fame(made(popularity_bias=0.0))
    assert biased[0] > 0.45
    assert abs(plain[0]) < 0.15
    assert biased[1] > plain[1] + 0.04  # the head holds more


def test_sessions_hang_together():
    def steps(world):
        events = joined(world).sort("session_id", "time_ms")
        same = {group: pl.col(group) == pl.col(group).shift(1) for group in ("kind", "brand")}
        within = pl.col("session_id") == pl.col("session_id").shift(1)
        match = {(kind.name, other) for kind in words.KINDS for other in kind.goes_with}
        out = events.with_columns(
            before=pl.col("kind").shift(1),
            within=within,
            **{f"same_{k}": v for k, v in same.items()},
        ).filter("within")
        matching = np.mean([pair in match for pair in zip(out["before"], out["kind"])])
        return out["same_kind"].mean(), matching, out.filter("same_kind")["same_brand"].mean()

    together, apart = steps(made()), steps(made(sequence=0.0))
    assert together[0] > 0.5 > apart[0] + 0.2
    assert together[1] > 0.25 > apart[1] + 0.1
    assert together[2] > 1.3 * apart[2]


def test_people_who_mind_the_price_look_at_cheaper_things():
    def level(world):
        rows = world.truth._item_rows.codes(views(world)["item_id"])
        return (
            world.truth.catalogue.price_level[rows].mean()
            - world.truth.catalogue.price_level.mean()
        )

    assert level(made()) < level(made(price=0.0)) - 0.1
    world = made()
    rows = (
        world.truth._user_rows.codes(views(world)["user_id"]),
        world.truth._item_rows.codes(views(world)["item_id"]),
    )
    assert (
        np.corrcoef(
            world.truth.users.price_sensitivity[rows[0]],
            world.truth.catalogue.price_level[rows[1]],
        )[0, 1]
        < -0.1
    )


def test_noise_and_slate_blur_or_sharpen_choices():
    def chosen(world):
        sample = views(world).sample(2_000, seed=1)
        worth = world.truth.utilities(
            sample["user_id"].to_list(), time_ms=sample["time_ms"].to_numpy()
        )
        return (
            worth
            < np.take_along_axis(
                worth, world.truth._item_rows.codes(sample["item_id"])[:, None], axis=1
            )
        ).mean()

    assert chosen(made(noise=0.0)) > chosen(made()) + 0.01 > chosen(made(noise=5.0)) + 0.02
    assert chosen(made(slate=40)) > chosen(made()) > chosen(made(slate=1)) + 0.02


# Texts


def mentions(text):
    """(attribute, liked) for every brand, colour, material and style that a text names; the
    sentence's words say how it is felt.
    """
    for sentence in re.split(r"(?<=[.!?]) ", text):
        liked = not set(re.findall(r"\w+", sentence.lower())) & set(words.NEGATIONS)
        for group in words.GROUPS:
            for column in (name for name in NAMES if name.startswith(f"{group}: ")):
                if re.search(rf"\b{re.escape(column.split(': ')[1])}\b", sentence, re.IGNORECASE):
                    yield column, liked


def test_reviews_say_what_their_writers_like():
    world = made()
    reviews = world.data.tables["texts"].filter(kind="review").sample(300, seed=1)
    tastes = world.truth.tastes(reviews["user_id"].to_list(), reviews["time_ms"].to_numpy())
    column_of = {name: column for column, name in enumerate(NAMES)}
    felt = [
        (tastes[row, column_of[name]], liked)
        for row, text in enumerate(reviews["text"])
        for name, liked in mentions(text)
    ]
    likes, dislikes = (
        np.array([taste for taste, liked in felt if liked == which]) for which in (True, False)
    )
    assert len(likes) > 300
    assert len(dislikes) > 30
    assert (likes > 0).mean() > 0.97
    assert (dislikes < 0).mean() > 0.97
    assert likes.mean() > tastes.std()


def test_reviews_follow_their_buy_are_rated_and_mostly_distinct():
    world = made()
    reviews = world.data.tables["texts"].filter(kind="review")
    assert reviews["text"].n_unique() > 0.97 * len(reviews)
    first = (
        world.data.events.filter(action="buy")
        .group_by("user_id", "item_id")
        .agg(bought=pl.col("time_ms").min())
    )
    both = reviews.join(first, on=["user_id", "item_id"], how="left")
    assert (both["time_ms"] >= both["bought"] + DAY_MS).all()
    assert reviews["time_ms"].max() < world.truth.end_ms
    assert set(reviews["rating"]) == {1, 2, 3, 4, 5}
    worth = np.diag(
        world.truth.utilities(
            reviews["user_id"].to_list(),
            reviews["item_id"].to_list(),
            reviews["time_ms"].to_numpy(),
        )
    )
    assert spearmanr(worth, reviews["rating"].to_numpy())[0] > 0.3


def test_searches_name_what_is_looked_at_first():
    world = made()
    queries = world.data.tables["texts"].filter(kind="query")
    assert queries["item_id"].is_null().all()
    first = (
        joined(world)
        .group_by("session_id", maintain_order=True)
        .first()
        .sort("time_ms")
        .select("user_id", "time_ms", "kind")
    )
    both = (
        queries.select("user_id", "time_ms", "text")
        .sort("time_ms")
        .join_asof(
            first.rename({"kind": "wanted"}),
            on="time_ms",
            by="user_id",
            strategy="forward",
            check_sortedness=False,
        )
    )
    assert np.mean([wanted in text for wanted, text in zip(both["wanted"], both["text"])]) > 0.99
    assert len(queries) == pytest.approx(0.2 * world.data.events["session_id"].n_unique(), rel=0.1)


def test_no_texts_where_none_are_asked_for():
    assert len(shop(60, 60, 30, reviews=0.0, searches=0.0).data.tables["texts"]) == 0


def test_titles_and_descriptions_hold_the_item_s_traits():
    for item in made().data.tables["items"].sample(50, seed=1).iter_rows(named=True):
        for said in (item["title"].lower(), item["text"].lower()):
            assert all(item[group].lower() in said for group in words.GROUPS)
            assert item["categories"][1] in said


def test_the_words_are_sound():
    names = [kind.name for kind in words.KINDS]
    assert len(set(names)) == len(names) == KINDS_N
    assert all(other in names for kind in words.KINDS for other in kind.goes_with)
    values = [name.split(": ")[1].lower() for name in NAMES if name.split(": ")[0] in words.GROUPS]
    assert len(set(values)) == len(values)
    said = [s for kind in (words.LIKES, words.WISHES) for options in kind.values() for s in options]
    said += [
        *words.OPENERS,
        *words.WHERE,
        *words.WHEN,
        *words.CHEAP,
        *words.DEAR,
        *(s for options in words.VERDICTS.values() for s in options),
    ]
    assert not [s for s in said if set(re.findall(r"\w+", s.lower())) & set(words.NEGATIONS)]
    unsaid = [s for options in words.DISLIKES.values() for s in options]
    assert all(set(re.findall(r"\w+", s.lower())) & set(words.NEGATIONS) for s in unsaid)


# The truth


def test_utilities_add_up_and_best_follows_them():
    truth = made().truth
    users, time = truth.user_ids[:5].tolist(), START_MS + 40 * DAY_MS
    worth = truth.utilities(users, time_ms=time)
    assert worth.shape == (5, 400)
    assert worth.dtype == np.float32
    item, user = 7, 3
    people, made_ = truth.users, truth.catalogue
    by_hand = (
        truth.tastes([users[user]], time)[0] @ truth.attributes[item]
        - people.price_sensitivity[user] * made_.price_level[item]
    )
    by_hand += made_.quality[item] + truth.kinds_now(np.array([time]))[0, made_.kind[item]]
    assert worth[user, item] == pytest.approx(by_hand, abs=1e-4)
    some = truth.item_ids[[9, 2]].tolist()
    assert np.allclose(truth.utilities(users, some, time), worth[:, [9, 2]], atol=1e-4)
    assert np.allclose(
        truth.utilities(users[:2], time_ms=np.array([time, truth.end_ms]))[0], worth[0], atol=1e-4
    )
    best = truth.best(users[0], 10, time)
    on_sale = made_.created_ms <= time
    assert len(best) == 10
    assert set(best) == set(truth.item_ids[on_sale][np.argsort(-worth[0][on_sale])[:10]])
    assert len(truth.best(users[0], 10_000, time)) == on_sale.sum() < 400
    assert truth.attributes.sum(axis=1).tolist() == [6.0] * 400


def word_matrix(texts):
    """(texts, words) sparse, each word by the logarithm of its rarity."""
    said = [set(re.findall(r"\w+", text.lower())) for text in texts]
    column = {word: number for number, word in enumerate(sorted(set().union(*said)))}
    rows = Ragged.of([sorted(column[word] for word in one) for one in said]).matrix(len(column))
    return rows @ sp.diags(np.log(len(said) / np.asarray(rows.sum(axis=0)).ravel()))


def hit_rates(split, world, k=10):
    """HR@k on a split's test, seen items left in: popularity, co-visits of the last item,
    neighbours and title words of the history, truth.
    """
    queries, targets = split.queries("test")
    train, catalogue = split.train_valid.sequences.rows, split.data.catalogue
    popular = np.bincount(train.values, minlength=len(catalogue))
    together = np.zeros((len(catalogue), len(catalogue)))
    for step in range(1, 4):
        same = train.row_ids[step:] == train.row_ids[:-step]
        np.add.at(together, (train.values[:-step][same], train.values[step:][same]), 1 / step)
    last = [
        queries.histories[row][-1] if len(queries.histories[row]) else -1
        for row in range(len(queries))
    ]
    users, history = train.matrix(len(catalogue)), queries.histories.matrix(len(catalogue))
    titles = word_matrix(split.data.item_table["title"])
    scores = {
        "popular": np.tile(popular, (len(queries), 1)),
        # who has no history gets what is popular
        "covisits": np.vstack([together / np.sqrt(1 + popular), popular])[last],
        "neighbours": (history @ (users.T @ users)).toarray() / np.sqrt(1 + popular),
        "titles": (history @ (titles @ titles.T)).toarray(),
        "truth": world.truth.utilities(
            list(queries.user_ids), catalogue.ids.tolist(), queries.now_ms
        ),
    }
    hot = targets.matrix(len(catalogue)).toarray() > 0
    best = {name: np.argpartition(-worth, k, axis=1)[:, :k] for name, worth in scores.items()}
    return {
        name: np.take_along_axis(hot, rows, axis=1).any(axis=1).mean()
        for name, rows in best.items()
    }


def only_views(world):
    """Carts and buys repeat the item just viewed: leaving them in would make "the same again" the
    best answer.
    """
    return world.data.cut(world.data.where("view"))


@pytest.mark.parametrize("seed", [0, 1])
def test_everything_planted_beats_popularity_at_the_last_view(seed):
    world = shop(2_000, 600, seed=seed, reviews=0.0)
    rates = hit_rates(last_out(only_views(world)), world)
    assert rates["truth"] > 1.6 * rates["popular"]
    assert rates["covisits"] > 2.5 * rates["popular"]
    assert rates["neighbours"] > 1.6 * rates["popular"]
    assert rates["titles"] > 1.3 * rates["popular"]


def test_truth_and_neighbours_beat_popularity_after_a_cut_in_time():
    rates = hit_rates(by_time(only_views(made())), made())
    assert rates["truth"] > 1.4 * rates["popular"]
    assert rates["neighbours"] > 1.2 * rates["popular"]


def test_what_is_bought_is_nearer_the_truth_than_what_is_seen():
    world = made()

    def worth(action):
        events = world.data.events.filter(action=action).sample(
            1_500, seed=1, with_replacement=True
        )
        scores = world.truth.utilities(
            events["user_id"].to_list(), time_ms=events["time_ms"].to_numpy()
        )
        return np.take_along_axis(
            scores, world.truth._item_rows.codes(events["item_id"])[:, None], axis=1
        ).mean()

    assert worth("buy") > worth("view") + 0.5


# Edges


@pytest.mark.parametrize(
    ("users", "items", "days"), [(1, 1, 1), (3, 7, 2), (5, 49, 400), (40, 51, 10)]
)
def test_tiny_shops_are_shops(users, items, days):
    world = shop(users, items, days, reviews=1.0, searches=1.0)
    assert len(world.data.events) >= users
    assert len(world.data.catalogue) == items
    assert len(world.truth.best(world.truth.user_ids[0], 3)) == min(
        3, (world.truth.catalogue.created_ms <= world.truth.end_ms).sum()
    )


@pytest.mark.parametrize(
    "knob",
    [
        {"users": 0},
        {"items": 0},
        {"days": 0},
        {"slate": 0},
        {"repeat": 1.5},
        {"reviews": -0.1},
        {"drift": -1.0},
        {"noise": float("nan")},
        {"taste": float("inf")},
    ],
)
def test_a_knob_out_of_range_is_named(knob):
    with pytest.raises(DataError, match=next(iter(knob))):
        shop(**{"users": 5, "items": 5, "days": 5, **knob})


def test_unknown_ids_are_named():
    truth = made().truth
    with pytest.raises(DataError, match='no user "nobody"'):
        truth.tastes(["nobody"])
    with pytest.raises(DataError, match='no item "nothing"'):
        truth.utilities([truth.user_ids[0]], ["nothing"])


def test_progress_sees_the_steps():
    seen = []

    def count(steps, what, total=None):
        seen.append((what, total))
        yield from steps

    assert shop(60, 60, 60, progress=count).data.content_hash == shop(60, 60, 60).data.content_hash
    assert seen


def test_the_work_grows_with_the_users_and_no_faster():
    def work(users: int) -> float:
        started = time.process_time()
        shop(users, 600)
        return time.process_time() - started

    small = work(300)
    assert work(6_000) < 100 * small  # at most 20 where linear, 400 where quadratic
