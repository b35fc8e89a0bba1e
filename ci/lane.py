"""Runs many cases in processes that may fail, die or hang: what one breaks, the others do not see.

    python ci/lane.py SECONDS JOBS LOG COMMAND...

`COMMAND start step` does every step-th case from one on. It says "begin INDEX NAME" before each and
"end INDEX SECONDS MESSAGE" after it, the message empty where all is right. A process that dies is
begun again behind the case it died of; a case that takes too long is ended. The last line says how
many cases were right, how many wrong and how many time was left for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

LONGEST = 90.0  # seconds of one case
TAIL = 12  # lines of a dead process that are shown


class Report:
    """What became of the cases, as it happens."""

    def __init__(self, log: Path) -> None:
        self.lock = threading.Lock()
        self.log = log.open("w")
        self.right = self.wrong = self.unknown = 0

    def say(self, text: str) -> None:
        with self.lock:
            print(text, flush=True)
            print(text, file=self.log, flush=True)

    def case(self, name: str, seconds: str, message: str) -> None:
        with self.lock:
            print(f"{'WRONG' if message else 'right'} {name} {seconds} s {message}", file=self.log)
            self.right, self.wrong = self.right + (not message), self.wrong + bool(message)
        if message:
            print(f"WRONG {name}: {message}", flush=True)


class Part(threading.Thread):
    """Every step-th case from one on, in one process after the other."""

    def __init__(
        self, command: Sequence[str], start: int, step: int, end: float, report: Report
    ) -> None:
        super().__init__()
        self.command, self.start_at, self.step = command, start, step
        self.end, self.report = end, report
        self.child: subprocess.Popen[str] | None = None
        self.since = time.monotonic()

    def run(self) -> None:
        following: int | None = self.start_at
        while following is not None and time.monotonic() < self.end:
            following = self.process(following)

    def process(self, start: int) -> int | None:
        """One process; the case to go on with if it died."""
        self.since = time.monotonic()
        self.child = subprocess.Popen(
            [*self.command, str(start), str(self.step)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        tail = deque[str](maxlen=TAIL)
        current: tuple[int, str] | None = None
        last: int | None = None
        assert self.child.stdout is not None
        with self.child.stdout as told:
            for line in told:
                word, _, rest = line.rstrip("\n").partition(" ")
                if word == "begin":
                    index, _, name = rest.partition(" ")
                    current, self.since = (int(index), name), time.monotonic()
                    tail.clear()
                elif word == "end" and current:
                    _, seconds, message = (*rest.split(" ", 2), "")[:3]
                    self.report.case(current[1], seconds, message)
                    last = current[0]
                    current = None
                else:
                    tail.append(line.rstrip())
        code = self.child.wait()
        if code == 0:
            return None
        if time.monotonic() >= self.end:
            with self.report.lock:
                self.report.unknown += 1
            return None
        how = f"ended with {code}: " + " | ".join(tail)
        if current:
            self.report.case(current[1], "?", how)
            return current[0] + self.step
        if last is None:
            self.report.case(f"the process that begins with case {start}", "?", how)
            return None
        return last + self.step  # it gave up when the last case was told

    def watch(self) -> None:
        """End a process whose time is over."""
        now = time.monotonic()
        over = now > self.end or now - self.since > LONGEST
        if over and self.child and self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)


def main(seconds: str, jobs: str, log: str, *command: str) -> int:
    report = Report(Path(log))
    end = time.monotonic() + float(seconds)
    parts = [Part(command, k, int(jobs), end, report) for k in range(int(jobs))]
    for part in parts:
        part.start()
    while any(part.is_alive() for part in parts):
        for part in parts:
            part.watch()
        time.sleep(0.2)
    over = f"; {report.unknown} of {jobs} processes ran out of time" if report.unknown else ""
    report.say(f"{report.right} cases are right, {report.wrong} wrong{over}")
    report.log.close()
    return int(bool(report.wrong or not report.right))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
