"""Promise: the scheduler under a clock that jumps, daylight saving, overruns, restarts and two
processes keeps at most one run going, makes one catch-up run, and records every skip."""

import itertools
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.schedule import (
    ALREADY_RUN,
    ASLEEP,
    NOT_RUNNING,
    STILL_RUNNING,
    Cron,
    Every,
    Outcome,
    Schedule,
    Skip,
    State,
    parse_cron,
    parse_every,
    read,
    run,
)

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, HOUR, DAY, YEAR = 60.0, 3600.0, 86_400.0, 365 * 86_400.0
OK = Outcome("ok", "nothing new")


class Killed(BaseException):
    """The process is gone: nothing catches it."""


class FakeClock:
    """A clock whose hands are moved by sleeping, and at given moments by somebody else.

    `jumps` are seconds of real time and how far the hands jump then; `kill_at` is a moment of
    real time at which the process dies.
    """

    def __init__(self, start: float, jumps: dict[float, float] | None = None) -> None:
        self.wall = start
        self.elapsed = 0.0
        self.jumps = dict(jumps or {})
        self.kill_at = float("inf")
        self.longest_sleep = 0.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.longest_sleep = max(seconds, self.longest_sleep)
        self.let_pass(seconds)

    def let_pass(self, seconds: float) -> None:
        end = min(self.elapsed + seconds, self.kill_at)
        self.wall += end - self.elapsed
        self.elapsed = end
        for at in [at for at in self.jumps if at <= end]:
            self.wall += self.jumps.pop(at)
        if self.elapsed == self.kill_at:
            raise Killed


class Play:
    """A schedule played against a fake clock; `runs` are real times, `dues` what they were for."""

    def __init__(self, folder: Path, trigger: Every | Cron, clock: FakeClock) -> None:
        self.folder = folder
        self.clock = clock
        self.schedule = Schedule("docs", (Path("/docs"),), trigger)
        self.runs: list[float] = []
        self.walls: list[float] = []
        self.dues: list[float] = []
        self.heard: list[State] = []
        self.going = 0
        self.durations: Iterator[float] = itertools.repeat(0.0)

    def until(self, elapsed: float) -> State:
        """Play to a moment of real time, and tell the state as it stands in the file."""
        run(
            self.schedule,
            self._job,
            self.folder,
            clock=self.clock,
            stop=lambda: self.clock.elapsed >= elapsed,
            tell=self._hear,
        )
        return self.state

    def die_at(self, elapsed: float) -> None:
        """Play to a moment of real time at which the process is killed."""
        self.clock.kill_at = elapsed
        with pytest.raises(Killed):
            self.until(elapsed + YEAR)
        self.clock.kill_at = float("inf")
        self.heard.clear()

    @property
    def state(self) -> State:
        (state,) = read(self.folder)
        return state

    @property
    def skips(self) -> list[Skip]:
        return list(self.state.skips)

    def _job(self) -> Outcome:
        assert self.going == 0, "two at once"
        self.going += 1
        self.runs.append(self.clock.elapsed)
        self.walls.append(self.clock.wall)
        try:
            self.clock.let_pass(next(self.durations))
        finally:
            self.going -= 1
        return OK

    def _hear(self, state: State) -> None:
        before = self.heard[-1] if self.heard else None
        if before and before.started is not None and before.ended is None:
            assert state.ended is not None
            assert state.due is not None
            self.dues.append(state.due)
        self.heard.append(state)


Begin = Callable[..., Play]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    def make(trigger: Every | Cron, start: float, jumps: dict[float, float] | None = None) -> Play:
        return Play(tmp_path, trigger, FakeClock(start, jumps))

    return make


def at(text: str, zone: ZoneInfo | None = None) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


NOON = at("2025-05-05T12:00")


# As it should go


def test_an_interval_runs_at_once_and_then_each_time(begin: Begin) -> None:
    play = begin(parse_every("30m"), NOON)
    state = play.until(2 * HOUR)
    assert play.runs == [0, 1800, 3600, 5400]
    assert state.next_due == NOON + 7200
    assert (state.skips, state.outcome, state.summary) == ((), "ok", "nothing new")


