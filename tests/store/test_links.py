"""Links and single events of people: what ends a link, what stays deleted after restores."""

import pytest

sa = pytest.importorskip("sqlalchemy")

from typer.testing import CliRunner  # noqa: E402

from tailor.cli.main import app  # noqa: E402
from tailor.store import retention, users  # noqa: E402
from tailor.store.engine import connect, key_file, now_ms, reading, writing  # noqa: E402
from tailor.store.events import add_events, latest_events, read_histories  # noqa: E402
from tailor.store.links import end_links, link_owner, make_link  # noqa: E402
from tailor.store.migrating import migrate  # noqa: E402
from tailor.store.own_events import count_own_events, delete_event, pause  # noqa: E402
from tailor.store.people import page_of_events  # noqa: E402
from tailor.store.schema import links, subjects  # noqa: E402

HOUR_MS = 3_600_000
T = 1_700_000_000_000


def event(event_id, user="ann", time_ms=T):
    return {"event_id": event_id, "user_id": user, "item_id": f"i{event_id}", "time_ms": time_ms}


def send(engine, *rows):
    return write(engine, users.ingest_events, "shop", rows, now_ms())[0]


def read(engine, job, *given):
    with reading(engine) as connection:
        return job(connection, *given)


def write(engine, job, *given, **more):
    with writing(engine) as connection:
        return job(connection, *given, **more)


def link_of(engine, user="ann"):
    return read(engine, make_link, "shop", user, now_ms() + HOUR_MS)


def opens(engine, link):
    owner = read(engine, link_owner, link, now_ms())
    return owner and owner.user_id


def ids(engine, user="ann"):
    return [row["event_id"] for row in read(engine, page_of_events, "shop", user, 9).events]


def store(tmp_path, *words):
    done = CliRunner().invoke(app, ["store", *words, "--database", f"{tmp_path}/store.db"])
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.output.split())


