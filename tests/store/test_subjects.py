"""What copies of the store hold of people: nothing that names them, nothing they wrote, and after
their erasure nothing that anybody could tie to them again.
"""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sa = pytest.importorskip("sqlalchemy")

from alembic import command  # noqa: E402
from store.databases import NO_MEMORY, latest  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from tailor.cli.main import app  # noqa: E402
from tailor.errors import StoreError  # noqa: E402
from tailor.store import migrating, retention, subjects, users  # noqa: E402
from tailor.store.datasets import stored_dataset  # noqa: E402
from tailor.store.encryption import Seal, Subject  # noqa: E402
from tailor.store.engine import connect, key_file, overwrite_deleted, reading, writing  # noqa: E402
from tailor.store.events import add_events, count_events  # noqa: E402
from tailor.store.impressions import ServedList, write_lists  # noqa: E402
from tailor.store.migrating import migrate, prepare  # noqa: E402
from tailor.store.writer import Writer  # noqa: E402

ANN, WORDS, COUNTRY = (
    "ann.of.the.hills@example.org",
    "a green kettle for mother",
    "a-country-of-hers",
)
MASTER = "0123456789abcdef" * 4


def event(event_id, user=ANN, item="tea", time_ms=1_000):
    return {"event_id": event_id, "user_id": user, "item_id": item, "time_ms": time_ms}


def add(engine, *rows):
    with writing(engine) as connection:
        return add_events(connection, "shop", rows, 5_000)


def read(engine, job, *given):
    with reading(engine) as connection:
        return job(connection, *given)


def write(engine, job, *given):
    with writing(engine) as connection:
        return job(connection, *given)


def served(request_id, user, text, time_ms=10**15):
    return ServedList(
        "shop", request_id, user, time_ms, "recommendations", text, "m@1", (("tea", 1.0, 1.0),)
    )


def fill(engine):
    """Ann's events, words, and what is known of her; the same of two hundred others, so that pages
    split.
    """
    add(engine, *[event(f"e{i}", ANN if i % 50 == 0 else f"other-{i % 199}") for i in range(2_000)])
    write(engine, users.upsert_user, "shop", ANN, {"country": COUNTRY})
    write(engine, write_lists, [served("r1", ANN, WORDS), served("r2", None, WORDS + " too")])


def found(files, *words):
    content = b"".join(file.read_bytes() for file in files)
    return [word for word in words if word.encode() in content]


def token_of(engine, user=ANN):
    with reading(engine) as connection:
        person = subjects.subject_of(connection, "shop", user)
    return person and person.token


def orphans(engine):
    return sum(read(engine, subjects.count_orphans).values())


