"""Times left, with a clock that the test turns."""

import pytest

from mithridate import progress
from mithridate.progress import BETWEEN, FIRST, Progress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_nothing_is_said_at_first_and_then_now_and_again(clock):
    lines: list[str] = []
    counted = Progress("members", 1000, lines.append)
    clock.now += FIRST - 0.1
    counted.add(1)
    counted.share(0.5)
    assert lines == []
    clock.now += 0.1
    counted.add(1)
    assert len(lines) == 1
    clock.now += BETWEEN - 0.1
    counted.add(1)
    assert len(lines) == 1
    clock.now += 0.1
    counted.add(1)
    assert len(lines) == 2


def test_the_time_left_is_in_proportion_to_the_work_left(clock):
    lines: list[str] = []
    counted = Progress("members", 10, lines.append)
    clock.now += 20
    counted.add(2)
    clock.now += 20
    counted.share(2)
    clock.now += 10
    counted.add(3)
    assert lines == [
        "members: 2 of 10, about 80 s left",
        "members: 2 of 10, about 60 s left",  # 40 s for 4 of 10
        "members: 5 of 10, about 50 s left",
    ]


def test_members_without_work_do_not_distort_the_time_left(clock):
    lines: list[str] = []
    counted = Progress("members", 10, lines.append)
    counted.skip(6)
    clock.now += 30
    counted.add(1)
    assert lines == ["members: 7 of 10, about 90 s left"]  # 30 s for 1 of 4
    clock.now += 90
    counted.add(3)
    lines.clear()
    counted.finish()
    assert lines == ["members: 10 of 10 in 2 min (6 without work: finished before, or empty)"]


def test_before_anything_is_done_no_time_is_given(clock):
    lines: list[str] = []
    counted = Progress("members", 10, lines.append)
    counted.skip(4)
    clock.now += 30
    counted.share(0)
    assert lines == ["members: 4 of 10, just started"]


def test_a_report_goes_to_standard_error(clock, capsys):
    counted = Progress("members", 1)
    clock.now += 30
    counted.add(1)
    captured = capsys.readouterr()
    assert captured.err == "members: 1 of 1, about 0 s left\n"
    assert captured.out == ""


def test_durations_are_given_in_a_unit_that_fits():
    assert [duration(s) for s in (0.4, 99, 100, 5999, 6000, 36000)] == [
        "0 s",
        "99 s",
        "2 min",
        "100 min",
        "1.7 h",
        "10.0 h",
    ]
