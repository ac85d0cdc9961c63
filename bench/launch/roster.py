"""What a fleet measures, and who is who in it: the file ``fleet.json`` of its folder."""

import hashlib
import itertools
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.records import labels

#: Ways to tell machines apart: by their host, or each worker for itself, those of a host in turn.
PER = ("host", "worker")
#: Begins the place of a worker among those of its host.
PLACE = "#"


class CannotTell(Exception):
    """Workers may be others than those of the first time; the message is one line."""


@dataclass
class Roster:
    """What is measured per machine, which have ended well, and who stands behind each label.

    `machines` maps a label to a hash of the machine's host, salted so that it says nothing outside
    its folder: rows of one machine must not be appended to those of another, whoever answers first.
    """

    words: list[str]
    runs: int
    per: str
    complete: list[str] = field(default_factory=list)
    machines: dict[str, str] = field(default_factory=dict)
    salt: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def read(cls, folder: Path) -> "Roster":
        """Return that of a folder; OSError, ValueError, KeyError or TypeError where it has none."""
        told = json.loads((folder / "fleet.json").read_text(encoding="utf-8"))
        if told["per"] not in PER:
            raise ValueError(f"unknown way to tell machines apart: {told['per']!r}")
        return cls(
            words=list(map(str, told["words"])),
            runs=int(told["runs"]),
            per=told["per"],
            complete=list(map(str, told["complete"])),
            machines={str(label): str(who) for label, who in dict(told["machines"]).items()},
            salt=str(told["salt"]),
        )

    def write(self, folder: Path) -> None:
        """Write it down, so that the fleet can be gone on with."""
        text = json.dumps(asdict(self), indent=1)
        (folder / "fleet.json").write_text(text + "\n", encoding="utf-8")

    def identities(self, found: Sequence[dict[str, Any]]) -> list[str]:
        """Return who each worker of `found` is, as `bench.launch.node.describe` tells of them.

        Per host that is its host; per worker the host with the worker's name, or else with its
        place among those of this host without a name. Raises CannotTell where there are more or
        fewer of these than the first time, since their places have shifted.
        """
        made = []
        places: Counter[str] = Counter()
        for told in found:
            host = self._hash(told["host"])
            if self.per == "host":
                made.append(host)
            elif name := _name(told):
                made.append(self._hash(told["host"], name))
            else:
                places[host] += 1
                made.append(f"{host}{PLACE}{places[host]}")
        before = Counter(who.partition(PLACE)[0] for who in self.machines.values() if PLACE in who)
        for host, count in places.items():
            if before[host] not in (0, count):
                what = f"{count} workers without a name answer on a host that had {before[host]}"
                raise CannotTell(f"{what}: start as many again, or begin anew with a --name each")
        return made

    def label(self, identity: str, told: dict[str, Any]) -> str:
        """Return the label a machine has had, or give it one of its own, its worker's name if any.

        `identity` is as `identities` returns it, `told` what its worker tells.
        """
        for label, who in self.machines.items():
            if who == identity:
                return label
        name = _name(told) if labels.is_label(_name(told)) else ""
        # Cut, so that the longest name has room for a number.
        numbered = (f"{name[:70] or 'node'}-{n}" for n in itertools.count(2 if name else 1))
        tries = itertools.chain(filter(None, [name]), numbered)
        label = next(one for one in tries if one not in self.machines)
        self.machines[label] = identity
        return label

    def _hash(self, *parts: str) -> str:
        text = "\0".join((self.salt, *parts))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _name(told: dict[str, Any]) -> str:
    """Return a worker's name, empty where it has none: Dask then takes its address for one."""
    return "" if told["name"] == told["address"] else str(told["name"])
