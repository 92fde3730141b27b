import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import filelock
import pytest

from ingest.schedule import (
    BUSY,
    Cron,
    Every,
    Outcome,
    Schedule,
    Skip,
    State,
    Trigger,
    Watch,
    parse_cron,
    parse_every,
    read,
    run,
)
from rag_bot.errors import IndexBusy, RagBotError, Unavailable, UnreadableDocument, UsageError

BERLIN = ZoneInfo("Europe/Berlin")
START = 1_750_000_000.0
OK = Outcome("ok", "2 indexed")


class Clock:
    """Sleeping takes no time, and the hands move as if it had."""

    def __init__(self, wall: float = START) -> None:
        self.wall = wall

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.wall

    def sleep(self, seconds: float) -> None:
        self.wall += seconds


Job = Callable[[], Outcome]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., list[State]]:
    """Run a schedule for so many seconds of a fake clock. Returns each state it told."""

    def until(
        job: Job, seconds: float, trigger: Trigger | None = None, start: float = START
    ) -> list[State]:
        clock, told = Clock(start), list[State]()
        run(
            Schedule("docs", (Path("/docs"),), trigger or Every(60), ("--allow-removal",)),
            job,
            tmp_path,
            clock=clock,
            stop=lambda: clock.wall >= start + seconds,
            tell=told.append,
        )
        return told

    return until


Play = Callable[..., list[State]]


def failing(*errors: BaseException | None) -> Job:
    """A job that raises these one after the other, and is well where there is None."""
    left: Iterator[BaseException | None] = itertools.chain(errors, itertools.repeat(None))

    def job() -> Outcome:
        if error := next(left):
            raise error
        return OK

    return job


def file_of(folder: Path) -> Path:
    (file,) = (folder / "schedules").glob("*.json")
    return file


def at(text: str, zone: ZoneInfo, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


# Triggers


@pytest.mark.parametrize(
    ("text", "seconds", "again"),
    [
        ("30m", 1800, "every 30m"),
        ("10s", 10, "every 10s"),
        ("1h30m", 5400, "every 1h30m"),
        ("90m", 5400, "every 1h30m"),
        ("2d", 172_800, "every 2d"),
        ("1d2h3m4s", 93_784, "every 1d2h3m4s"),
        (" 366d ", 31_622_400, "every 366d"),
    ],
)
def test_an_interval_is_read_and_written(text: str, seconds: int, again: str) -> None:
    assert parse_every(text) == Every(seconds)
    assert parse_every(text).text == again


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "9s",
        "0m",
        "-5m",
        "1.5h",
        "m",
        "30 m",
        "30m1h",
        "5w",
        "10S",
        "367d",
        "٣٠m",
        "9" * 99,
    ],
)
def test_what_is_no_interval_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"not an interval .*2d; from 10s to") as caught:
        parse_every(text)
    assert f"--every {text}:" in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "0 fields, not five"),
        ("0 3 * *", "4 fields, not five"),
        ("*/5 * * * * *", "6 fields, not five"),
        ("@daily", "1 fields, not five"),
        ("60 3 * * *", "Bad minute"),
        ("0 3 * * MONDAY", "Bad day-of-week"),
        ("0 3 31 2 *", "Bad day-of-month"),
        ("0 3 30 2 */7#5", "Bad day-of-week"),
    ],
)
def test_what_is_no_cron_expression_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(UsageError, match="minute, hour, day of month") as caught:
        parse_cron(expression)
    assert f"--cron {expression!r}: {reason}" in str(caught.value)


def test_a_cron_day_that_never_comes_is_refused() -> None:
    with pytest.raises(UsageError, match="such a day never comes"):
        parse_cron("0 0 LW * */7")  # the last weekday, if it is a Sunday


