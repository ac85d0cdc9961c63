"""Ten modelled machines: the exact time of each cell follows from what the machine is made of."""

import random
from dataclasses import dataclass, field

from tests.helpers.truths import Machine

HALF = ("float16", "bfloat16")
DTYPES = ("float32", *HALF)
ERRORS = {"float32": 1e-7, "float16": 5e-4, "bfloat16": 4e-3}


@dataclass(frozen=True)
class Work:
    """A cell's work: items, bytes in float32, FLOP, and the kernels that it launches."""

    family: str
    benchmark: str
    params: str = ""
    items: int = 1
    bytes: float = 0
    flop: int = 0
    calls: int = 1
    dtypes: tuple[str, ...] = ("float32",)

    @property
    def name(self):
        """Benchmark and params, as a key."""
        return f"{self.benchmark} {self.params}".strip()


def _step(name, batch, params, part=1.0, calls=20, dtypes=DTYPES):
    flop = int(part * 4e6 * batch)
    return Work("training", name, params, batch, part * 1e7, flop, calls, dtypes)


def _tensors(name, params, bytes_, flop=0, **more):
    return Work("tensors", name, params, int(bytes_ / 4) or 16, bytes_, flop, **more)


OPTIMIZERS = ("sgd", "adam")
LAUNCHES = {"single_tensor": 40, "foreach": 12, "fused": 3}
WORK = (
    *(_step("step", batch, f"batch={batch}") for batch in (1, 16, 64, 256, 1024)),
    *(_step("forward", batch, f"batch={batch}", 1 / 3, 8) for batch in (1, 64, 1024)),
    _step("autocast_step", 64, "batch=64", 1.2, 30, HALF),
    _step("forward_backward", 64, "batch=64;parameters=trained", dtypes=("float32",)),
    *(
        Work("tensors", "matmul", f"n={n}", n * n, 12 * n * n, 2 * n**3, dtypes=DTYPES)
        for n in (64, 256, 1024)
    ),
    *(
        Work("training", "conv2d", f"batch=1;layout={layout};side=56", 1, 2e6, 230_000_000)
        for layout in ("contiguous", "channels_last")
    ),
    *(
        Work("training", "attention", f"causal=no;n={n}", n, 4e3 * n, 1000 * n**2)
        for n in (64, 512)
    ),
    *(Work("training", name, "batch=16", 512, 1e6, 50_000_000, 64) for name in ("gru", "lstm")),
    *(
        Work("training", "layer_norm", f"layout={layout};n=256", 256, 1.6e6)
        for layout in ("contiguous", "transposed")
    ),
    *(
        Work("training", "optimizer_step", f"implementation={how};optimizer={name}", 670_000, 8e6)
        for name in OPTIMIZERS
        for how in LAUNCHES
    ),
    *(
        _tensors("add", f"form={form};n={n}", 12.0 * n, n, dtypes=DTYPES)
        for form in ("in_place", "out_of_place")
        for n in (16, 65536, 2**25)
    ),
    *(_tensors("copy", f"form={form};n={2**25}", 8.0 * 2**25) for form in ("in_place", "out")),
    *(_tensors("sum", f"n={n}", 4.0 * n * n, n * n, dtypes=DTYPES) for n in (16, 1024)),
    *(_tensors("sum_dim", f"dim={dim};layout=contiguous", 1e6) for dim in (0, 2)),
    *(_tensors(name, "n=65536", 262144.0) for name in ("topk", "sort", "gather")),
    *(_tensors(name, "n=1048576", 4.0 * 2**20) for name in ("zeros", "rand")),
    *(_tensors("cat", f"count=2;dim=0;layout=contiguous;n={n}", 16.0 * n * n) for n in (16, 512)),
)
#: Of the host alone.
ARRAYS = [
    Work("tensors", name, f"n={n}", n, 4 * n if name == "tensor_from_array" else 0, calls=2)
    for name in ("tensor_from_array", "from_numpy")
    for n in (16, 2**20)
]


