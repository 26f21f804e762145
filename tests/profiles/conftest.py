"""Fixtures of the databases; without the extra `serve` nothing of the store is collected."""

import importlib.util

if all(importlib.util.find_spec(name) for name in ("sqlalchemy", "alembic")):
    from store.databases import engine, postgres, url  # noqa: F401
else:
    collect_ignore_glob = ["test_memory*.py"]
