"""Acts of people on their own data, by their own link, noted as theirs."""

from tailor.service.state import Service
from tailor.store.keys import Person


def note_act(service: Service, who: Person, act: str) -> None:
    """Note that a person did something to the own data."""
