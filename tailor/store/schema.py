"""The tables of the store, the same on SQLite and PostgreSQL; every table begins with the tenant.

`user_id` holds a user's token, never the id that callers use; `sealed` holds what is encrypted with
the user's key. Ids and keys are in tables of their own (`personal`: a second file on SQLite, a
schema of that name on PostgreSQL), which backups of the rest leave out.
"""

import sqlalchemy as sa

# SQLite numbers rows by itself only in a column of the type INTEGER
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NAMES = {"pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s", "ix": "ix_%(table_name)s"}
PERSONAL = "personal"

metadata = sa.MetaData(naming_convention=NAMES)
personal = sa.MetaData(schema=PERSONAL, naming_convention=NAMES)

events = sa.Table(
    "events",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),  # in the order of arrival
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("action", sa.Text),
    sa.Column("value", sa.Float),
    sa.Column("request_id", sa.Text),  # of the list it was chosen from
    sa.Column("received_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("tenant", "event_id"),
    sa.Index("ix_events_of_person", "tenant", "user_id", "time_ms"),
    sa.Index("ix_events_of_time", "tenant", "time_ms", "user_id"),
    sa.Index("ix_events_of_item", "tenant", "item_id", "time_ms"),
)

items = sa.Table(
    "items",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text),
    sa.Column("text", sa.Text),
    sa.Column("categories", sa.JSON),
    sa.Column("price", sa.Float),
    sa.Column("more", sa.JSON),  # further columns, by name
    # why it must not be answered: deleted, taken down, or both; null: it may be
    sa.Column("blocked", sa.Text),
    sa.Column("reason", sa.Text),  # why it was taken down, in the caller's words
    # the tenant's count of changes to items at this item's last change
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Index("ix_items_changed", "tenant", "changed"),
)

loaded_items = sa.Table(
    "loaded_items",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),  # of the content in the data set loaded last
)

user_attributes = sa.Table(
    "people",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("sealed", sa.LargeBinary),  # attributes of the user
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
)

memories = sa.Table(
    "memories",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("retention_days", sa.Float),  # after which an observation goes; null: never
    sa.Column("changed", sa.BigInteger, nullable=False),  # count of changes to the memory
    sa.Column("forgotten", sa.BigInteger, nullable=False),  # count of those that deleted rows
    sa.Column("changed_ms", sa.BigInteger, nullable=False),  # recorded time of the last change
    # whether a restore took rows away, so that what is believed must be computed anew
    sa.Column("due", sa.Boolean, nullable=False, server_default=sa.false()),
    # whether the user's events count for nothing in the user's own answers
    sa.Column("history_paused", sa.Boolean, nullable=False, server_default=sa.false()),
)

# rows of the next four are added and retracted, and never rewritten. `name` and `group_name` are
# digests under the user's key: without it, nobody can tell whether a guess is what was said
observations = sa.Table(
    "observations",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # of the observation
    sa.Column("occurred_ms", sa.BigInteger, nullable=False),
    sa.Column("recorded_ms", sa.BigInteger, nullable=False),
    sa.Column("session", sa.Text),  # a digest of the source and the speaker; null: no message
    # kept; or without its words: withdrawn, wish (takes back the message before it), withheld
    sa.Column("state", sa.Text, nullable=False, server_default="kept"),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("tenant", "user_id", "name"),
    sa.Index("ix_observations_of_person", "tenant", "user_id", "occurred_ms"),
    sa.Index(
        "ix_observations_of_session",
        "tenant",
        "user_id",
        "session",
        "state",
        "occurred_ms",
        "number",
    ),
)

