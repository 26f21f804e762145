"""What `tailor data check` finds: planted one by one, and in the real sets."""

import numpy as np
import polars as pl
import pytest

from tailor.data.checks import check
from tailor.data.dataset import Dataset
from tailor.testing.data import tiny_data

NOW = 1_600_000_000_000
DAY = 86_400_000


def log(n: int = 60, seed: int = 0, **columns) -> dict:
    """Events of ten users over thirty days, ids in an order that means nothing."""
    draw = np.random.default_rng(seed)
    frame = {
        "user_id": [f"u{one}" for one in draw.integers(0, 10, n)],
        "item_id": [f"i{one}" for one in draw.permutation(n) % 25],
        "time_ms": (NOW + draw.permutation(n) * DAY // 2).tolist(),
    }
    return frame | columns


def found(events: dict | None = None, **tables) -> dict:
    given = {"events": events if events is not None else log(), **tables}
    data = Dataset(
        {name: pl.DataFrame(columns) for name, columns in given.items() if columns is not None}
    )
    findings = check(data)
    for one in findings:
        assert one.count > 0 and one.says and one.remedy and len(one.examples) <= 3
        assert one.to_dict()["name"] == one.name
    assert [one.wrong for one in findings] == sorted((one.wrong for one in findings), reverse=True)
    return {one.name: one for one in findings}


def test_nothing_to_say_about_an_ordinary_log():
    assert set(found()) <= {"one_event_users"}


def test_duplicates():
    events = log()
    doubled = {name: values + values[:2] for name, values in events.items()}
    finding = found(doubled)["exact_duplicates"]
    assert (finding.count, finding.wrong) == (2, False)
    assert finding.examples[0]["user_id"] in events["user_id"]


def test_users_of_one_event_and_of_very_many():
    n = 10_001
    events = {
        "user_id": ["busy"] * n + ["once"],
        "item_id": [f"i{k % 9}" for k in range(n + 1)],
        "time_ms": [NOW + k * 1000 for k in range(n + 1)],
    }
    findings = found(events)
    assert findings["one_event_users"].examples == ["once"]
    assert findings["busy_users"].examples == ["busy: 10,001 events"]
    alone = found({name: values[:100] for name, values in events.items()})["one_user"]
    assert alone.wrong and alone.count == 100


def test_items_never_seen_and_items_nobody_knows():
    findings = found(items={"item_id": ["i1", "never"], "title": ["x", "y"]})
    assert findings["items_never_seen"].examples == ["never"]
    assert findings["unknown_ids"].wrong is False
    assert found(items={"item_id": ["x1"]})["unknown_ids"].wrong  # no id in common


@pytest.mark.parametrize(
    ("times", "name"),
    [
        ((NOW // 1000 + np.arange(60)), "times_too_small"),
        (NOW * 1000 + np.arange(60), "times_too_large"),
    ],
)
def test_seconds_and_milliseconds_taken_for_each_other(times, name):
    finding = found(log(time_ms=times.tolist()))[name]
    assert finding.wrong and finding.count == 60 and "--time-unit" in finding.remedy


def test_some_absurd_times():
    events = log()
    events["time_ms"][3] = 12
    assert found(events)["absurd_times"].count == 1


def test_gaps():
    days = np.r_[np.arange(40), np.arange(100, 140)]
    finding = found(log(80, time_ms=(NOW + days * DAY).tolist()))["gaps"]
    assert (finding.count, finding.examples) == (1, ["2020-10-22 to 2020-12-22"])
    assert "gaps" not in found(log(80, time_ms=(NOW + np.arange(80) * DAY).tolist()))


def test_ids_that_went_through_floats():
    events = log(user_id=[f"{n % 5}.0" for n in range(60)])
    odd = found(events)["ids_like_floats"]
    assert (odd.count, odd.wrong) == (5, False)
    wrong = found(events, users={"user_id": ["0", "1", "2", "3", "4"]})
    assert wrong["ids_like_floats"].wrong and wrong["ids_like_floats"].count == 5
    assert wrong["unknown_ids"].wrong


def test_ties():
    events = {
        "user_id": ["u", "u", "v", "v"],
        "item_id": list("abca"),
        "time_ms": [NOW, NOW, NOW, NOW + 1],
    }
    finding = found(events)["tied_times"]
    assert (
        finding.count == 2 and finding.examples == ["u"] and "50.0% of the targets" in finding.says
    )


def test_ids_that_differ_by_case_or_blanks():
    finding = found(log(item_id=["A1", "a1", " a1"] * 20))["ids_alike"]
    assert finding.count == 1 and sorted(finding.examples[0]) == [" a1", "A1", "a1"]


def test_entities_and_long_texts():
    items = {
        "item_id": ["i1", "i2", "i3"],
        "title": ["Salt &amp; pepper", "AT&T; no", "caf&#233;"],
        "text": [None, "x" * 100_001, "y"],
    }
    findings = found(items=items)
    assert findings["html_entities"].count == 2
    assert (
        findings["long_texts"].count == 1 and len(findings["long_texts"].examples[0]["text"]) == 80
    )


def test_leakage_between_tables():
    last = max(log()["time_ms"])
    findings = found(
        texts={"user_id": ["u1", "u1"], "text": ["x", "y"], "time_ms": [last, last + 1]},
        items={
            "item_id": ["i1", "i2"],
            "created_ms": [NOW - 1, last],
            "rating_count": [3, 4],
            "average_rating": [1.0, 2.0],
            "count": [1, 2],
        },
    )
    assert findings["dated_after_events"].count == 1
    assert findings["events_before_creation"].examples[0]["item_id"] == "i2"
    data = Dataset(
        {
            "events": pl.DataFrame(log()),
            "items": pl.DataFrame(
                {"item_id": ["i1"], "RatingCount": [3], "n_views": [1], "views_total": [1]}
            ),
        }
    )
    assert [one.says.split('"')[1] for one in check(data) if one.name == "item_counters"] == [
        "RatingCount",
        "n_views",
    ]


def test_judgements_without_documents_and_wrong_propensities():
    findings = found(
        None,
        judgements={"query_id": ["q"], "item_id": ["d"], "grade": [1.0]},
        requests={"request_id": ["other"]},
        impressions={
            "request_id": ["other"],
            "position": [1],
            "item_id": ["d"],
            "propensity": [1.5],
        },
    )
    assert findings["unknown_ids"].table == "judgements" and not findings["unknown_ids"].wrong
    assert findings["propensities"].wrong


# ---- the order of ids


def planted(numbered: bool, seed: int = 0) -> dict:
    """People who walk along a ring of 300 items; ids by first appearance in the log, or by chance."""
    draw = np.random.default_rng(seed)
    walks = [(draw.integers(300) + np.cumsum(draw.integers(1, 4, 8))) % 300 for _ in range(200)]
    flat = np.concatenate(walks)
    names = (
        {one: n for n, one in enumerate(dict.fromkeys(flat.tolist()))}
        if numbered
        else dict(enumerate(draw.permutation(300).tolist()))
    )
    return {
        "user_id": [f"u{n}" for n in range(200) for _ in range(8)],
        "item_id": [str(names[one]) for one in flat.tolist()],
        "time_ms": list(range(NOW, NOW + 1600 * 1000, 1000)),
    }


def test_ids_numbered_by_first_appearance_are_found_and_random_ones_are_not():
    finding = found(planted(True))["id_order"]
    assert (
        finding.wrong
        and "rank correlation of item ids with their first event +1.00" in finding.says
    )
    assert "id_order" not in found(planted(False))


def test_the_probe_by_hand():
    events = {
        "user_id": [f"u{n // 3}" for n in range(30)],
        "item_id": [
            str(n) for k in range(10) for n in (k * 30, k * 30 + 1, k * 30 + (2 if k < 5 else 29))
        ],
        "time_ms": list(range(NOW, NOW + 30)),
    }
    # between k * 30 + 1 and k * 30 + 29 stands no other item: the next id is always the target
    assert (
        "hold the last event of 100.00% of users (by chance 33.33%)"
        in found(events)["id_order"].says
    )


@pytest.mark.parametrize(("name", "share"), [("beauty", "4.63%"), ("sports", "4.33%")])
def test_the_leak_of_beauty_and_sports(real, name, share):
    data = real(name)
    findings = {one.name: one for one in check(data)}
    assert (
        findings["id_order"].wrong
        and f"hold the last event of {share} of users" in findings["id_order"].says
    )
    assert [one.name for one in findings.values() if one.wrong] == ["id_order"]


def test_nothing_is_wrong_with_movielens(real):
    findings = {one.name: one for one in check(real("ml-100k"))}
    assert not any(one.wrong for one in findings.values())
    assert "44.0% of the targets" in findings["tied_times"].says


def test_the_planted_shop_has_nothing_wrong():
    assert not [one.name for one in check(tiny_data()) if one.wrong]


def test_counters_of_users_are_told_too():
    """A query of a split hands the users table on as context: a count over all events would tell
    what is to come.
    """
    users = pl.DataFrame({"user_id": ["u"], "review_count": [7], "country": ["DE"]})
    found = check(
        Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}), "users": users})
    )
    assert [(one.name, one.table, one.examples) for one in found if "counter" in one.name] == [
        ("user_counters", "users", [7])
    ]