def test_a_cron_waits_for_its_first_time(begin: Begin) -> None:
    play = begin(parse_cron("0 3 * * *", UTC), NOON)
    play.until(2 * DAY)
    assert play.runs == [15 * HOUR, 39 * HOUR]
    assert play.skips == []


def test_it_never_sleeps_past_a_jump_by_more_than_half_a_minute(begin: Begin) -> None:
    play = begin(parse_cron("0 3 * * *", UTC), NOON, {100.0: 14 * HOUR})
    play.until(2 * HOUR)
    assert play.clock.longest_sleep <= 30
    assert play.runs == pytest.approx([HOUR], abs=30)


# A clock set back

DAILY_AND_HOURLY = pytest.mark.parametrize(
    ("trigger", "interval"), [(parse_cron("0 3 * * *", UTC), DAY), (parse_every("1h"), HOUR)]
)


@pytest.mark.parametrize("moment", [600.0, 3600.0])
def test_an_hour_back_does_not_stall_an_interval(begin: Begin, moment: float) -> None:
    play = begin(parse_every("30m"), NOON, {moment: -HOUR})
    play.until(3 * HOUR)
    after = [run for run in play.runs if run > moment]
    assert after[0] == pytest.approx(moment + 1800, abs=30)
    assert {later - sooner for sooner, later in itertools.pairwise(after)} == {1800}
    assert play.skips == []


def test_an_hour_back_runs_no_daily_time_twice(begin: Begin) -> None:
    play = begin(parse_cron("0 3 * * *", UTC), at("2025-05-05T02:59"), {300.0: -HOUR})
    play.until(26 * HOUR)
    three = at("2025-05-05T03:00")
    assert play.dues == [three, three + DAY]
    assert play.skips == [Skip(1, three, three, ALREADY_RUN)]


def test_an_hour_back_skips_the_quarters_that_ran_and_goes_on_after_them(begin: Begin) -> None:
    play = begin(parse_cron("*/15 * * * *", UTC), NOON, {7 * 900.0 + 60: -HOUR})
    play.until(4 * HOUR)
    assert play.dues == [NOON + n * 900 for n in range(1, 12)]
    assert play.skips == [Skip(4, NOON + 4 * 900, NOON + 7 * 900, ALREADY_RUN)]


def test_a_day_back_is_a_correction_and_no_reason_to_wait_a_day(begin: Begin) -> None:
    play = begin(parse_cron("*/15 * * * *", UTC), NOON, {30 * HOUR + 60: -DAY})
    play.until(31 * HOUR)
    assert [run for run in play.runs if run > 30 * HOUR + 60] == [
        30 * HOUR + n * 900 for n in (1, 2, 3)
    ]
    assert play.skips == []


@DAILY_AND_HOURLY
def test_a_clock_five_years_ahead_and_put_right_does_not_stall(
    begin: Begin, trigger: Every | Cron, interval: float
) -> None:
    play = begin(trigger, NOON, {100.0: 5 * YEAR, 1000.0: -5 * YEAR})
    play.until(1000 + interval + 60)
    assert [run for run in play.runs if 100 <= run < 1000]
    assert [run for run in play.runs if run > 1000]


@DAILY_AND_HOURLY
def test_a_clock_set_back_while_nothing_ran_does_not_stall(
    begin: Begin, trigger: Every | Cron, interval: float
) -> None:
    play = begin(trigger, NOON + YEAR)
    play.until(60)
    play.clock.wall = NOON
    play.until(60 + interval + 60)
    assert [run for run in play.runs if run > 60]


# A clock set forward, or a machine that slept


def test_a_day_forward_is_one_catch_up_and_one_entry_of_skips(begin: Begin) -> None:
    play = begin(parse_every("10m"), NOON, {700.0: DAY})
    play.until(HOUR)
    assert len(play.runs) == 7
    assert play.runs[2] == pytest.approx(700, abs=30)
    assert play.dues[2] == NOON + DAY + 600
    assert play.skips == [Skip(143, NOON + 1200, NOON + DAY, ASLEEP)]


def test_a_day_forward_makes_up_for_a_daily_time_once(begin: Begin) -> None:
    play = begin(parse_cron("0 */6 * * *", UTC), NOON, {HOUR: DAY})
    play.until(2 * HOUR)
    assert play.dues == [NOON + DAY]
    assert play.skips == [Skip(3, NOON + 6 * HOUR, NOON + 18 * HOUR, ASLEEP)]


