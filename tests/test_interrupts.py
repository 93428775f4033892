"""Ctrl-C and SIGTERM: where they strike, and what a second one does."""

import os
import signal
import threading

import pytest

from automl.interrupts import Interrupted, Interrupts


@pytest.fixture
def interrupts():
    taken = Interrupts()
    taken.start()
    yield taken
    taken.stop()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_strikes_at_once_where_it_may(interrupts, number, code):
    with pytest.raises(Interrupted) as interrupted, interrupts:
        os.kill(os.getpid(), number)
        pytest.fail("it went on")
    assert interrupted.value.exit_code == code
    assert isinstance(interrupted.value, KeyboardInterrupt)


def test_elsewhere_it_waits_for_the_next_place_where_it_may(interrupts):
    with interrupts:
        pass
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted), interrupts:
        pytest.fail("it went on")


def test_a_second_signal_within_ten_seconds_ends_at_once(interrupts, monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    os.kill(os.getpid(), signal.SIGINT)
    assert ended == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert ended == [143]


def test_a_second_signal_much_later_is_a_first_again(interrupts, monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("it ended"))
    os.kill(os.getpid(), signal.SIGINT)
    interrupts._at -= 11
    os.kill(os.getpid(), signal.SIGINT)


def test_signals_are_given_back():
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    interrupts.start()
    assert signal.getsignal(signal.SIGINT) != before
    interrupts.stop()
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_of_the_main_thread_no_signal_is_taken():
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=Interrupts().start)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) == before
