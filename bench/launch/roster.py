"""The file ``fleet.json``: what a fleet measures, and which machine has which label."""

import hashlib
import itertools
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.records import files, labels

#: What counts as one machine: a host, or each worker (those of one host run in turn).
PER = ("host", "worker")
#: Separates a host from the position of a worker without a name on that host.
POSITION = "#"


class UnknownMachine(Exception):
    """A worker may be another one than before; the message is one line."""


@dataclass
class Roster:
    """Arguments and runs of each machine, which machines are complete, and their identities.

    `machines` maps a label to a salted hash of the machine's host. The hash keeps rows of one
    machine out of the file of another; the salt makes it useless outside this folder.
    """

    arguments: list[str]
    runs: int
    per: str
    complete: list[str] = field(default_factory=list)
    machines: dict[str, str] = field(default_factory=dict)
    salt: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def read(cls, folder: Path) -> "Roster":
        """Return the roster of a folder; an OSError, LookupError, ValueError ... without one."""
        stored = files.read_json(folder / "fleet.json")
        if stored["per"] not in PER:
            raise ValueError(f"unknown kind of machine: {stored['per']!r}")
        if not all(labels.is_label(str(label)) for label in stored["machines"]):
            raise ValueError("a machine has no label")
        return cls(
            arguments=list(map(str, stored["arguments"])),
            runs=int(stored["runs"]),
            per=stored["per"],
            complete=list(map(str, stored["complete"])),
            machines={str(label): str(who) for label, who in dict(stored["machines"]).items()},
            salt=str(stored["salt"]),
        )

    def write(self, folder: Path) -> None:
        """Write it to a folder, so that the fleet can be resumed."""
        text = json.dumps(asdict(self), indent=1)
        files.replace(folder / "fleet.json", text + "\n")

    def identities(self, found: Sequence[dict[str, Any]]) -> list[str]:
        """Return the identity of each worker in `found`, as `bench.launch.node.describe` gives it.

        Per host, that is its host. Per worker, it is the host with the worker's name, or with its
        position among the workers of this host that have no name. Raises UnknownMachine if there
        are more or fewer of these than before, since their positions have shifted.
        """
        identities = []
        positions: Counter[str] = Counter()
        for worker in found:
            host = self._hash(worker["host"])
            if self.per == "host":
                identities.append(host)
            elif name := _name(worker):
                identities.append(self._hash(worker["host"], name))
            else:
                positions[host] += 1
                identities.append(f"{host}{POSITION}{positions[host]}")
        before = Counter(
            who.partition(POSITION)[0] for who in self.machines.values() if POSITION in who
        )
        for host, count in positions.items():
            if before[host] not in (0, count):
                what = f"{count} workers without a name answer on a host that had {before[host]}"
                raise UnknownMachine(
                    f"{what}: start as many again, or start a new fleet with a --name for each"
                )
        return identities

    def label(self, identity: str, worker: dict[str, Any]) -> str:
        """Return the label of a machine; a new machine gets its worker's name, or a number.

        `identity` is as `identities` returns it, `worker` as `describe` does.
        """
        for label, who in self.machines.items():
            if who == identity:
                return label
        name = _name(worker) if labels.is_label(_name(worker)) else ""
        # Cut, so that the longest name has room for a number.
        numbered = (f"{name[:70] or 'node'}-{n}" for n in itertools.count(2 if name else 1))
        tries = itertools.chain(filter(None, [name]), numbered)
        label = next(one for one in tries if one not in self.machines)
        self.machines[label] = identity
        return label

    def _hash(self, *parts: str) -> str:
        text = "\0".join((self.salt, *parts))
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _name(worker: dict[str, Any]) -> str:
    """Return a worker's name, empty if it has none: Dask then uses its address."""
    return "" if worker["name"] == worker["address"] else str(worker["name"])
