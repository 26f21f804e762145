"""Errors help, and stay short."""

from tailor.errors import nearest


def test_the_nearest_name_is_proposed():
    assert nearest("windw", ["window", "top_n"]) == ' Did you mean "window"?'


def test_few_names_are_listed_many_are_not():
    assert nearest("zzz", ["b", "a"]) == " Known: a, b."
    assert nearest("zzz", map(str, range(10_000))) == ""
    assert nearest("zzz", []) == ""
