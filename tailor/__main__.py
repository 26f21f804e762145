"""`python -m tailor`, and what `torchrun -m tailor` starts in each process."""

from tailor.cli.main import run

run()