def test_a_cron_expression_tells_its_next_time_in_its_zone() -> None:
    cron = parse_cron(" 0  3 * * MON-FRI", BERLIN)
    assert cron.text == "cron 0 3 * * MON-FRI (Europe/Berlin)"
    friday = at("2025-07-04T03:00", BERLIN)
    assert cron.next_after(friday - 0.5) == friday
    assert cron.next_after(friday) == at("2025-07-07T03:00", BERLIN)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_without_a_zone_a_cron_keeps_the_machines_own(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    with monkeypatch.context() as there:
        there.setenv("TZ", zone)
        time.tzset()
        for expression in ("30 2 * * *", "45 1-3 * * *", "*/30 * * * *"):
            own, named = parse_cron(expression), parse_cron(expression, ZoneInfo(zone))
            for day in range(366):
                when = at("2025-01-01T01:00", ZoneInfo("UTC")) + day * 86_400
                assert own.next_after(when) == named.next_after(when)
    time.tzset()


def test_the_next_time_is_always_later_and_none_is_left_out() -> None:
    for expression in ("30 2 * * *", "15,45 1-3 * * *", "*/20 * * * *", "0 0 * * *"):
        cron = parse_cron(expression, BERLIN)
        for day in ("2025-03-29T20:00", "2025-10-25T20:00"):
            start = at(day, BERLIN)
            nexts = [cron.next_after(start + n * 300) for n in range(12 * 30)]
            assert all(due > start + n * 300 for n, due in enumerate(nexts))
            assert nexts == sorted(nexts)
            dues = sorted(set(nexts))
            walked = [dues[0]]
            while len(walked) < len(dues):
                walked.append(cron.next_after(walked[-1]))
            assert walked == dues
            assert cron.passed(dues[0], dues[-1]) == (len(dues), dues[-2], dues[-1])


def test_dues_are_counted_up_to_now() -> None:
    assert Every(10).passed(100, 99) == (1, 100, 100)
    assert Every(10).passed(100, 109) == (1, 100, 100)
    assert Every(10).passed(100, 110) == (2, 100, 110)
    assert Every(10).passed(100, 139) == (4, 120, 130)
    quarters = Cron("*/15 * * * *", UTC)
    assert quarters.passed(0, 899) == (1, 0, 0)
    assert quarters.passed(0, 2700) == (4, 1800, 2700)


def test_too_many_dues_to_count_are_still_found_to_the_last() -> None:
    winter = Cron("* * 1 1 *", UTC)
    end = at("2095-03-01T00:00", ZoneInfo("UTC"))
    last = at("2095-01-01T23:59", ZoneInfo("UTC"))
    assert winter.passed(0, end) == (100_000, last - 60, last)


# What a schedule is


def test_a_schedule_is_the_same_however_its_paths_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "docs")
    a, b = tmp_path / "docs", tmp_path / "more"
    one = Schedule("docs", (a, b), Every(60))
    for paths in ((b, a), (Path("docs"), Path("more")), (Path("link"), b)):
        assert Schedule("docs", paths, Every(90), ("--allow-removal",)).id == one.id
    for other in (
        Schedule("other", (a, b), Every(60)),
        Schedule("docs", (a,), Every(60)),
        Schedule("docs", (a, b), parse_cron("0 3 * * *")),
        Schedule("docs", (a, b), Watch()),
    ):
        assert other.id != one.id


# Runs and what is told of them


def test_a_run_is_recorded(play: Play, tmp_path: Path) -> None:
    told = play(lambda: Outcome("in part", "3 indexed,\n1 failed"), 30)
    assert [state.live for state in told] == [True] * len(told)
    (state,) = read(tmp_path)
    assert (state.trigger, state.collection, state.paths) == ("every 1m", "docs", ("/docs",))
    assert state.options == ("--allow-removal",)
    assert (state.due, state.started, state.ended) == (START, START, START)
    assert (state.took, state.outcome, state.summary) == (0, "in part", "3 indexed, 1 failed")
    assert (state.next_due, state.skips, state.live) == (START + 60, (), False)
    assert state.id == file_of(tmp_path).stem


def test_a_run_that_goes_on_says_so(play: Play, tmp_path: Path) -> None:
    seen: list[State] = []

    def job() -> Outcome:
        seen.extend(read(tmp_path))
        return OK

    play(job, 30)
    (state,) = seen
    assert (state.started, state.ended, state.outcome, state.live) == (START, None, "", True)
    assert state.next_due == START + 60
    assert state.pid == os.getpid()


def test_the_file_is_for_the_owner_alone_and_names_no_document(play: Play, tmp_path: Path) -> None:
    error = UnreadableDocument("damaged", "/docs/secret.pdf is damaged", "mend secret.pdf")
    before = os.umask(0)
    try:
        play(failing(error), 30)
    finally:
        os.umask(before)
    file = file_of(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in file.read_text()
    assert "live" not in json.loads(file.read_text())
    (state,) = read(tmp_path)
    assert (state.outcome, state.summary) == ("failed", "damaged")
    assert sorted(each.suffix for each in file.parent.iterdir()) == [".json", ".lock"]


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (UsageError("no file or folder at /docs", "check the path"),) * 2,
        (Unavailable("the disk is full"), "the disk is full"),
        (ValueError("secret"), "broke: ValueError"),
    ],
)
def test_a_run_that_fails_does_not_end_the_schedule(
    play: Play, tmp_path: Path, error: Exception, summary: RagBotError | str
) -> None:
    told = play(failing(error), 90)
    (failed,) = [state for state in told if state.outcome == "failed" and state.due == START]
    assert failed.summary == str(summary)
    (state,) = read(tmp_path)
    assert (state.due, state.outcome) == (START + 60, "ok")


