"""A Dask cluster without processes, and what its machines answer."""

from bench.records import schema
from tests.helpers.frames import row


class Future:
    """A task whose end the test decides."""

    def __init__(self, outcome=None, problem=None):
        self.outcome, self.problem = outcome, problem

    def done(self):
        return self.outcome is not None or self.problem is not None

    def result(self, timeout=None):
        if self.problem:
            raise self.problem
        if self.outcome is None:
            raise TimeoutError
        return self.outcome

    def cancel(self):
        pass


class Client:
    """A cluster without processes: what a task gives is known by the address it goes to."""

    def __init__(self, **futures):
        self.futures, self.submitted, self.handlers = futures, [], {}

    def nthreads(self):
        return dict.fromkeys(self.futures, 1)

    def submit(self, task, *args, workers, **_):
        self.submitted.append((workers[0], args))
        return self.futures[workers[0]]

    def subscribe_topic(self, topic, handler):
        self.handlers[topic.rpartition("-")[2]] = handler

    def unsubscribe_topic(self, topic):
        pass


def described(name, host, torch="2.11.0", address=""):
    environment = {"torch": torch, "cpu": "a CPU"}
    facts = {"name": name, "address": address or f"tcp://{name}", "host": host}
    return Future(facts | {"environment": environment})


def as_csv(label, cells=3, **columns):
    lines = [",".join(schema.COLUMNS)]
    for n in range(cells):
        made = row(machine=label, params=f"n={n}", **columns)
        lines.append(",".join("" if v is None else str(v) for v in vars(made).values()))
    return "\n".join(lines) + "\n"