@dataclass(frozen=True)
class Part:
    """A device: seconds that a call costs, FLOP/s by dtype, bytes/s.

    `factors` says how many times as long a cell takes, by benchmark or by benchmark and params.
    """

    call_s: float
    flops: dict[str, float]
    bandwidth: float
    factors: dict[str, float] = field(default_factory=dict)

    def seconds(self, work, dtype):
        """The exact time of a cell."""
        calls, size = work.calls, 1 if dtype == "float32" else 0.5
        if work.benchmark == "optimizer_step":
            calls = LAUNCHES[work.params.split(";")[0].split("=")[1]]
        busy = max(work.flop / self.flops[dtype], size * work.bytes / self.bandwidth)
        factor = self.factors.get(work.name, self.factors.get(work.benchmark, 1))
        return factor * (calls * self.call_s + busy)


def part(call_us, tera, gigabytes, half=(1.0, 1.0), **factors):
    """A device of so many TFLOP/s in float32, of which float16 and bfloat16 have these factors."""
    flops = dict(zip(DTYPES, (tera * 1e12, *(tera * 1e12 * one for one in half)), strict=True))
    named = {name.replace("__", " ").replace("_is_", "="): f for name, f in factors.items()}
    return Part(call_us * 1e-6, flops, gigabytes * 1e9, named)


@dataclass(frozen=True)
class Truth:
    """A modelled machine, and the answers that are right on it.

    `image_s` is the time to decode an image, `cpus` bounds what more workers bring, and `source_s`
    the time to read an image of FashionMNIST. `use` holds the devices and dtypes that are best.
    """

    parts: dict[str, Part]
    use: tuple[str, tuple[str, ...]]
    workers: tuple[str, ...]
    bottleneck: str
    implementation: str
    cpus: int = 8
    image_s: float = 5e-4
    source_s: float = 4e-5
    compile_s: float = 10.0
    compiled: float = 0.6
    noise: float = 0.01
    runs: int = 3


_M1 = {"gru": 7.6, "topk": 5.0, "sum_dim dim=0;layout=contiguous": 20.0}
_M1 |= {"layer_norm layout=transposed;n=256": 4.0}
_AMX = part(1, 0.2, 8, (0.02, 2.2))
TRUTHS = {
    "m1": Truth(
        {
            "cpu": part(0.5, 0.3, 60, (0.3, 0.1)),
            "mps": Part(**vars(part(12, 2, 60, (1.9, 0.9))) | {"factors": _M1}),
        },
        ("mps", ("float16",)),
        ("4",),
        "loading",
        "fused",
    ),
    "h100": Truth(
        {"cpu": part(2, 2, 200, (0.1, 2)), "cuda": part(4, 50, 3000, (9, 9))},
        ("cuda", ("bfloat16",)),
        ("4",),
        "loading",
        "fused",
        cpus=64,
    ),
    "amx": Truth(
        {"cpu": _AMX}, ("cpu", ("bfloat16",)), ("2",), "loading", "fused", cpus=2, source_s=3e-5
    ),
    "old cpu": Truth(
        {"cpu": part(2, 0.05, 10, (0.03, 0.1))},
        ("cpu", ("float32",)),
        ("4",),
        "keeps up",
        "fused",
        cpus=4,
        compiled=1.0,
    ),
    "noisy": Truth(
        {"cpu": _AMX}, ("cpu", ("bfloat16",)), ("2", "4"), "", "fused", cpus=2, noise=0.1, runs=5
    ),
    "laptop": Truth(
        {"cpu": part(1, 0.5, 40, (0.05, 0.5)), "cuda": part(6, 5, 250, (4, 0.2))},
        ("cuda", ("float16",)),
        ("4",),
        "loading",
        "fused",
    ),
    "64 cores": Truth(
        {"cpu": part(8, 3, 200, (0.5, 2))},
        ("cpu", ("bfloat16",)),
        ("4",),
        "loading",
        "fused",
        cpus=64,
    ),
    "one core": Truth(
        {"cpu": part(1, 0.02, 8, (0.05, 0.5))},
        ("cpu", ("float32",)),
        ("0",),
        "keeps up",
        "fused",
        cpus=1,
    ),
    "slow launches": Truth(
        {"cpu": part(1, 0.5, 40, (0.1, 0.5)), "xpu": part(300, 20, 500, (2, 2))},
        ("xpu", ("float32",)),
        ("4",),
        "",
        "fused",
    ),
    "equal": Truth(
        {"cpu": part(1, 0.5, 40), "mps": part(1, 0.49, 41)},
        ("mps", ("float32",)),
        ("4",),
        "loading",
        "fused",
    ),
}


