"""What takes the place of the processes of `bench ab`: rows whose true times are known."""

import random
from pathlib import Path

from bench.launch import command
from bench.records import reader, schema
from bench.records.writer import Writer, reopen
from tests.helpers.frames import row

CELLS = [("tensors", f"op{n}", "cpu", "float32", f"n={n}") for n in range(20)]


class Machine:
    """Takes the place of the processes: writes rows whose true times are known."""

    def __init__(self, noise=0.02, seed=1):
        self.random, self.noise = random.Random(seed), noise
        self.slow, self.order, self.killed_at, self.columns = {}, [], None, {}

    def run(self, arguments, runs, output, resume, listener, place=command.HERE, append=False):
        options = dict(w.removeprefix("--").split("=", 1) for w in arguments if "=" in w)
        side = "candidate" if "SIDE" in place.env else "baseline"
        self.order.append((side, list(arguments)))
        path = resume or output
        assert append == bool(output and output.exists())
        cells = CELLS
        if "cells" in options:
            named = reader.cells(Path(options["cells"]))
            cells = [cell for cell in CELLS if cell in named]
        done, run_id = set(), f"{len(self.order)}"
        if resume:
            rows = reader.read(resume)
            run_id = rows.run_id.iloc[-1] if len(rows) else run_id
            done = set(rows[rows.run_id == run_id].params)
        writer = reopen(path) if path.exists() else Writer(path)
        cell = dict(zip(schema.CELL, cells[0], strict=True))
        listener(run=1, done=0, total=len(cells), cell=cell)
        level = self.random.gauss(0, self.noise)
        for number, (family, benchmark, device, dtype, params) in enumerate(cells):
            if params in done:
                continue
            if self.killed_at == (len(self.order), number):
                writer.close()
                return 2, path
            factor = self.slow.get(params, 1.0) if side == "candidate" else 1.0
            seconds = 1e-3 * factor * self.random.lognormvariate(level / 4, self.noise)
            identity = {"family": family, "benchmark": benchmark, "device": device}
            identity |= {"dtype": dtype, "params": params, "run_id": run_id}
            extra = self.columns.get((side, params), {})
            writer.append(row(**identity, **({"min_s": seconds, "median_s": seconds} | extra)))
        writer.close()
        return 0, path
