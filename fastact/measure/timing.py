"""Interleaved timing: each round runs every competitor once, so that drift hits all alike.

A machine's clock, its caches and its other tenants change within seconds. Timed one after the
other, two competitors meet two different machines; timed in alternation they meet the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from fastact.measure.work import Work

Key = TypeVar("Key")

ROUNDS = 15
BATCH_SECONDS = 1e-3  # one sample: long against the timer's resolution, short against drift
BUDGET_SECONDS = 3.0  # for all rounds of one comparison
LEAST_ROUNDS = 5
# A call shorter than this is preceded by one that warms caches and threads. Threads of the
# competitor before it may still turn, waiting for work: for milliseconds, on the same cores.
WARM_BELOW = 50e-3


@dataclass
class Sampler:
    """One competitor: its loop, how many turns of it make one sample, and how long that takes."""

    work: Work
    run: Callable[[int], float]
    turns: int
    each: float

    @classmethod
    def calibrate(cls, work: Work, batch: float) -> Sampler:
        """Run a few times, growing, to learn how many turns fill a batch."""
        run = work.loop()
        with work.threads():
            run(1)  # compiles, if need be
            turns, spent = 1, run(1)
            while spent < batch / 10:
                turns *= 10
                spent = run(turns)
        each = spent / turns
        return cls(work, run, max(1, round(batch / each)), each)

    @property
    def warm(self) -> bool:
        return self.each < WARM_BELOW

    @property
    def cost(self) -> float:
        """The seconds of one sample, about."""
        return self.each * (self.turns + self.warm)

    def sample(self) -> float:
        """Seconds for one turn."""
        with self.work.threads():
            if self.warm:
                self.run(1)
            return self.run(self.turns) / self.turns


class Timings(Generic[Key]):
    """The samples of one interleaved run."""

    def __init__(self, works: Mapping[Key, Work], batch: float = BATCH_SECONDS) -> None:
        self.samplers = {key: Sampler.calibrate(work, batch) for key, work in works.items()}
        self.samples: dict[Key, list[float]] = {key: [] for key in works}

    def rounds(self, count: int = ROUNDS) -> Iterator[int]:
        """Run rounds, in turn forwards and backwards, yielding after each."""
        order = list(self.samplers.items())
        for number in range(count):
            for key, sampler in order:
                self.samples[key].append(sampler.sample())
            order.reverse()
            yield number

    def run(self, count: int = ROUNDS) -> Timings[Key]:
        """Run all rounds at once; fewer, but at least LEAST_ROUNDS, if they take long."""
        affordable = int(BUDGET_SECONDS / sum(s.cost for s in self.samplers.values()))
        for _ in self.rounds(min(count, max(LEAST_ROUNDS, affordable))):
            pass
        return self

    def seconds(self, key: Key) -> float:
        """The median time of one call."""
        return median(self.samples[key])

    def ratio(self, slow: Key, fast: Key) -> float:
        """How many times longer `slow` takes than `fast`, by their medians."""
        return self.seconds(slow) / self.seconds(fast)
