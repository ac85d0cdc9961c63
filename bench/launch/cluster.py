"""The client side of `bench fleet`: find the machines, run one task on each, store their rows."""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from distributed import Client, Event, Future

from bench.launch import node
from bench.launch.roster import Roster
from bench.records import reader
from bench.records.choices import UserError
from bench.records.lines import of_exception
from bench.records.schema import KEY, Row
from bench.records.writer import CannotWrite, Writer, reopen

#: Seconds between two polls of the cluster; that a worker may be missing; that a task may take
#: beyond its own limit to report that it has reached it; and to end once it is stopped.
POLL_S, LOST_S, GRACE_S, STOP_S = 0.5, 3.0, 30.0, 5.0


@dataclass(frozen=True)
class Node:
    """A machine of the fleet: the label of its rows, and where it is."""

    label: str
    address: str
    host: str
    environment: dict[str, str | int]


@dataclass(frozen=True)
class MachineResult:
    """How a machine ended: its exit status, or what went wrong in one line."""

    label: str
    code: int | None
    reason: str
    rows: int


#: Receives the label of a machine and its progress as a listener of `process` does, or ``rows=,
#: reason=`` when it has ended with so many rows, and what went wrong, if anything.
Listener = Callable[..., object]


def find(client: Client, roster: Roster, limit_s: float = 60.0) -> tuple[list[Node], list[str]]:
    """Ask every worker for its environment; return the machines, and a line for each failure.

    A machine keeps its label in `roster`; new ones are added. Raises UnknownMachine.
    """
    asked = {
        address: client.submit(
            node.describe, workers=[address], allow_other_workers=False, pure=False, retries=0
        )
        for address in sorted(client.nthreads())
    }
    found, problems = [], []
    end = time.monotonic() + limit_s
    for address, future in asked.items():
        try:
            found.append(future.result(timeout=max(0.1, end - time.monotonic())))
        except TimeoutError:
            problems.append(f"{address} did not answer within {limit_s:.0f} s")
        except ModuleNotFoundError as problem:
            remedy = "pip install 'torch-device-bench[fleet]' there"
            problems.append(f"{address} lacks the module {problem.name}: {remedy}")
        except Exception as problem:  # a machine that fails stops no other
            problems.append(f"{address}: {of_exception(problem)}")
    nodes: dict[str, Node] = {}
    for identity, worker in zip(roster.identities(found), found, strict=True):
        if identity not in nodes:
            label = roster.label(identity, worker)
            nodes[identity] = Node(label, worker["address"], worker["host"], worker["environment"])
    return list(nodes.values()), problems


def differences(nodes: Sequence[Node]) -> list[str]:
    """Return a line for each column of the environment in which the machines differ."""
    lines = []
    for column in nodes[0].environment if nodes else ():
        by_value: dict[str, list[str]] = {}
        for one in nodes:
            by_value.setdefault(str(one.environment.get(column, "")), []).append(one.label)
        if len(by_value) > 1:
            values = "; ".join(f"{value}: {_some(names)}" for value, names in by_value.items())
            lines.append(f"{column} differs: {values}")
    return lines


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


@dataclass
class _Task:
    """A running task of a machine."""

    node: Node
    future: "Future[Any]"
    writer: Writer
    known: set[tuple[object, ...]]
    began: float
    rows: int = 0
    seen: float = field(default_factory=time.monotonic)

    def append(self, fields: list[str]) -> Row:
        """Append a row if it is new, and return it; BadFile if it is not a valid row."""
        row = Row(**reader.row(fields))
        if row.key not in self.known:
            self.known.add(row.key)
            self.writer.append(row)
            self.rows += 1
        return row