support = sa.Table(
    "support",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # of the observation that says it
    sa.Column("group_name", sa.Text, nullable=False),
    # of the draft; the latest of each rank in a group count; -1: not known, of an older version
    sa.Column("rank", sa.Integer, nullable=False, server_default="-1"),
    sa.Column("occurred_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("recorded_ms", sa.BigInteger, nullable=False),
    sa.Column("retracted_ms", sa.BigInteger),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Index("ix_support_of_observation", "tenant", "user_id", "name"),
    sa.Index(
        "ix_support_of_group",
        "tenant",
        "user_id",
        "group_name",
        "rank",
        "retracted_ms",
        "occurred_ms",
        "name",
    ),
)

propositions = sa.Table(
    "propositions",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # of the proposition
    sa.Column("group_name", sa.Text, nullable=False),
    sa.Column("recorded_ms", sa.BigInteger, nullable=False),
    sa.Column("retracted_ms", sa.BigInteger),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Index("ix_propositions_of_person", "tenant", "user_id", "name"),
    sa.Index("ix_propositions_of_group", "tenant", "user_id", "group_name", "retracted_ms"),
)

profiles = sa.Table(
    "profiles",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("level", sa.Text, nullable=False),  # facts, factors or text
    sa.Column("as_of_ms", sa.BigInteger, nullable=False),
    sa.Column("recorded_ms", sa.BigInteger, nullable=False),
    sa.Column("retracted_ms", sa.BigInteger),
    # of the metric on held-out events, with the profile over without it; null: not measured
    sa.Column("lift", sa.Float),
    sa.Column("lift_low", sa.Float),
    sa.Column("lift_high", sa.Float),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Index("ix_profiles_of_person", "tenant", "user_id", "level"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text),  # null: a caller without an id
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("surface", sa.Text, nullable=False),  # recommendations, similar, search
    # the text; of a caller without an id it is encrypted with the key of NOBODY
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("model", sa.Text, nullable=False),
    sa.Index("ix_requests_of_person", "tenant", "user_id", "time_ms"),
    sa.Index("ix_requests_of_time", "tenant", "time_ms", "user_id"),
)

impressions = sa.Table(
    "impressions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # from 1
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    # probability of this item at this position; 1 without exploration
    sa.Column("propensity", sa.Float, nullable=False),
    sa.Index("ix_impressions_of_item", "tenant", "item_id", "request_id", "position"),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),  # of the key, which is stored nowhere
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("revoked_ms", sa.BigInteger),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),  # from 1
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),  # of the saved model
    # or "predicts" or "reranks"; each kind has a version that answers
    sa.Column("kind", sa.Text, nullable=False, server_default="recommends"),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    # since when it answers; the latest of a tenant and kind answers now
    sa.Column("served_ms", sa.BigInteger),
    sa.Column("note", sa.Text, nullable=False),
)

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("arms", sa.JSON, nullable=False),  # [{"version": a model's, "share": of the people}]
    sa.Column("action", sa.Text),  # of events that count as success; null: any
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),  # null: it runs
)

erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("receipt_id", sa.Text, primary_key=True),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),  # a keyed digest of the user's id, not the id
    sa.Column("rows", sa.JSON, nullable=False),  # erased, by store
    # of the scan for residues: running, done, or unknown (from before it was kept)
    sa.Column("scan", sa.Text, nullable=False, server_default="unknown"),
    sa.Column("scan_ms", sa.BigInteger),  # its last sign of life
    sa.Column("scanned", sa.JSON, nullable=False, server_default="{}"),  # residues, by store
    # whether SQLite's logs hold nothing of the person any more; null: the database sees to it
    sa.Column("overwritten", sa.Boolean),
)

# receipts of what users had forgotten of their memories
forgettings = sa.Table(
    "forgettings",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("receipt_id", sa.Text, primary_key=True),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),  # the keyed digest of the receipts of erasures
    sa.Column("rows", sa.JSON, nullable=False),  # forgotten, by table
    sa.Column("residue", sa.BigInteger),  # rows that still hold the words; null: not looked yet
    sa.Column("overwritten", sa.Boolean),  # as of erasures
)

# who looked at a person's data, and when
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),  # in the order of writing
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text),  # of whom was looked at; null: erased, or never there
    sa.Column("subject", sa.Text, nullable=False),  # the keyed digest of the receipts
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("key_name", sa.Text, nullable=False),  # name of the key that asked
    sa.Column("route", sa.Text, nullable=False),  # what it asked for: history, export ...
    sa.Index("ix_audit_of_tenant", "tenant", "number"),
    sa.Index("ix_audit_of_person", "tenant", "user_id", "number"),
    sa.Index("ix_audit_of_subject", "tenant", "subject", "number"),
)

marks = sa.Table(
    "marks",
    metadata,
    # the key store that belongs to this store, counts of changes and deletions, rules of events
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

subjects = sa.Table(
    "subjects",
    personal,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),  # a keyed digest of the caller's id
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # id and key
    sa.UniqueConstraint("token"),
)

# who was erased; here, since a restored store knows nothing of later erasures
erased = sa.Table(
    "erased",
    personal,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),  # the keyed digest of the receipts
    sa.Column("time_ms", sa.BigInteger, nullable=False),  # of the last erasure
    # of the latest erased event that is not among event_ids; null: there was none
    sa.Column("last_ms", sa.BigInteger),
    sa.Column("event_ids", sa.JSON, nullable=False),  # keyed digests of the latest events
)

# observations that were forgotten; here, since a restored store knows nothing of it
forgotten = sa.Table(
    "forgotten",
    personal,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),  # the token
    sa.Column("name", sa.Text, primary_key=True),  # as in observations, under the user's key
)

# how often all links to a person's own page were ended; here, since a restored store knows less
links = sa.Table(
    "links",
    personal,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),  # the token
    sa.Column("ended", sa.BigInteger, nullable=False),
)

secrets = sa.Table(
    "secrets",
    personal,
    # the same two marks, the key that signs receipts, a check of the master key
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
