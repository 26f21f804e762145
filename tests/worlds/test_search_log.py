"""The planted log of searches: reproducible, and the next search joins page and interest."""

from tailor.worlds.search_log import START_MS, search_log


def test_the_same_arguments_give_the_same_log():
    first, again, other = search_log(20), search_log(20), search_log(20, seed=1)
    assert first.data.content_hash == again.data.content_hash != other.data.content_hash


def test_searches_name_the_pages_topic_and_the_users_aspects():
    log = search_log(40, 40, personal=1.0)
    data = log.data
    titles = dict(data.tables["items"].select("item_id", "title").iter_rows())
    half_ms = START_MS + 20 * 3 * 86_400_000
    for user, item, time_ms, text in (
        data.tables["texts"].select("user_id", "item_id", "time_ms", "text").iter_rows()
    ):
        topic, aspect = text.split()
        assert titles[item].startswith(topic)
        assert aspect in log.aspects[user][int(time_ms >= half_ms)]
    still = search_log(10, drift=False)
    assert all(first == second for first, second in still.aspects.values())
