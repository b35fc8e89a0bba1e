"""What was measured, as plain data: written to JSON, read back, and shown in tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fastact.measure.cases import Case
from fastact.measure.check import Verdict

# Display columns -> the provider whose time is compared, by whether all cores take part.
PEERS = {
    "NumPy": ("numpy", "numpy"),
    "stable": ("numpy_stable", "numpy_stable"),
    "SciPy": ("scipy", "scipy"),
    "torch": ("torch_serial", "torch_parallel"),
    "copy": ("copy", "copy"),
}
OURS = ("fastact_serial", "fastact_parallel")


@dataclass(frozen=True)
class Timing:
    """The median seconds of a call of every provider for one case, from one interleaved run."""

    case: Case
    seconds: dict[str, float]

    def nanoseconds(self, provider: str) -> float:
        """Per element."""
        return self.seconds[provider] * 1e9 / self.case.size

    def gigabytes(self, provider: str) -> float:
        """Per second."""
        return self.case.bytes / self.seconds[provider] / 1e9

    @property
    def ours(self) -> str:
        """The form of fastact that takes part in the comparison."""
        return OURS[self.case.all_cores]

    def ratio(self, peer: str) -> float | None:
        """How many times longer a peer (a key of PEERS) takes than fastact on as many cores."""
        provider = PEERS[peer][self.case.all_cores]
        if provider not in self.seconds:
            return None
        return self.seconds[provider] / self.seconds[self.ours]

    def as_data(self) -> dict[str, Any]:
        return asdict(self.case) | {
            "providers": {
                name: {
                    "seconds": seconds,
                    "ns_per_element": self.nanoseconds(name),
                    "gb_per_s": self.gigabytes(name),
                    "ratio_to_fastact": seconds / self.seconds[self.ours],
                }
                for name, seconds in self.seconds.items()
            }
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Timing:
        case = Case(
            data["op"], data["direction"], data["dtype"], tuple(data["shape"]), data["axis"]
        )
        return cls(case, {name: v["seconds"] for name, v in data["providers"].items()})


def report(
    machine: dict[str, object], verdicts: list[Verdict], timings: list[Timing]
) -> dict[str, Any]:
    """Everything that was measured, with the machine as it was described before."""
    return {
        "machine": machine,
        "accuracy": [asdict(v) | {"passed": v.passed} for v in verdicts],
        "timings": [t.as_data() for t in timings],
    }