def test_a_busy_index_is_a_skip_and_the_last_run_stays_the_last(play: Play, tmp_path: Path) -> None:
    play(failing(None, IndexBusy("process 7 uses it"), IndexBusy("process 7 uses it")), 150)
    (state,) = read(tmp_path)
    assert (state.due, state.started, state.outcome) == (START, START, "ok")
    assert state.skips == (Skip(2, START + 60, START + 120, BUSY),)
    assert state.next_due == START + 180


def test_only_the_last_hundred_skips_are_kept(play: Play, tmp_path: Path) -> None:
    errors = [None if n % 2 else IndexBusy("busy") for n in range(204)]
    play(failing(*errors), 204 * 60)
    (state,) = read(tmp_path)
    assert len(state.skips) == 100
    assert state.skips[-1].first == START + 202 * 60


def test_an_interrupt_ends_it_and_the_run_is_made_again(play: Play, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(failing(KeyboardInterrupt()), 90)
    (state,) = read(tmp_path)
    assert (state.due, state.ended, state.live, state.pid) == (START, None, False, 0)
    told = play(failing(), 30, start=START + 10)
    assert (told[0].summary, told[-1].outcome) == ("", "ok")
    assert (told[-1].due, told[-1].started) == (START, START + 10)


def test_a_run_cut_off_is_told_as_failed_until_it_is_made_again(play: Play, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(failing(KeyboardInterrupt()), 90)
    play(failing(IndexBusy("busy")), 30, start=START + 10)
    (state,) = read(tmp_path)
    assert (state.outcome, state.summary) == (
        "failed",
        "cut off: the process ended during the run",
    )
    assert state.skips == (Skip(1, START, START, BUSY),)


def test_it_stops_when_told_to_without_a_run(play: Play, tmp_path: Path) -> None:
    play(failing(AssertionError("a run")), 0)
    (state,) = read(tmp_path)
    assert (state.started, state.next_due) == (None, START)


@pytest.mark.parametrize("later", [Every(60), Every(7200)])
def test_another_interval_begins_afresh(play: Play, later: Every) -> None:
    play(failing(), 10, Every(3600))
    last = play(failing(), 20, later, start=START + 10)[-1]
    assert (last.due, last.trigger) == (START + 10, later.text)


def test_another_cron_expression_waits_for_its_own_time(play: Play, tmp_path: Path) -> None:
    play(failing(), 10, parse_cron("0 * * * *", UTC))
    told = play(failing(), 10, parse_cron("0 3 * * *", UTC), start=START + 20)
    assert told[-1].next_due == parse_cron("0 3 * * *", UTC).next_after(START)
    assert told[-1].started is None


def test_a_new_trigger_still_makes_up_for_what_the_old_one_missed(play: Play) -> None:
    play(failing(), 10, parse_cron("0 * * * *", UTC))
    told = play(failing(), 10, parse_cron("30 * * * *", UTC), start=START + 7200)
    assert told[-1].outcome == "ok"


# Its file


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        b'{"id": "x", "trigger": "every 1m", "collection": "docs"}',
        {"next_due": "soon"},
        {"next_due": float("nan")},
        {"next_due": 1e300},
        {"started": -1},
        {"skips": [{"count": 1}]},
        {"outcome": "splendid"},
    ],
)
def test_a_damaged_file_is_set_aside_and_named(
    play: Play, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes | dict[str, Any]
) -> None:
    play(failing(), 10)
    file = file_of(tmp_path)
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    broken = file.read_bytes()
    assert read(tmp_path) == []
    assert f"{file} is damaged" in caplog.text
    aside = file.with_name(file.name + ".damaged")
    assert aside.read_bytes() == broken

    aside.replace(file)
    told = play(failing(), 10, start=START + 20)
    assert told[-1].due == START + 20
    assert aside.read_bytes() == broken
    assert len(read(tmp_path)) == 1


