# `make check` is what CI runs before the tests; `make bench` rewrites benchmarks/results and docs/benchmarks.md.
.PHONY: check test slow bench demo papers docs

check:
	ruff check tailor tests benchmarks examples
	ruff format --check tailor tests benchmarks examples
	mypy tailor
	lint-imports
	tailor bench claims --check

test:
	pytest

slow:
	pytest -m slow -n 1

bench:
	python benchmarks/accuracy.py
	python benchmarks/budgets.py
	python benchmarks/tables.py

papers:
	tailor bench papers
	python benchmarks/recommenders_page.py

docs:
	mkdocs build --strict

demo:
	tailor demo
