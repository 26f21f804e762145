"""Sessions of requests and of events, by hand."""

from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.sessions import SESSION_MS, sessions_back, sessions_of

HOUR_MS = 3_600_000


def visit_query(times, now, user="ann"):
    ids = [f"item {i}" for i in range(len(times))]
    return Query(user, History(tuple(ids), times_ms=tuple(times)), time_ms=now)


def test_a_session_is_the_events_without_a_gap_of_over_an_hour():
    now = 10 * SESSION_MS
    queries = Queries.of(
        [
            visit_query([0, now - 2 * HOUR_MS - 5, now - HOUR_MS + 1, now - 7], now),
            visit_query([0, now - HOUR_MS - 5], now),
            visit_query([now - 2 * HOUR_MS, now - HOUR_MS], now),
            Query(history=History.of("item 0")),
        ]
    )
    wanted = [[2, 1, 0, 0], [2, 1], [0, 0], [1]]
    assert sessions_back(queries).tolist() == [value for row in wanted for value in row]


def test_requests_of_a_user_are_cut_into_sessions():
    users = ["ann", "bob", "ann", "ann", "bob"]
    times = [0, 10, HOUR_MS, 3 * HOUR_MS, 20]
    queries = Queries.of(
        [Query(user, time_ms=time) for user, time in zip(users, times, strict=True)]
    )
    sessions = sessions_of(queries)
    assert [sessions[i].tolist() for i in range(len(sessions))] == [[0, 2], [3], [1, 4]]
