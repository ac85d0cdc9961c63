"""Fleets of equal machines with known slow ones among them."""

import functools

import numpy as np

from tests.helpers.frames import frame

#: Five benchmarks of eight sizes, and one of a single cell.
CELLS = [
    *(
        {"benchmark": name, "params": f"n={2**k}"}
        for name in ("host_to_device", "matmul", "add", "softmax", "step")
        for k in range(10, 26, 2)
    ),
    {"benchmark": "item", "params": ""},
]


@functools.cache
def _without_times(machines, runs):
    """The rows of a fleet, of which the times are those of one machine."""
    base = frame(*CELLS)
    names = [f"node-{n}" for n in range(machines)]
    repeated = base.loc[base.index.repeat(machines * runs)].reset_index(drop=True)
    repeated["machine"] = np.tile(np.repeat(names, runs), len(CELLS))
    repeated["run_id"] = [f"{m}-{r}" for m in range(machines) for r in range(runs)] * len(CELLS)
    return repeated


def fleet(machines, seed=1, runs=1, outliers=0.03, slow=(), noise=0.02):
    """A fleet of equal machines, but for `slow`: (machine, benchmark, least size, factor)."""
    source = np.random.default_rng(seed)
    repeated = _without_times(machines, runs).copy()
    count = len(repeated)
    struck = source.random(count) < outliers
    y = source.normal(0, noise, count) + struck * source.exponential(0.2, count)
    size = repeated.params.str.removeprefix("n=").replace("", "0").astype(float)
    for machine, benchmark, least, factor in slow:
        hit = (repeated.machine == machine) & (size >= least)
        hit &= benchmark in ("", None) or repeated.benchmark == benchmark
        y += np.where(hit, np.log(factor), 0.0)
    repeated["median_s"] = repeated["min_s"] = 1e-4 * np.exp(y)
    return repeated
