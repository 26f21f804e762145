# `make check` is what CI runs before the tests; `make bench` rewrites benchmarks/results and docs/benchmarks.md.
.PHONY: check test slow bench demo papers docs audit

check:
	ruff check tailor tests benchmarks examples .ci
	ruff format --check tailor tests benchmarks examples .ci
	mypy tailor
	lint-imports
	python .ci/style.py
	tailor bench claims --check
	python .ci/dependencies.py

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

# Known weaknesses of the pinned packages. Asks an advisory service, which not every machine reaches: then it fails and says so. `check` does the same where one answers
# (.ci/dependencies.py), and says loudly where none does; a release wants this one.
audit:
	@python -c "import pip_audit" 2> /dev/null || { echo "make audit needs: pip install pip-audit"; exit 1; }
	python -m pip_audit -r constraints.txt --no-deps --disable-pip --strict

demo:
	tailor demo
