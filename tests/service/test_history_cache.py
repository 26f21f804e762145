"""What is remembered for outages: what was put, no more than so many bytes, nothing of who was
forgotten.
"""

import gc

from tailor.service.history_cache import OVERHEAD, HistoryCache


def test_what_was_put_comes_back_and_the_last_put_counts():
    kept = HistoryCache()
    kept.put("shop", "ann", [("tea", 5), ("ü", 7)])
    kept.put("shop", "bob", [])
    kept.put("other", "ann", [("own", 2**40)])
    assert (
        kept.get("shop", "ann").events == [("tea", 5), ("ü", 7)]
        and kept.get("shop", "bob").events == [] == kept.get("shop", "nobody").events
    )
    kept.put("shop", "ann", [("cup", 9)])
    assert kept.get("shop", "ann").events == [("cup", 9)] and kept.get("other", "ann").events == [
        ("own", 2**40)
    ]
    assert (
        kept.count_of("shop", "cup") == kept.count_of("shop", "ann") == 1
        and kept.count_of("shop", "cu") == 0
    )
    assert (
        kept.forget("shop", "ann") == 1
        and kept.get("shop", "ann").events == []
        and kept.forget("shop", "ann") == 0
    )
    kept.put("shop", "odd", [("a\0b", 1)])
    assert kept.get("shop", "odd").events == []


def test_bytes_are_bounded_and_who_was_asked_for_least_lately_goes_first():
    one = OVERHEAD + len("u0") + len("item") + 8
    kept = HistoryCache(3 * one)
    for user in ("u0", "u1", "u2", "u0", "u3"):
        kept.put("shop", user, [("item", 1)])
    assert len(kept) == 3 and kept.bytes == 3 * one
    assert [user for user in ("u0", "u1", "u2", "u3") if kept.get("shop", user).events] == [
        "u0",
        "u2",
        "u3",
    ]
    for user in ("u0", "u2", "u3"):
        kept.forget("shop", user)
    assert kept.bytes == 0


def test_the_garbage_collector_does_not_look_at_histories():
    kept = HistoryCache()
    for i in range(5_000):
        kept.put("shop", f"u{i}", [("tea", i), ("cup", i)])
    gc.collect()
    before = len(gc.get_objects())
    for i in range(5_000, 10_000):
        kept.put("shop", f"u{i}", [("tea", i), ("cup", i)])
    gc.collect()
    assert len(gc.get_objects()) - before < 100
