"""Listeners that keep the progress they receive."""


class RunListener:
    """Keeps the cells and lines of a run or of the stages of `bench ab`."""

    def __init__(self):
        self.cells, self.runs, self.lines, self.stages = [], [], [], []
        self.again = []

    def __call__(self, **event):
        if "message" in event:
            self.message(event["message"])
        elif "stage" in event:
            self.stages.append((event["stage"], event["runs"]))
        elif "left_s" in event:
            self.again.append((event["run"], event["left_s"], event["cell"]["benchmark"]))
        else:
            self.cell_started(event["run"], event["done"], event["total"], event["cell"])

    def cell_started(self, run, done, total, cell):
        self.cells.append((run, done, total, cell["benchmark"]))
        self.runs.append(run)

    def message(self, line):
        self.lines.append(line)


class FleetListener:
    """Keeps the results and lines of machines."""

    def __init__(self):
        self.ended, self.lines = [], []

    def __call__(self, label, **event):
        if "message" in event:
            self.lines.append((label, event["message"]))
        elif "reason" in event:
            self.ended.append((label, event["rows"], event["reason"]))