def test_a_year_of_ten_seconds_is_one_run_and_one_entry(begin: Begin) -> None:
    play = begin(parse_every("10s"), NOON, {15.0: YEAR})
    play.until(19)
    assert len(play.runs) == 3
    assert play.skips == [Skip(int(YEAR) // 10 - 1, NOON + 20, NOON + YEAR, ASLEEP)]


def test_a_clock_decades_ahead_neither_stalls_nor_floods(begin: Begin) -> None:
    play = begin(parse_cron("* * * * *", UTC), NOON, {90.0: 75 * YEAR})
    begun = time.process_time()
    play.until(100)
    assert time.process_time() - begun < 20
    assert play.dues == [NOON + 60, NOON + 75 * YEAR + 60]
    assert play.skips == [Skip(99_999, NOON + 120, NOON + 75 * YEAR, ASLEEP)]


# Daylight saving


@pytest.mark.parametrize("month", ["2025-03-28", "2025-10-24"])
def test_a_nightly_time_comes_once_each_night(begin: Begin, month: str) -> None:
    play = begin(parse_cron("30 2 * * *", BERLIN), at(f"{month}T12:00", BERLIN))
    play.until(5 * DAY)
    nights = [datetime.fromtimestamp(due, BERLIN) for due in play.dues]
    assert len(nights) == 5
    assert len({night.date() for night in nights}) == 5
    shown = [f"{night:%H:%M}" for night in nights]
    assert shown == ["02:30", "02:30" if "10" in month else "03:00", "02:30", "02:30", "02:30"]
    assert play.skips == []


def test_a_restart_in_the_hour_that_comes_twice_does_not_run_again(begin: Begin) -> None:
    play = begin(parse_cron("30 2 * * *", BERLIN), at("2025-10-26T02:00", BERLIN))
    for quarter in range(1, 9):
        play.until(quarter * 900)
    assert [datetime.fromtimestamp(due, BERLIN).fold for due in play.dues] == [0]
    assert play.skips == []


@pytest.mark.parametrize("day", ["2025-03-30", "2025-10-26"])
def test_an_interval_does_not_mind_daylight_saving(begin: Begin, day: str) -> None:
    play = begin(parse_every("1h"), at(f"{day}T00:00", BERLIN))
    play.until(6 * HOUR)
    assert play.runs == [n * HOUR for n in range(6)]


# Overruns


@pytest.mark.parametrize("trigger", [parse_every("30m"), parse_cron("*/30 * * * *", UTC)])
def test_a_run_that_takes_too_long_skips_what_it_covers(
    begin: Begin, trigger: Every | Cron
) -> None:
    play = begin(trigger, NOON - 1 if isinstance(trigger, Cron) else NOON)
    play.durations = itertools.chain([70 * MINUTE], itertools.repeat(60.0))
    state = play.until(2.6 * HOUR)
    assert play.dues == [NOON, NOON + 1.5 * HOUR, NOON + 2 * HOUR, NOON + 2.5 * HOUR]
    assert state.skips == (Skip(2, NOON + 0.5 * HOUR, NOON + HOUR, STILL_RUNNING),)
    assert state.took == 60


def test_a_duration_is_right_though_the_clock_jumps_in_it(begin: Begin) -> None:
    play = begin(parse_every("1h"), NOON, {60.0: -HOUR})
    play.durations = iter([120.0])
    state = play.until(300)
    assert state.took == 120


# Restarts


@pytest.mark.parametrize("trigger", [parse_every("1h"), parse_cron("0 * * * *", UTC)])
def test_what_was_missed_is_made_up_for_once(begin: Begin, trigger: Every | Cron) -> None:
    play = begin(trigger, NOON - 1 if isinstance(trigger, Cron) else NOON)
    play.until(10)
    play.clock.let_pass(4.5 * HOUR)
    play.until(play.clock.elapsed + HOUR)
    assert play.dues == [NOON, NOON + 4 * HOUR, NOON + 5 * HOUR]
    assert play.runs[1] == pytest.approx(4.5 * HOUR + 10, abs=6)
    assert play.skips == [Skip(3, NOON + HOUR, NOON + 3 * HOUR, NOT_RUNNING)]


def test_a_restart_before_anything_was_due_waits_for_the_next(begin: Begin) -> None:
    play = begin(parse_every("1h"), NOON)
    for minute in range(10, 70, 10):
        play.until(minute * MINUTE)
    assert play.runs == [0]
    play.until(61 * MINUTE)
    assert play.runs == [0, HOUR]
    assert play.skips == []


def test_one_missed_time_is_run_and_nothing_skipped(begin: Begin) -> None:
    play = begin(parse_cron("0 3 * * *", UTC), NOON)
    play.until(10)
    play.clock.let_pass(20 * HOUR)
    play.until(play.clock.elapsed + 60)
    assert play.dues == [NOON + 15 * HOUR]
    assert play.skips == []


def test_a_run_that_was_killed_is_made_again_at_once(begin: Begin) -> None:
    play = begin(parse_cron("0 3 * * *", UTC), NOON)
    play.durations = iter([HOUR, 60.0])
    play.die_at(15.5 * HOUR)
    assert (play.state.started, play.state.ended) == (NOON + 15 * HOUR, None)
    state = play.until(16 * HOUR)
    assert play.runs == [15 * HOUR, 15.5 * HOUR]
    assert state.started == NOON + 15.5 * HOUR
    assert (state.due, state.outcome, state.skips) == (NOON + 15 * HOUR, "ok", ())


def test_a_killed_run_gives_way_to_a_later_one_that_is_due(begin: Begin) -> None:
    play = begin(parse_every("1h"), NOON)
    play.durations = iter([600.0, 0.0])
    play.die_at(300)
    play.clock.let_pass(3 * HOUR)
    state = play.until(play.clock.elapsed + 60)
    assert state.due == NOON + 3 * HOUR
    assert state.skips == (Skip(3, NOON, NOON + 2 * HOUR, NOT_RUNNING),)


# Two processes

PROGRAM = """
import signal, sys
from pathlib import Path
from ingest.schedule import Outcome, Schedule, parse_every, run
from rag_bot.errors import Unavailable

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

def job():
    print("run", flush=True)
    return Outcome("ok", "nothing new")

try:
    run(Schedule("docs", (Path("/docs"),), parse_every("1h")), job, Path(sys.argv[1]))
except Unavailable as error:
    print(error, flush=True)
    sys.exit(error.exit_status)
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    # Quiet about the interrupt that ends it.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_by_name_until_the_first_is_gone(tmp_path: Path) -> None:
    first = start(tmp_path)
    try:
        assert said(first) == "run"
        (state,) = read(tmp_path)
        assert (state.live, state.pid) == (True, first.pid)
        second = start(tmp_path)
        assert f"process {first.pid} has this schedule already" in said(second)
        assert second.wait(60) == 3
    finally:
        first.kill()
        first.wait()
    (state,) = read(tmp_path)
    assert not state.live

    # kill -9 let go of the lock, and the next process knows what had run.
    third = start(tmp_path)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and read(tmp_path)[0].pid != third.pid:
            time.sleep(0.1)
        assert read(tmp_path)[0].live
        time.sleep(0.5)
        third.send_signal(signal.SIGINT)
        assert third.communicate(timeout=60)[0] == ""
    finally:
        third.kill()
        third.wait()
    assert not read(tmp_path)[0].live


def test_of_four_that_start_together_one_runs(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(4)]
    try:
        words = {process.pid: said(process) for process in processes}
        (live,) = [pid for pid, word in words.items() if word == "run"]
        del words[live]
        assert all(f"process {live} has" in word for word in words.values())
    finally:
        for process in processes:
            process.kill()
            process.wait()


# Anything at all

TRIGGERS: dict[str, tuple[Every | Cron, float]] = {
    "10m": (parse_every("10m"), 10 * MINUTE),
    "1h30m": (parse_every("1h30m"), 90 * MINUTE),
    "*/20": (parse_cron("*/20 * * * *", UTC), 20 * MINUTE),
    "5 */2": (parse_cron("5 */2 * * *", UTC), 2 * HOUR),
}


def dues_of(kind: str, start: float, end: float) -> list[float]:
    """The dues from `start` on and before `end`, found by trying every minute."""
    minutes = (start + n * MINUTE for n in range(int((end - start) // MINUTE) + 1))
    tests: dict[str, Callable[[float], bool]] = {
        "10m": lambda t: (t - start) % 600 == 0,
        "1h30m": lambda t: (t - start) % 5400 == 0,
        "*/20": lambda t: t > start and t // 60 % 20 == 0,
        "5 */2": lambda t: t > start and t // 60 % 120 == 5,
    }
    return [minute for minute in minutes if tests[kind](minute) and minute < end]


MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Thousands of runs, and a disk is slow to say that each is safe on it."""

DURATIONS = st.lists(
    st.sampled_from([0.0, 1.0, 60.0, 600.0, 1800.0, 3601.0, 9000.0]), min_size=1, max_size=6
)
GAPS = st.integers(1, 2 * 3600).map(float)
ENDS = st.sampled_from(["stopped", "killed"])
EASY = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def played(
    kind: str,
    durations: list[float],
    lives: list[tuple[float, str, float]],
    jumps: dict[float, float],
) -> Play:
    """Lives of a process one after the other: how long, how it ended, and how long until the next.

    After the last it goes on undisturbed for long enough that something must run.
    """
    trigger, interval = TRIGGERS[kind]
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        play = Play(Path(name), trigger, FakeClock(NOON, jumps))
        play.durations = itertools.cycle(durations)
        for length, end, pause in lives:
            until = play.clock.elapsed + length
            if end == "killed":
                play.die_at(until)
            else:
                play.until(until)
            play.clock.let_pass(pause)
        play.clock.jumps.clear()
        begun = len(play.runs)
        state = play.until(play.clock.elapsed + 3 * HOUR + 2 * interval + 1)
        assert len(play.runs) > begun, "it stands still"
        assert state.next_due is not None
        assert state.next_due - play.clock.wall <= interval
    return play


@EASY
@given(
    st.sampled_from(list(TRIGGERS)),
    DURATIONS,
    st.lists(st.tuples(GAPS, ENDS, GAPS), max_size=4),
    st.dictionaries(st.integers(1, 20_000).map(float), st.integers(1, 200_000), max_size=3),
)
def test_every_due_either_ran_or_was_skipped(
    kind: str,
    durations: list[float],
    lives: list[tuple[float, str, float]],
    jumps: dict[float, float],
) -> None:
    play = played(kind, durations, lives, jumps)
    dues = dues_of(kind, NOON, play.heard[-1].next_due or 0)
    skipped: list[float] = []
    for skip in play.heard[-1].skips:
        covered = [due for due in dues if skip.first <= due <= skip.last]
        assert len(covered) == skip.count, skip
        assert {skip.first, skip.last} <= set(covered)
        skipped += covered
    assert sorted(play.dues + skipped) == dues


@EASY
@given(
    st.sampled_from(list(TRIGGERS)),
    DURATIONS,
    st.lists(st.tuples(GAPS, ENDS, GAPS), max_size=4),
    st.dictionaries(st.integers(1, 20_000).map(float), st.integers(-100_000, 100_000), max_size=5),
)
def test_a_clock_may_do_what_it_likes(
    kind: str,
    durations: list[float],
    lives: list[tuple[float, str, float]],
    jumps: dict[float, float],
) -> None:
    play = played(kind, durations, lives, jumps)
    _, interval = TRIGGERS[kind]
    most = play.clock.elapsed / interval + len(jumps) + 2 * len(lives) + 2
    assert len(play.runs) <= most


@EASY
@given(
    st.sampled_from(["*/20", "5 */2"]),
    DURATIONS,
    st.lists(st.tuples(GAPS, st.just("stopped"), GAPS), max_size=3),
    st.dictionaries(st.integers(1, 20_000).map(float), st.integers(-3600, 0), max_size=3),
)
def test_no_time_of_a_cron_is_run_twice(
    kind: str,
    durations: list[float],
    lives: list[tuple[float, str, float]],
    jumps: dict[float, float],
) -> None:
    play = played(kind, durations, lives, jumps)
    assert len(set(play.dues)) == len(play.dues)
