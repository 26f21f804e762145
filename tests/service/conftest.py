"""Fixtures of the served shop; without the extra `serve` nothing here is collected."""

import importlib.util

if all(importlib.util.find_spec(name) for name in ("fastapi", "sqlalchemy", "alembic")):
    from service.served_shop import client, engine, models, postgres, service, url  # noqa: F401
else:
    collect_ignore_glob = ["test_*.py"]