def machine(name, seed=1, gaps=True):
    """Return a modelled machine, and the exact time of each cell by device, dtype and name.

    With `gaps`, some cells are missing, some are not settled and one has two levels.
    """
    truth = TRUTHS[name]
    made = Machine(name=name.replace(" ", "-"), runs=truth.runs, noise=truth.noise, seed=seed)
    source, exact = random.Random(seed), {}

    def add(family, benchmark, params, device, dtype, seconds, **more):
        exact[device, dtype, f"{benchmark} {params}".strip()] = seconds
        known = {"family": family, "benchmark": benchmark, "params": params, "device": device}
        known |= {"dtype": dtype} | more
        if gaps and source.random() < 0.04:
            known |= {"status": "unstable", "reason": "disturbed", "width": 3.0}
        if not (gaps and source.random() < 0.04 and benchmark != "step"):
            made.cell(seconds, **known)

    for device, one in truth.parts.items():
        for work in (*WORK, *(ARRAYS if device == "cpu" else ())):
            for dtype in work.dtypes:
                seconds = one.seconds(work, dtype)
                bytes_ = int(work.bytes * (1 if dtype == "float32" else 0.5))
                more = {"items": work.items, "flop": work.flop or None, "bytes": bytes_ or None}
                more |= {"rel_error": ERRORS[dtype], "first_call_s": 2 * seconds}
                if device != "cpu":
                    more["dispatch_s"] = min(seconds, work.calls * one.call_s)
                    more["device_s"] = seconds - more["dispatch_s"]
                    more["peak_bytes"] = bytes_
                add(work.family, work.benchmark, work.params, device, dtype, seconds, **more)
        eager = exact[device, "float32", "forward_backward batch=64;parameters=trained"]
        params = "batch=64;compiled=forward_backward"
        more = {"items": 64, "first_call_s": truth.compile_s}
        add("training", "compiled", params, device, "float32", truth.compiled * eager, **more)
    for batch in (8, 32):
        for workers in (0, 1, 2, 4):
            at_once = min(max(workers, 1), truth.cpus)
            each = truth.image_s * (1 + 4 / batch) / at_once
            seconds = 256 * (each + (1e-4 if workers else 0)) * (1.3 if workers > truth.cpus else 1)
            params = f"batch={batch};workers={workers}"
            add("loading", "loader", params, "cpu", "float32", seconds, items=256)
    seconds = 1000 * truth.source_s
    add("loading", "fashion_mnist", "target=index", "cpu", "float32", seconds, items=1000)
    made.fault("wrong", "off by 0.3", benchmark="einsum", params="n=256", family="training")
    known = {"family": "training", "benchmark": "optimizer_step", "dtype": "float16"}
    made.fault("unsupported", "no fused", params="implementation=fused;optimizer=rmsprop", **known)
    return made, exact


def equal(seed, devices=("cpu", "mps"), gaps=True):
    """Return a machine on which no device, dtype, setting or form is faster than another.

    The noise is as large as the intervals allow: a single run stands for processes that differ by
    7 % at most (two standard deviations), several say themselves how much they differ.
    """
    source = random.Random(seed)
    runs, version = source.choice((1, 2, 3, 5)), source.choice((1, 2))
    noise = source.uniform(0.002, 0.1 if runs > 1 else 0.035)
    made = Machine(name="equal", runs=runs, noise=noise, seed=seed)
    for device in devices:
        for work in (*WORK, *(ARRAYS if device == "cpu" else ())):
            seconds = 1e-6 * work.items
            for dtype in work.dtypes:
                known = {"family": work.family, "benchmark": work.benchmark, "params": work.params}
                known |= {
                    "items": work.items,
                    "bytes": 1000 * work.items,
                    "flop": work.flop or None,
                }
                if gaps and source.random() < 0.05:
                    known |= {"status": "unstable", "reason": "disturbed", "width": 3.0}
                made.cell(seconds, device=device, dtype=dtype, schema_version=version, **known)
    for batch in (8, 32):
        for workers in (0, 1, 2, 4):
            known = {"benchmark": "loader", "params": f"batch={batch};workers={workers}"}
            made.cell(256e-6, family="loading", items=256, schema_version=version, **known)
    known = {"benchmark": "fashion_mnist", "params": "target=index", "items": 1000}
    made.cell(1e-3, family="loading", schema_version=version, **known)
    known = {"benchmark": "compiled", "params": "batch=64;compiled=forward_backward"}
    return made.cell(64e-6, family="training", first_call_s=10.0, schema_version=version, **known)
