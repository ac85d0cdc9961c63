"""A stand-in for an accelerator whose true times the test knows."""

import dataclasses

import torch

from bench.measure import devices


@dataclasses.dataclass
class SimulatedDevice:
    """An asynchronous device on virtual time: launching returns at once, waiting takes the rest.

    No real clock is involved, so a test of it cannot fail because the machine is busy.
    """

    name: str = "sim"
    launch_s: float = 2e-6
    wait_s: float = 1e-6
    host: float = 0.0
    busy_until: float = 0.0
    waits: int = 0
    allocated: int = 0
    freed: int = 0

    def launch(self, seconds: float) -> None:
        """Queue work of known duration; the host is free again after the launch."""
        self.host += self.launch_s
        self.busy_until = max(self.busy_until, self.host) + seconds

    def synchronize(self) -> None:
        """Wait until the queue is empty."""
        self.waits += 1
        self.host = max(self.host, self.busy_until) + self.wait_s

    def now(self) -> float:
        """Read the virtual clock."""
        return self.host

    def device(self) -> devices.Device:
        """The device as the suite sees it; its tensors live on the CPU."""
        return devices.Device(
            self.name,
            torch.device("cpu"),
            self.synchronize,
            self.now,
            model="simulated GPU",
            launcher=self.long_work,
            starter=lambda: self.launch(0.0),
            event=lambda: SimulatedEvent(self),
            peak_bytes=self.peak_bytes,
            free_memory=self.free_memory,
        )

    def peak_bytes(self, call) -> int:
        """What `call` says it allocated."""
        before = self.allocated
        call()
        return self.allocated - before

    def free_memory(self) -> None:
        """Count how often memory was given back."""
        self.freed += 1

    def long_work(self, _: torch.device):
        """Launch 50 ms; reading the result takes until they are over, whatever was waited for."""
        self.launch(50e-3)

        def read():
            self.host = max(self.host, self.busy_until)

        return read


class SimulatedEvent:
    """A mark in the queue: passed when all work queued before it has ended."""

    def __init__(self, on: SimulatedDevice) -> None:
        """Make a mark that is not queued yet."""
        self.on = on
        self.at = float("nan")

    def record(self) -> None:
        """Queue it."""
        self.at = max(self.on.host, self.on.busy_until)

    def query(self) -> bool:
        """Whether the device has passed it."""
        return self.on.host >= self.at

    def elapsed_time(self, end: "SimulatedEvent") -> float:
        """Milliseconds from here to `end`."""
        return 1e3 * (end.at - self.at)


#: The one that the fixture `simulated` makes known to the suite, for benchmark files to launch on.
DEVICE = SimulatedDevice()
