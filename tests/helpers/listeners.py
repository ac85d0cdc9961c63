"""Listeners that keep the progress they receive."""


class RunListener:
    """Keeps the cells and lines of a run or of the stages of `bench ab`."""

    def __init__(self):
        self.cells, self.runs, self.lines, self.stages = [], [], [], []
        self.again = []

    def cell_started(self, run, done, total, cell):
        self.cells.append((run, done, total, cell["benchmark"]))
        self.runs.append(run)

    def visited_again(self, run, left_s, cell):
        self.again.append((run, left_s, cell["benchmark"]))

    def message(self, line):
        self.lines.append(line)

    def stage_started(self, name, runs):
        self.stages.append((name, runs))


class FleetListener:
    """Keeps the results and lines of machines."""

    def __init__(self):
        self.ended, self.lines = [], []

    def cell_started(self, *_, **__):
        pass

    def message(self, label, line):
        self.lines.append((label, line))

    def machine_ended(self, *result):
        self.ended.append(result)