@dataclass
class Fleet:
    """Measures machines into one CSV each, in `folder`.

    `arguments` are for pytest; a machine may take `limit_s` seconds for all its runs.
    """

    client: Client
    folder: Path
    arguments: Sequence[str]
    runs: int
    limit_s: float
    listener: Listener
    _topic: str = field(default_factory=lambda: f"bench-{uuid.uuid4().hex}")
    _events: "SimpleQueue[tuple[str, dict[str, Any]]]" = field(default_factory=SimpleQueue)
    _tasks: dict[str, _Task] = field(default_factory=dict)

    def measure(self, nodes: Sequence[Node]) -> Iterator[MachineResult]:
        """Run the suite on every machine; yield the result of each when it ends."""
        waiting = list(nodes)
        try:
            while waiting or self._tasks:
                busy = {task.node.host for task in self._tasks.values()}
                for one in list(waiting):
                    if one.host not in busy:
                        waiting.remove(one)
                        try:
                            self._start(one)
                            busy.add(one.host)
                        except UserError as problem:  # its file is damaged, or another's
                            self.listener(one.label, rows=0, reason=str(problem))
                            yield MachineResult(one.label, None, str(problem), 0)
                self._listen()
                for label in list(self._tasks):
                    ended = self._ended(self._tasks[label])
                    if ended:
                        self._finish(label)
                        self.listener(ended.label, rows=ended.rows, reason=ended.reason)
                        yield ended
        finally:
            self._stop()

    def _stop(self) -> None:
        """End the tasks that still run; the rows of those that end in time are kept."""
        for label in self._tasks:
            Event(f"{self._topic}-{label}", client=self.client).set()
        end = time.monotonic() + STOP_S
        while time.monotonic() < end and not all(one.future.done() for one in self._tasks.values()):
            self._listen()
        for label, task in list(self._tasks.items()):
            if task.future.done():
                self._result(task)
            self._finish(label)

    def _start(self, one: Node) -> None:
        file = self.folder / f"{one.label}.csv"
        known: set[tuple[object, ...]] = set()
        stored = ""
        if file.exists() and file.stat().st_size:
            size = file.stat().st_size
            frame = reader.read(file)
            stored = file.read_text(encoding="utf-8")
            known = set(frame[list(KEY)].itertuples(index=False, name=None))
        topic = f"{self._topic}-{one.label}"
        self.client.subscribe_topic(topic, lambda event: self._events.put((one.label, event[1])))
        arguments = [*self.arguments, f"--machine={one.label}"]
        future = self.client.submit(
            node.suite,
            *(topic, arguments, self.runs, stored, self.limit_s),
            workers=[one.address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        writer = reopen(file, size) if stored else Writer(file)
        self._tasks[one.label] = _Task(one, future, writer, known, time.monotonic())

    def _listen(self) -> None:
        """Handle the events of the machines; wait `POLL_S` for the first."""
        with contextlib.suppress(Empty):
            self._handle(*self._events.get(timeout=POLL_S))
            while True:
                self._handle(*self._events.get_nowait())

    def _handle(self, label: str, event: dict[str, Any]) -> None:
        task = self._tasks.get(label)
        if task is None:
            return
        if "rows" not in event:
            self.listener(label, **event)
        try:
            for fields in event.get("rows", ()):
                task.append(fields)
        except reader.BadFile as problem:
            # The result of this machine will be refused as well; the others continue.
            self.listener(label, message=str(problem))

    def _ended(self, task: _Task) -> MachineResult | None:
        """Return the result of a machine, or None while it is running."""
        label, now = task.node.label, time.monotonic()
        if task.future.done():
            return self._result(task)
        if task.node.address in self.client.nthreads():
            task.seen = now
        elif now - task.seen > LOST_S:
            return MachineResult(label, None, "its worker is gone", task.rows)
        if now - task.began > self.limit_s + GRACE_S:
            problem = f"hangs: no answer {GRACE_S:.0f} s after its limit of {self.limit_s:.0f} s"
            return MachineResult(label, None, problem, task.rows)
        return None

    def _result(self, task: _Task) -> MachineResult:
        label = task.node.label
        try:
            code, text = task.future.result()
            self._listen()
            # Later visits have changed rows that came before.
            task.writer.replace([task.append(fields) for fields in reader.lines(text)])
        except CannotWrite:
            raise
        except Exception as problem:  # a machine that fails stops no other
            return MachineResult(label, None, of_exception(problem), task.rows)
        failure = "" if code in (0, 1) else f"pytest ended with exit status {code}"
        return MachineResult(label, code, failure, task.rows)

    def _finish(self, label: str) -> None:
        task = self._tasks.pop(label)
        task.writer.close()
        task.future.cancel()
        self.client.unsubscribe_topic(f"{self._topic}-{label}")