def test_no_byte_of_the_store_its_logs_or_a_backup_names_a_person_or_shows_a_text(tmp_path):
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    fill(engine)
    secrets = (ANN, WORDS, COUNTRY)
    assert (
        found([tmp_path / "store.db", tmp_path / "store.db-wal"], *secrets) == []
        and (tmp_path / "store.db-wal").stat().st_size
    )
    # what is looked for would be found
    assert found([tmp_path / "store.keys.db", tmp_path / "store.keys.db-wal"], ANN) == [ANN]
    assert found([tmp_path / "store.db-wal"], token_of(engine)) == [token_of(engine)]
    done = CliRunner().invoke(
        app,
        [
            "store",
            "backup",
            f"{tmp_path}/copy.db",
            "--keys",
            f"{tmp_path}/keys-copy.db",
            "--database",
            f"{tmp_path}/store.db",
        ],
    )
    assert done.exit_code == 0, done.output
    assert found([tmp_path / "copy.db"], *secrets) == [] and found(
        [tmp_path / "keys-copy.db"], ANN
    ) == [ANN]
    key = read(engine, subjects.subject_of, "shop", ANN).key
    assert write(engine, users.erase, "shop", ANN)["rows"] == {
        "impressions": 1,
        "requests": 1,
        "events": 40,
        "people": 1,
        **NO_MEMORY,
    }
    overwrite_deleted(engine)
    engine.dispose()
    files = [file for file in tmp_path.iterdir() if file.name != "keys-copy.db"]
    assert found(files, *secrets) == [] and key not in b"".join(file.read_bytes() for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_dump_without_the_schema_of_the_keys_names_nobody(engine, postgres):
    fill(engine)
    host, name = engine.url.query["host"], engine.url.database

    def dump(*words):
        return subprocess.run(
            ["runuser", "-u", "postgres", "--", "pg_dump", "-h", host, *words, name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    whole = dump("--exclude-schema=personal")
    assert (
        ANN not in whole
        and WORDS not in whole
        and COUNTRY not in whole
        and token_of(engine) in whole
    )
    assert ANN.encode().hex() in dump("--schema=personal")
    token = token_of(engine)
    write(engine, users.erase, "shop", ANN)
    assert token not in dump() and ANN.encode().hex() not in dump()


def test_after_an_erasure_the_same_id_is_somebody_new_everywhere(engine):
    other = connect(engine.url.render_as_string(hide_password=False))  # another worker
    add(engine, event("1"))
    add(other, event("2"))
    first = token_of(other)
    write(engine, users.erase, "shop", ANN)
    assert token_of(other) is None and latest(other, "shop", ANN)[2] == []
    add(other, event("3"))
    add(engine, event("4"))
    assert token_of(engine) == token_of(other) != first and len(latest(engine, "shop", ANN)[2]) == 2
    assert orphans(engine) == 0
    other.dispose()


def test_many_who_write_of_the_same_new_people_at_once_lose_nothing(engine):
    url = engine.url.render_as_string(hide_password=False)
    engines = [connect(url) for _ in range(4)]
    writers = [Writer(one) for one in engines]
    names = [f"p{i}" for i in range(30)]

    def send(number):
        turn = names if number % 2 else names[::-1]
        for start in range(0, len(names), 3):
            rows = [event(f"{number}-{user}", user) for user in turn[start : start + 3]]
            assert (
                len(
                    writers[number % 4].do(
                        lambda connection, rows=rows: add_events(connection, "shop", rows, 1)
                    )
                )
                == 3
            )

    _all(send, 8)
    for one in (*writers, *engines):
        (one.close if isinstance(one, Writer) else one.dispose)()
    assert read(engine, count_events, "shop")[0] == 8 * 30 and orphans(engine) == 0
    assert {user: len(latest(engine, "shop", user)[2]) for user in names} == dict.fromkeys(names, 8)


def test_who_is_erased_while_others_write_leaves_no_rows_of_nobody(engine):
    url = engine.url.render_as_string(hide_password=False)
    stop, last, accepted = threading.Event(), threading.Event(), [[], [], []]

    def work(number):
        try:
            works(number)
        finally:
            stop.set()
            last.set()  # whatever went wrong, nobody waits

    def works(number):
        mine = connect(url)
        for i in range(10**6):
            if number == 2:
                write(mine, users.erase, "shop", ANN)
                if i >= 12:
                    stop.set()
            else:
                # SQLite lets whoever asks first in, and never knows who has waited
                time.sleep(0.002)
                sent_after = last.is_set()
                add(mine, event(f"{number}-{i}"), event(f"{number}-{i}-b", f"b{i % 7}"))
                if sent_after:
                    accepted[number].append(f"{number}-{i}")
                if len(accepted[number]) >= 5:
                    break
            if number == 2 and stop.is_set():
                last.set()
                break
        mine.dispose()

    _all(work, 3)
    kept = stored_dataset(engine, "shop").events
    assert orphans(engine) == 0 and set(accepted[0]) | set(accepted[1]) <= set(
        kept.filter(kept["user_id"] == ANN)["event_id"]
    )
    assert len(accepted[0]) == len(accepted[1]) == 5


def _all(job, n):
    failed = []

    def run(number):
        try:
            job(number)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    assert not failed, failed


def files_of(tmp_path, name):
    """Where the store and its keys stand, after everything is in them."""
    return tmp_path / f"{name}.db", key_file(f"{tmp_path}/{name}.db")


def closed(engine):
    overwrite_deleted(engine)
    engine.dispose()


def test_an_older_backup_put_back_is_swept_of_those_erased_since_and_that_is_told(tmp_path):
    store, _ = files_of(tmp_path, "store")
    engine = connect(str(store))
    migrate(engine)
    fill(engine)
    closed(engine)
    shutil.copy(store, tmp_path / "old.db")
    engine = connect(str(store))
    write(engine, users.erase, "shop", ANN)
    closed(engine)
    shutil.copy(tmp_path / "old.db", store)
    again = connect(str(store))
    # before anything is swept: nobody can say which rows were hers
    assert latest(again, "shop", ANN)[2] == []
    assert ANN not in stored_dataset(again, "shop").events["user_id"]
    again.dispose()
    done = CliRunner().invoke(app, ["store", "sweep", "--dry-run", "--database", str(store)])
    assert "events: 40, requests: 1, people: 1 would go" in done.output, done.output
    done = CliRunner().invoke(app, ["store", "migrate", "--database", str(store)])
    assert "events: 40, requests: 1, people: 1" in done.output.replace("\n", ""), done.output
    engine = connect(str(store))
    assert (
        migrate(engine) == {}
        and orphans(engine) == 0
        and len(latest(engine, "shop", "other-1")[2]) == 10
    )
    with reading(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM impressions")).scalar_one() == 1
    engine.dispose()


def test_a_crash_between_the_two_files_costs_only_what_was_not_acknowledged(tmp_path):
    store, keys = files_of(tmp_path, "store")
    engine = connect(str(store))
    migrate(engine)
    add(engine, event("1", "bob"))
    closed(engine)
    shutil.copy(keys, tmp_path / "keys")
    engine = connect(str(store))
    add(engine, event("2"), event("3", "bob"))
    closed(engine)
    shutil.copy(tmp_path / "keys", keys)  # ann's entry never reached the disk
    engine = connect(str(store))  # another worker, which went on
    assert orphans(engine) == 1
    # sent again, as whoever gets no answer does
    assert add(engine, event("2"), event("3", "bob")) == {"2"}
    assert (
        len(latest(engine, "shop", ANN)[2]) == 1
        and len(latest(engine, "shop", "bob")[2]) == 2
        and orphans(engine) == 0
    )
    assert migrate(engine) == {}
    engine.dispose()


@pytest.mark.parametrize("how", ["lost", "older"])
def test_a_key_store_that_is_not_the_store_s_is_refused_before_anybody_is_lost(tmp_path, how):
    store, keys = files_of(tmp_path, "store")
    engine = connect(str(store))
    migrate(engine)
    add(engine, event("0", "bob"))
    closed(engine)
    shutil.copy(keys, tmp_path / "keys")
    engine = connect(str(store))
    for i in range(3):
        add(engine, event(str(i + 1), f"p{i}"))
    closed(engine)
    keys.unlink()
    if how == "older":
        shutil.copy(tmp_path / "keys", keys)
    engine = connect(str(store))
    with pytest.raises(StoreError, match="Put the right one back"):
        migrate(engine)
    with pytest.raises(StoreError, match="Put the right one back"):
        add(engine, event("9", "somebody new"))
    engine.dispose()
    done = CliRunner().invoke(app, ["store", "sweep", "--database", str(store)])
    assert isinstance(done.exception, StoreError) or done.exit_code == 2
    done = CliRunner().invoke(app, ["store", "sweep", "--lose-people", "--database", str(store)])
    assert f"events: {4 if how == 'lost' else 3}" in done.output, done.output
    engine = connect(str(store))
    assert migrate(engine) == {} and len(latest(engine, "shop", "bob")[2]) == (how == "older")
    engine.dispose()


def test_under_a_master_key_the_key_store_names_nobody_and_another_opens_nothing(
    tmp_path, monkeypatch
):
    store, keys = files_of(tmp_path, "store")
    engine = connect(str(store), Seal(MASTER))
    migrate(engine)
    fill(engine)
    key = read(engine, subjects.subject_of, "shop", ANN).key
    receipts = users.public_key(write(engine, users.signing_key))
    closed(engine)
    assert found([keys], ANN, "other-1") == [] and key not in keys.read_bytes()
    for wrong in (Seal(), Seal("x" * 40)):
        engine = connect(str(store), wrong)
        with pytest.raises(StoreError, match="another master key"):
            migrate(engine)
        with pytest.raises(StoreError, match="another master key"):
            add(engine, event("9", "somebody new"))
        engine.dispose()
    (tmp_path / "new").write_text("fedcba9876543210" * 4 + "\n")
    monkeypatch.setenv("TAILOR_MASTER_KEY", MASTER)
    done = CliRunner().invoke(
        app, ["store", "rekey", str(tmp_path / "new"), "--database", str(store)]
    )
    # 199 others, ann, and nobody
    assert done.exit_code == 0 and "201 people" in done.output, done.output
    monkeypatch.delenv("TAILOR_MASTER_KEY")
    monkeypatch.setenv("TAILOR_MASTER_KEY_FILE", str(tmp_path / "new"))
    engine = connect(str(store))
    assert migrate(engine) == {} and len(latest(engine, "shop", ANN)[2]) == 40
    assert read(engine, users.export, "shop", ANN)["people"][0]["more"] == {"country": COUNTRY}
    assert users.public_key(write(engine, users.signing_key)) == receipts
    engine.dispose()
    with pytest.raises(StoreError, match="9 characters"):
        Seal("too short")


def test_a_scan_reads_what_is_sealed_of_everybody_and_of_nobody(engine):
    for user, more in (
        ("bob", {"friends": ["ann", {"deep": "eve"}]}),
        ("cat", {"ann": 1}),
        ("dan", {"annex": "anna"}),
    ):
        write(engine, users.upsert_user, "shop", user, more)
    write(
        engine,
        write_lists,
        [
            served("r1", "bob", "ann"),
            served("r2", None, "ann"),
            served("r3", None, "ann and more"),
            served("r4", "cat", "ann"),
        ],
    )
    write(engine, users.upsert_user, "other", "bob", {"friend": "ann"})
    stores = {one.name: one for one in users.ERASABLES}
    assert (
        read(engine, stores["people"].scan, "shop", "ann") == 2
        and read(engine, stores["people"].scan, "shop", "eve") == 1
    )
    assert read(engine, stores["requests"].scan, "shop", "ann") == 3
    assert write(engine, users.erase, "shop", "ann")["scanned"] == {
        "impressions": 0,
        "requests": 3,
        "events": 0,
        "people": 2,
        **NO_MEMORY,
        "keys": 0,
    }


def test_what_is_sealed_opens_for_its_person_at_its_place_alone():
    ann, bob = Subject.new("ann"), Subject.new("bob")
    closed = ann.encrypt({"a": [1, "ü"]}, "people.more")
    assert ann.decrypt(closed, "people.more") == {"a": [1, "ü"]}
    for person, sealed, where in (
        (bob, closed, "people.more"),
        (ann, closed, "requests.text"),
        (ann, closed[:-1] + bytes([closed[-1] ^ 1]), "people.more"),
    ):
        with pytest.raises(StoreError, match="does not open"):
            person.decrypt(sealed, where)


def test_people_of_whom_nothing_is_left_leave_the_key_store(engine):
    day = retention.DAY_MS
    add(
        engine,
        event("old", "gone", time_ms=0),
        event("old2", time_ms=0),
        event("new", time_ms=100 * day),
    )
    write(engine, users.upsert_user, "shop", "known", {"a": 1})
    write(engine, write_lists, [served("r", None, WORDS)])
    assert (
        retention.prune(engine, 100 * day, 30, None) == {"events": 2}
        and retention.prune_users(engine) == 1
    )
    with reading(engine) as connection:
        assert {one.user_id for one in subjects.all_subjects(connection, "shop")} == {
            ANN,
            "known",
            "",
        }
    assert retention.prune_users(engine) == 0 and migrate(engine) == {}


# from the version before


def older(engine):
    """A store as version 0002 wrote it."""
    with writing(engine) as connection:
        config = migrating._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        run = connection.execute
        for i in range(1_000):
            run(
                sa.text(
                    "INSERT INTO events (tenant, event_id, user_id, item_id, time_ms, received_ms)"
                    " VALUES (:t, :e, :u, :i, :m, 1)"
                ),
                {
                    "t": "shop" if i % 3 else "other",
                    "e": f"e{i}",
                    "u": ANN if i % 10 == 0 else f"visitor-{i % 97}",
                    "i": f"i{i}",
                    "m": i,
                },
            )
        run(
            sa.text(
                "INSERT INTO people (tenant, user_id, more, changed_ms) VALUES ('shop', :u, :m, 5)"
            ),
            {"u": ANN, "m": f'{{"country": "{COUNTRY}"}}'},
        )
        for name, user, text in (
            ("r1", ANN, WORDS),
            ("r2", None, WORDS + " too"),
            ("r3", "only asked", None),
        ):
            run(
                sa.text(
                    "INSERT INTO requests (tenant, request_id, user_id, time_ms, surface, text,"
                    " model) VALUES ('shop', :r, :u, 7, 'recommendations', :x, 'm@1')"
                ),
                {"r": name, "u": user, "x": text},
            )
        run(sa.text("INSERT INTO secrets (name, value) VALUES ('signing', :v)"), {"v": "11" * 32})


def as_before(engine):
    wanted = [(f"i{i}", i) for i in range(1_000) if i % 3 and i % 10 == 0]
    assert latest(engine, "shop", ANN)[2] == wanted and len(latest(engine, "other", ANN)[2]) == 34
    log = stored_dataset(engine, "shop", with_lists=True)
    assert log.events["event_id"].to_list() == [f"e{i}" for i in range(1_000) if i % 3]
    assert log.events["user_id"].to_list() == [
        ANN if i % 10 == 0 else f"visitor-{i % 97}" for i in range(1_000) if i % 3
    ]
    assert log.tables["requests"].sort("request_id")["user_id"].to_list() == [
        ANN,
        None,
        "only asked",
    ]
    hers = read(engine, users.export, "shop", ANN)
    assert (
        hers["people"][0]["more"] == {"country": COUNTRY} and hers["requests"][0]["text"] == WORDS
    )
    assert read(engine, users.signing_key).private_bytes_raw() == bytes.fromhex("11" * 32)
    assert orphans(engine) == 0 and read(engine, count_events, "shop")[0] == 666


def test_a_store_of_the_version_before_keeps_everything_and_names_nobody_any_more(url, tmp_path):
    engine = connect(url)
    older(engine)
    migrate(engine)
    as_before(engine)
    assert migrate(engine) == {}
    if engine.dialect.name == "sqlite":
        closed(engine)
        assert (
            found(
                [tmp_path / "store.db"], ANN, WORDS, COUNTRY, "only asked", "visitor-96", "11" * 32
            )
            == []
        )
    engine.dispose()


@pytest.mark.parametrize("stage", ["before the store changes", "while it changes"])
def test_a_migration_that_is_broken_off_leaves_the_store_as_it_was_and_goes_on(
    url, monkeypatch, stage
):
    engine = connect(url)
    older(engine)

    def broken(*_):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        if stage == "while it changes":
            real = sa.engine.Connection.execute

            def until(self, statement, *given, **more):
                if "marks" in str(statement):
                    broken()
                return real(self, statement, *given, **more)

            patch.setattr(sa.engine.Connection, "execute", until)
        else:
            patch.setattr(command, "upgrade", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            migrate(engine)
    with reading(engine) as connection:
        assert migrating.revision(engine) == "0002"
        assert (
            connection.execute(
                sa.text("SELECT count(*) FROM events WHERE user_id = :u"), {"u": ANN}
            ).scalar_one()
            == 100
        )
    with writing(engine) as connection:  # the older version goes on writing
        connection.execute(
            sa.text(
                "INSERT INTO events (tenant, event_id, user_id, item_id, time_ms, received_ms)"
                " VALUES ('third', 'x', 'late', 'i', 1, 1)"
            )
        )
    migrate(engine)
    as_before(engine)
    assert latest(engine, "third", "late")[2] == [("i", 1)]
    engine.dispose()


def test_what_an_older_version_writes_while_people_are_entered_stops_the_change(url):
    engine = connect(url)
    older(engine)
    prepare(engine)
    with writing(engine) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO events (tenant, event_id, user_id, item_id, time_ms, received_ms)"
                " VALUES ('shop', 'x', 'late', 'i', 1, 1)"
            )
        )
        config = migrating._config()
        config.attributes["connection"] = connection
        with pytest.raises(StoreError, match="older Tailor writes"):
            command.upgrade(config, "head")
        connection.rollback()
    engine.dispose()


KILLED = (
    "import sys; from tailor.store.engine import connect; from tailor.store.migrating import"
    " migrate; print(flush=True); migrate(connect(sys.argv[1])); print('done', flush=True)"
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_migration_that_is_killed_at_any_moment_loses_nothing(url):
    engine = connect(url)
    older(engine)
    engine.dispose()
    for turn in range(60):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        process.stdout.readline()
        time.sleep(0.01 * turn)
        process.kill()
        if "done" in process.communicate()[0]:
            break
    engine = connect(url)
    migrate(engine)
    as_before(engine)
    engine.dispose()
    assert turn > 1
