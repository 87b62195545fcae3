import io

import pytest

from infra.progress import StatusLine, no_progress, tell


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_terminal_gets_a_line_at_most_ten_times_a_second() -> None:
    stream, clock = Terminal(), Clock()
    line = StatusLine("render", stream, clock)
    for done in range(100):
        clock.now = 100 + done / 64
        line(done, 100)
    # From 0 to 99/64 s, in steps of 1/64 s: one at once, then every 7/64 s.
    assert stream.getvalue().count("\r") == 15
    line.close()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_line_is_no_wider_than_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    StatusLine("train", stream, Clock())(5, 10, "workers started 2 times, last from step 1,200")
    written = stream.getvalue().removeprefix("\r\x1b[K")
    assert len(written) == 39
    assert written.endswith("  workers started")


def test_a_file_gets_a_plain_line_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    line = StatusLine("render", stream, clock)
    for second in range(31):
        clock.now = 100.0 + second
        line(second * 50, 10_000)
    line.close()
    written = stream.getvalue().splitlines()
    assert len(written) == 3
    assert written[0].split() == ["render", "500/10,000", "50", "images/s", "3m10s", "left"]


@pytest.mark.parametrize(
    ("left_s", "text"), [(5, "0m05s"), (65, "1m05s"), (3600, "1h00m"), (7260, "2h01m")]
)
def test_time_left_is_told_in_minutes_or_hours(left_s: int, text: str) -> None:
    line = StatusLine("train", Terminal(), lambda: 0.0)
    line(0, 10 + left_s)
    assert line.text(10, 10 + left_s, now=10.0).endswith(f"  {text} left")


def test_there_is_no_rate_before_there_is_progress() -> None:
    line = StatusLine("train", io.StringIO(), lambda: 0.0)
    line(5, 10)
    assert line.text(5, 10, now=3.0).split() == ["train", "5/10"]


def test_a_note_stands_behind_the_time_left() -> None:
    stream, clock = Terminal(), Clock()
    line = StatusLine("prepare", stream, clock)
    line(0, 10, "0/2 shards, 0 rejects")
    assert stream.getvalue().endswith("0/10  0/2 shards, 0 rejects")


def test_no_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    no_progress(1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("stream", [Gone(), Full()])
def test_where_nothing_can_be_written_the_work_goes_on(stream: io.StringIO) -> None:
    clock = Clock()
    line = StatusLine("train", stream, clock)
    clock.now += 20
    line(5, 10)
    line.close()
    tell(stream, "train: going on")
