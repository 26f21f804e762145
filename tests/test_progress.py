"""Progress bars: one at a time, from any thread, and always given back."""

import io
import sys
import threading

import pytest

from tailor.progress import TerminalProgress, silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_on(monkeypatch):
    """Standard error becomes a terminal; in the test itself, since capturing sets it anew."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_steps_come_through_unchanged_with_and_without_a_terminal(monkeypatch):
    terminal = terminal_on(monkeypatch)
    assert list(silent(range(3), "x")) == [0, 1, 2]
    assert list(TerminalProgress()(iter("abc"), lambda: "letters")) == ["a", "b", "c"]
    assert "letters" in terminal.getvalue()


def test_a_loop_within_a_loop_shows_the_outer_bar_only(monkeypatch):
    terminal = terminal_on(monkeypatch)
    progress = TerminalProgress()
    for _ in progress(range(2), "outer"):
        assert list(progress(range(3), "inner")) == [0, 1, 2]
    assert "outer" in terminal.getvalue() and "inner" not in terminal.getvalue()


def test_a_loop_that_fails_or_is_left_gives_the_bar_back(monkeypatch):
    terminal = terminal_on(monkeypatch)
    progress = TerminalProgress()
    with pytest.raises(ZeroDivisionError):
        list(progress((1 / number for number in (1, 0)), "failing"))
    for _ in progress(range(2), "left"):
        break
    list(progress(range(2), "afterwards"))
    assert "afterwards" in terminal.getvalue()


def test_many_threads_share_one_bar(monkeypatch):
    terminal_on(monkeypatch)
    progress, totals, errors = TerminalProgress(), [], []

    def work():
        try:
            totals.append(sum(progress(range(200), "working")))
        except BaseException as error:  # rich allows one live display only
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and totals == [sum(range(200))] * 8