@pytest.fixture
def shop(tmp_path):
    """A store of two people, with a backup of it and of its keys."""
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    send(engine, event("1"), event("2"), event("3", "bob"))
    store(tmp_path, "backup", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    yield engine
    engine.dispose()


def test_links_name_their_person_until_they_end(engine):
    send(engine, event("1"), event("2", "bob"))
    ann, bob = link_of(engine), link_of(engine, "bob")
    assert (opens(engine, ann), opens(engine, bob)) == ("ann", "bob")
    assert link_of(engine, "nobody") is None and link_of(engine, "") is None
    assert not write(engine, end_links, "shop", "nobody")
    assert write(engine, end_links, "shop", "ann")
    assert (opens(engine, ann), opens(engine, bob)) == (None, "bob")
    again = link_of(engine)
    assert opens(engine, again) == "ann"
    write(engine, end_links, "shop", "ann")
    assert opens(engine, again) is None
    write(engine, users.erase, "shop", "bob")
    send(engine, event("4", "bob", now_ms() + 1_000))
    assert opens(engine, bob) is None


def test_nothing_of_ended_links_is_left_of_people_who_are_gone(engine):
    send(engine, event("1"), event("2", "bob"), event("3", "eve"))
    for user in ("ann", "bob", "eve"):
        write(engine, end_links, "shop", user)
    write(engine, users.erase, "shop", "ann")
    with writing(engine) as connection:
        connection.execute(sa.text("DELETE FROM events WHERE event_id = '2'"))
    assert retention.prune_users(engine) == 1
    with reading(engine) as connection:
        left = connection.execute(sa.select(links.c.user_id)).scalars().all()
        assert left == connection.execute(sa.select(subjects.c.token)).scalars().all()


def test_ended_links_stay_ended_after_restores(shop, tmp_path):
    link = link_of(shop)
    write(shop, end_links, "shop", "ann")
    shop.dispose()
    store(tmp_path, "restore", f"{tmp_path}/old.db")
    assert opens(connect(f"{tmp_path}/store.db"), link) is None
    store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    store(tmp_path, "migrate")
    restored = connect(f"{tmp_path}/store.db")
    assert opens(restored, link) is None and opens(restored, link_of(restored)) == "ann"


def test_a_key_store_of_the_version_before_gets_its_table(shop, tmp_path):
    with writing(connect(f"{tmp_path}/old.keys.db")) as connection:
        connection.exec_driver_sql("DROP TABLE links")
    shop.dispose()
    store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    store(tmp_path, "migrate")
    restored = connect(f"{tmp_path}/store.db")
    assert opens(restored, link_of(restored)) == "ann"


def test_a_master_key_that_changes_ends_no_link(shop, tmp_path, monkeypatch):
    link = link_of(shop)
    shop.dispose()
    (tmp_path / "master").write_text("m" * 40)
    store(tmp_path, "rekey", f"{tmp_path}/master")
    monkeypatch.setenv("TAILOR_MASTER_KEY_FILE", f"{tmp_path}/master")
    assert opens(connect(f"{tmp_path}/store.db"), link) == "ann"


def test_the_command_prints_a_link_and_ends_all(shop, tmp_path):
    url = store(tmp_path, "link", "ann", "--tenant", "shop", "--console", "https://shop.example/")
    address, _, link = url.partition("#")
    assert address == "https://shop.example/me" and opens(shop, link) == "ann"
    store(tmp_path, "link", "ann", "--tenant", "shop", "--end")
    assert opens(shop, link) is None
    words = ["store", "link", "nobody", "--database", f"{tmp_path}/store.db"]
    for more in ([], ["--end"]):
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 1 and "nothing is stored" in str(done.exception)


def test_a_deleted_event_is_refused_and_the_others_stay(engine):
    send(engine, event("1"), event("2"), event("3", "bob"))
    assert write(engine, delete_event, "shop", "ann", "3") is None
    assert write(engine, delete_event, "other", "ann", "1") is None
    assert write(engine, delete_event, "shop", "nobody", "1") is None
    assert write(engine, delete_event, "shop", "ann", "1")
    assert ids(engine) == ["2"] and ids(engine, "bob") == ["3"]
    assert send(engine, event("1"), event("4", time_ms=T - 1), event("1b")) == {"4", "1b"}
    assert send(engine, event("1", time_ms=now_ms())) == set()
    write(engine, delete_event, "shop", "ann", "2")
    assert ids(engine) == ["1b", "4"] and send(engine, event("1"), event("2")) == set()
    receipt = write(engine, users.erase, "shop", "ann")
    assert receipt["rows"]["events"] == 2
    assert send(engine, event("1"), event("4"), event("5", time_ms=now_ms() + 1_000)) == {"5"}


def test_a_deleted_event_goes_again_after_restores_and_its_person_stays(shop, tmp_path):
    write(shop, delete_event, "shop", "ann", "1")
    send(shop, event("5"))
    shop.dispose()
    store(tmp_path, "restore", f"{tmp_path}/old.db")
    store(tmp_path, "migrate")
    restored = connect(f"{tmp_path}/store.db")
    assert ids(restored) == ["2"] and ids(restored, "bob") == ["3"]
    assert send(restored, event("1")) == set()
    restored.dispose()
    out = store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    assert "0 people who were erased since" in out
    store(tmp_path, "migrate")
    restored = connect(f"{tmp_path}/store.db")
    assert ids(restored) == ["2"] and ids(restored, "bob") == ["3"]
    assert send(restored, event("1")) == set()


def test_no_byte_of_the_store_names_a_deleted_event(shop, tmp_path):
    from tailor.store.engine import overwrite_deleted

    send(shop, event("quite-unlikely-id"))
    write(shop, delete_event, "shop", "ann", "quite-unlikely-id")
    overwrite_deleted(shop)
    shop.dispose()
    files = [tmp_path / "store.db", key_file(f"{tmp_path}/store.db"), *tmp_path.glob("*-wal")]
    assert not any(b"quite-unlikely-id" in file.read_bytes() for file in files)


def test_a_long_history_is_counted_and_paged(engine):
    with writing(engine) as connection:
        rows = [event(f"{number:05}", time_ms=T + number // 3) for number in range(2_000)]
        add_events(connection, "shop", rows, now_ms())
    cursor, seen = None, []
    while not seen or cursor is not None:
        page, cursor = read(engine, page_of_events, "shop", "ann", 300, cursor)
        seen += [row["event_id"] for row in page]
    assert seen == sorted(seen, reverse=True) and len(seen) == 2_000
    assert read(engine, page_of_events, "shop", "ann", 9, (0, 0)).events == []
    assert read(engine, count_own_events, "shop", "ann") == 2_000
    assert read(engine, page_of_events, "shop", "nobody", 9).events == []


def test_a_paused_history_is_nobody_s_until_it_goes_on(engine):
    send(engine, event("1"), event("2", "bob"))
    assert write(engine, pause, "shop", "nobody", history_paused=True) is None
    before = latest_events(engine, "shop", "ann")[0].deletions
    assert write(engine, pause, "shop", "ann", history_paused=True).history_paused
    stamp, token, events = latest_events(engine, "shop", "ann")
    assert token is None and events == [] and stamp.deletions > before
    assert set(read(engine, read_histories, "shop", 100, 10)[0]) == {"bob"}
    assert users.export and ids(engine) == ["1"]
    write(engine, pause, "shop", "ann", history_paused=False)
    assert latest_events(engine, "shop", "ann")[2] and ids(engine) == ["1"]
