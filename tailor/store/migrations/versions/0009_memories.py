"""Memories of users: observations, what supports what, propositions, profiles."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "memories",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("retention_days", sa.Float()),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("forgotten", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "user_id", name="pk_memories"),
    )
    _create(
        "observations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("occurred_ms", sa.BigInteger(), nullable=False),
        sa.Column("recorded_ms", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("tenant", "user_id", "name", name="uq_observations"),
    )
    _create(
        "support",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=False),
        *_recorded(),
    )
    _create(
        "propositions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=False),
        *_recorded(),
    )
    _create(
        "profiles",
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("as_of_ms", sa.BigInteger(), nullable=False),
        *_recorded(),
        sa.Column("lift", sa.Float()),
        sa.Column("lift_low", sa.Float()),
        sa.Column("lift_high", sa.Float()),
    )
    for name, table, column in (
        ("ix_observations_of_person", "observations", "occurred_ms"),
        ("ix_support_of_observation", "support", "name"),
        ("ix_support_of_group", "support", "group_name"),
        ("ix_propositions_of_person", "propositions", "name"),
        ("ix_propositions_of_group", "propositions", "group_name"),
        ("ix_profiles_of_person", "profiles", "level"),
    ):
        op.create_index(name, table, ["tenant", "user_id", column])
    op.execute("INSERT INTO marks (name, value) VALUES ('forgotten', '0')")


def _create(name: str, *parts: sa.schema.SchemaItem) -> None:
    """Make a table whose rows are numbered and belong to a person."""
    op.create_table(
        name,
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        *parts,
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=f"pk_{name}"),
    )


def _recorded() -> tuple[sa.Column[int], sa.Column[int]]:
    """Return the columns that say when a row was believed."""
    return (
        sa.Column("recorded_ms", sa.BigInteger(), nullable=False),
        sa.Column("retracted_ms", sa.BigInteger()),
    )
