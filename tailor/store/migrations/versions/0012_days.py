"""Find events and lists by their time, for the figures of each day."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index("ix_events_of_time", "events", ["tenant", "time_ms", "user_id"])
    op.create_index("ix_requests_of_time", "requests", ["tenant", "time_ms", "user_id"])