def test_a_file_that_cant_be_written_does_not_end_the_schedule(
    play: Play, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []

    def job() -> Outcome:
        runs.append(1)
        if len(runs) == 1:
            (tmp_path / "schedules").rename(tmp_path / "gone")
            (tmp_path / "schedules").write_text("in the way")
        if len(runs) == 3:
            (tmp_path / "schedules").unlink()
            (tmp_path / "gone").rename(tmp_path / "schedules")
        return OK

    play(job, 150)
    assert "can't be written" in caplog.text
    assert read(tmp_path)[0].due == START + 120


def test_a_data_directory_that_cant_be_used_is_refused_at_the_start(
    play: Play, tmp_path: Path
) -> None:
    (tmp_path / "schedules").write_text("in the way")
    with pytest.raises(Unavailable, match=r"schedules.*can't be written"):
        play(failing(), 10)


def test_where_nothing_was_scheduled_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read(tmp_path / "data") == []
    assert not (tmp_path / "data").exists()


def test_all_schedules_are_read_in_order(tmp_path: Path) -> None:
    for collection, path in (("b", "/x"), ("a", "/y"), ("a", "/x")):
        run(
            Schedule(collection, (Path(path),), Every(60)),
            failing(),
            tmp_path,
            stop=lambda: True,
        )
    assert [(s.collection, *s.paths) for s in read(tmp_path)] == [
        ("a", "/x"),
        ("a", "/y"),
        ("b", "/x"),
    ]


def test_a_path_in_no_encoding_is_kept_as_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"/docs/\xff"))
    over = iter([False, True])
    run(
        Schedule("docs", (path,), Every(60), (f"--note={path}",)),
        failing(UsageError(f"no file or folder at {path}")),
        tmp_path,
        stop=lambda: next(over),
    )
    (state,) = read(tmp_path)
    assert state.paths == ("/docs/\\xff",)
    assert "no file or folder at /docs/" in state.summary


def test_a_schedule_is_held_by_one_at_a_time(play: Play, tmp_path: Path) -> None:
    def job() -> Outcome:
        with pytest.raises(Unavailable, match=f"process {os.getpid()} has this schedule"):
            play(failing(), 10)
        play(failing(), 10, parse_cron("* * * * *", UTC))  # another schedule
        return OK

    play(job, 10)
    assert [state.outcome for state in read(tmp_path)] == ["", "ok"]


def test_a_look_at_the_lock_does_not_turn_a_beginner_away(play: Play, tmp_path: Path) -> None:
    play(failing(), 10)
    lock = filelock.FileLock(file_of(tmp_path).with_suffix(".lock"), thread_local=False)
    lock.acquire()
    threading.Timer(0.2, lock.release).start()
    assert play(failing(), 100)[-1].due == START + 60


# Watching


class Impatient(Clock):
    """Tells the real time, but sleeps in none: a busy index is tried again at once."""

    def now(self) -> float:
        return time.time()


def test_watching_runs_at_once_and_after_each_change(tmp_path: Path) -> None:
    docs, data = tmp_path / "docs", tmp_path / "docs" / "data"
    data.mkdir(parents=True)
    told: list[State] = []
    runs: list[float] = []
    errors = iter([None, None, IndexBusy("busy"), IndexBusy("busy"), None])

    def job() -> Outcome:
        runs.append(time.monotonic())
        if len(runs) <= 2:
            # Seen though it comes while a run goes on.
            (docs / f"{len(runs)}.txt").write_text("x")
        if error := next(errors):
            raise error
        return OK

    clock = Impatient(0)
    over = time.monotonic() + 20
    run(
        Schedule("docs", (docs,), Watch(quiet=0.2)),
        job,
        data,
        clock=clock,
        stop=lambda: len(runs) >= 5 or time.monotonic() > over,
        tell=told.append,
    )
    assert len(runs) == 5
    assert clock.wall == 60
    (state,) = read(data)
    assert (state.trigger, state.next_due, state.outcome) == ("watch", None, "ok")
    (skip,) = state.skips
    assert (skip.count, skip.reason) == (2, BUSY)
    assert skip.first < skip.last < (state.started or 0)


def test_a_watch_that_was_cut_off_has_no_time_it_is_due(tmp_path: Path) -> None:
    schedule = Schedule("docs", (tmp_path / "docs",), Watch(quiet=0.1))
    with pytest.raises(KeyboardInterrupt):
        run(schedule, failing(KeyboardInterrupt()), tmp_path / "data")
    run(schedule, failing(), tmp_path / "data", stop=lambda: True)
    (state,) = read(tmp_path / "data")
    assert (state.next_due, state.outcome) == (None, "failed")


def test_it_stops_while_it_waits_for_a_busy_index(tmp_path: Path) -> None:
    clock = Impatient(0)
    run(
        Schedule("docs", (tmp_path,), Watch(quiet=0.1)),
        failing(IndexBusy("busy")),
        tmp_path / "data",
        clock=clock,
        stop=lambda: clock.wall > 0,
    )
    assert 0 < clock.wall < 30
