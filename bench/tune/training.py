"""Search for the training settings that reach a target loss soonest."""

import contextlib
import copy
import itertools
import math
import statistics
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset, default_collate

from bench.measure import devices, dtypes, refusal
from bench.tune.search import CannotTune, Pruned, Watch, never

DTYPES = ("float32", "bfloat16", "float16")
BATCHES = (16, 32, 64, 128, 256, 1024)
#: The optimizers of the notes: class, arguments, and the learning rate without --lr.
OPTIMIZERS: dict[str, tuple[Any, dict[str, float], float]] = {
    "sgd": (torch.optim.SGD, {}, 0.1),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, 0.03),
    "rmsprop": (torch.optim.RMSprop, {}, 1e-3),
    "adam": (torch.optim.Adam, {}, 1e-3),
}
#: Steps between two looks at the held-out loss, and samples that are held out.
EVERY, HELD_OUT = 4, 1024
#: Samples and bytes of a data set that are used at most.
SAMPLES, MAX_BYTES = 8 * 1024, 2**30
#: Each measurement trains from so many initial weights.
SEEDS = 3
#: A setting is pruned when it takes this many times as long as the fastest, or the whole limit.
TOO_SLOW = 1.25


@dataclass(frozen=True)
class Setting:
    """A way to train; `autocast` keeps the parameters in float32, 0 `threads` are torch's own."""

    device: str
    dtype: str = "float32"
    autocast: bool = False
    batch: int = 64
    compiled: bool = False
    optimizer: str = "sgd"
    lr: float = OPTIMIZERS["sgd"][2]
    threads: int = 0

    def __str__(self) -> str:
        words = [f"device={self.device}", f"dtype={self.dtype}", f"batch={self.batch}"]
        words += [f"{name}=True" for name in ("autocast", "compiled") if getattr(self, name)]
        words += [f"optimizer={self.optimizer}", f"lr={self.lr}"]
        return " ".join([*words, *([f"threads={self.threads}"] if self.threads else [])])


def space(
    names: Sequence[str], optimizers: Sequence[str] = (), rates: Sequence[float] = ()
) -> tuple[Setting, list[Setting]]:
    """Return the plain default on the last of the devices, and all settings.

    The default has the first of the learning `rates`, or SGD's usual one.
    """
    default = Setting(names[-1], lr=rates[0] if rates else OPTIMIZERS["sgd"][2])
    precisions = [(dtype, autocast) for dtype in DTYPES for autocast in (False, True)]
    precisions.remove(("float32", True))
    found = [
        Setting(device, dtype, autocast, batch, compiled, optimizer, lr, threads)
        for device, (dtype, autocast), batch, compiled in itertools.product(
            names, precisions, BATCHES, (False, True)
        )
        # On a busy machine, several threads wait for the slowest one in each operation.
        for threads in ((0, 1) if device == "cpu" and torch.get_num_threads() > 1 else (0,))
        for optimizer in optimizers or ("sgd",)
        for lr in rates or (OPTIMIZERS[optimizer][2],)
    ]
    return default, found if default in found else [default, *found]


@dataclass(frozen=True)
class Task:
    """What is trained: a function that makes the network, training and held-out samples."""

    make: Callable[[], nn.Module]
    train: tuple[torch.Tensor, torch.Tensor]
    held_out: tuple[torch.Tensor, torch.Tensor]

    @property
    def loss(self) -> Callable[..., torch.Tensor]:
        """The cross entropy for labels, the mean squared error for other targets."""
        targets = self.train[1]
        return (
            nn.functional.mse_loss if targets.is_floating_point() else nn.functional.cross_entropy
        )


def task(make: Callable[[], nn.Module], dataset: Dataset[Any]) -> Task:
    """Read a data set of pairs into memory; hold some of its samples out. Raises CannotTune."""
    try:
        count = len(dataset)  # type: ignore[arg-type]
        one = default_collate([dataset[0]])
        inputs, targets = one
        size = inputs.nbytes + targets.nbytes
    except Exception as problem:  # code of the user may raise anything
        raise CannotTune(
            f"--dataset: it needs a length and pairs of tensors or numbers ({problem})"
        ) from None
    kept = min(count, SAMPLES + HELD_OUT, MAX_BYTES // size)
    out = min(HELD_OUT, kept // 8)
    if not out:
        raise CannotTune(f"--dataset: {kept} samples are too few; at least 8 are needed")
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:kept]
    if isinstance(dataset, TensorDataset):
        inputs, targets = (tensor[chosen] for tensor in dataset.tensors)
    else:
        inputs, targets = default_collate([dataset[i] for i in chosen.tolist()])
    return Task(make, (inputs[out:], targets[out:]), (inputs[:out], targets[:out]))


@dataclass(frozen=True)
class Reached:
    """The seconds that a training took to the target loss, and the loss then."""

    seconds: float
    loss: float


def _steps(task: Task, model: nn.Module, setting: Setting) -> Callable[[Any, Any], object]:
    """Return a function that makes a training step on a batch, with a new optimizer."""
    kind, arguments, _ = OPTIMIZERS[setting.optimizer]
    optimizer = kind(model.parameters(), lr=setting.lr, **arguments)
    on, dtype = torch.device(setting.device).type, dtypes.find(setting.dtype)
    scaler = torch.amp.GradScaler(on, enabled=setting.autocast and dtype == torch.float16)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(on, dtype=dtype, enabled=setting.autocast):
            loss = task.loss(model(x), y)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()

    return step


@contextlib.contextmanager
def _compute_threads(count: int) -> Iterator[None]:
    """Use `count` threads while the context lasts; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(
    task: Task, setting: Setting, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield shuffled batches on the device without end; of one size, for which code is compiled."""
    x, y = task.train
    dtype = dtypes.find("float32" if setting.autocast else setting.dtype)
    order, device = torch.Generator().manual_seed(seed), devices.find(setting.device).torch_device
    while True:
        shuffled = torch.randperm(len(x), generator=order)
        for place in range(0, max(1, len(x) - setting.batch + 1), setting.batch):
            chosen = shuffled[place : place + setting.batch]
            there = x[chosen].to(device, dtype if x.is_floating_point() else None)
            yield there, y[chosen].to(device)


def train(
    task: Task,
    setting: Setting,
    seed: int,
    target: float,
    limit_s: float,
    watch: Callable[[float, float], bool] = never,
) -> Reached:
    """Train from the initial weights of `seed` until the held-out loss is `target`.

    The time is the number of steps, interpolated between two looks at the loss, times the median
    time of a step: fetching a batch, copying it to the device, and training on it. Neither the
    looks nor the first steps, which may compile, count. Each look evaluates the weights in float32.
    Raises Pruned after `limit_s`, or when `watch`, which gets seconds and loss, says so.
    """
    device = devices.find(setting.device)
    dtype = dtypes.find("float32" if setting.autocast else setting.dtype)
    torch.manual_seed(seed)
    judge = task.make().to(device.torch_device)
    model = copy.deepcopy(judge).to(dtype)
    start = copy.deepcopy(model.state_dict())
    if setting.compiled:
        torch.compiler.reset()
        model.compile(dynamic=False)
    held_out = [part.to(device.torch_device) for part in task.held_out]

    def look() -> float:
        judge.load_state_dict(model.state_dict())
        with torch.no_grad():
            return float(task.loss(judge(held_out[0]), held_out[1]))

    def timed(steps: int, step: Callable[..., object], source: Iterator[Any]) -> tuple[int, float]:
        begin, done = device.clock(), 0
        while True:
            step(*next(source))
            done += 1
            if done == steps or device.now() - begin > limit_s:
                return done, device.clock() - begin

    with _compute_threads(setting.threads):
        with refusal.fallbacks(device):  # autocast may disable itself with a warning
            warm, source = _steps(task, model, setting), _batches(task, setting, seed)
            for steps in (1, 2):
                timed(steps, warm, source)
        model.load_state_dict(start)
        step, source = _steps(task, model, setting), _batches(task, setting, seed)
        count, each, before = 0, [], look()
        while True:
            made, took = timed(EVERY, step, source)
            each.append(took / made)
            a_step, now = statistics.median(each), look()
            if now <= target:
                part = math.log(before / target) / math.log(before / now) if now > 0 else 1.0
                return Reached((count + part * made) * a_step, now)
            count, before = count + made, now
            seconds = count * a_step
            if not math.isfinite(now) or seconds > limit_s or watch(seconds, now):
                raise Pruned(
                    f"the loss was {now:.3g} after {seconds:.2g} s, not {target:g} (--target)"
                )


@dataclass
class Training:
    """The search for the shortest time to a target loss; rates are trainings a second."""

    default: Setting
    settings: Sequence[Setting]
    trainer: Callable[[Setting, int, float, Callable[[float, float], bool]], Reached]
    limit_s: float
    shares: tuple[float, float] = (0.35, 0.45)

    def kind(self, setting: Setting) -> Hashable:
        """Return what decides whether the backend supports a setting, and its cost."""
        return replace(setting, batch=0, optimizer="", lr=0.0)

    def guess_s(self, setting: Setting) -> float:
        """Return the assumed seconds of the first measurement of a kind."""
        return 30.0 if setting.compiled else 2.0

    def priority(self, setting: Setting, rates: Mapping[Setting, float]) -> Any:
        """Put eager settings first, batch sizes near the default's early; compile the best ones."""
        eager = rates.get(replace(setting, compiled=False), 0.0)
        far = abs(math.log2(setting.batch / self.default.batch))
        return (setting.compiled, -eager if setting.compiled else far)

    def measure(self, setting: Setting, turn: int, fastest: float, watch: Watch) -> list[float]:
        """Return trainings a second, from `SEEDS` initial weights that depend on the turn."""
        limit_s = min(self.limit_s, TOO_SLOW / fastest if fastest else math.inf)
        rates: list[float] = []
        for seed in range(turn * SEEDS, (turn + 1) * SEEDS):
            # The pruner compares settings at the same twentieth of the limit, for the first seed.
            at = (lambda s, loss: watch(int(20 * s / self.limit_s), loss)) if not rates else never
            rates.append(1 / self.trainer(setting, seed, limit_s, at).seconds)
        return rates


def code(setting: Setting, loss: str, model: str = "", dataset: str = "") -> str:
    """Return a setting as a program that trains for an epoch; `loss` is a function's name.

    `model` and `dataset` are ``MODULE:NAME``, by default a network and samples of its own.
    """
    kind, more, _ = OPTIMIZERS[setting.optimizer]
    given = "".join(f", {name}={value:g}" for name, value in more.items())
    device, dtype = f'"{setting.device}"', f"torch.{setting.dtype}"
    holds = "torch.float32" if setting.autocast else dtype
    scaled = setting.autocast and setting.dtype == "float16"
    module, _, name = (model or "bench.suite.training.models:NeuralNetwork").partition(":")
    origin, _, maker = dataset.partition(":")
    samples = "TensorDataset(torch.rand(2048, 1, 28, 28), torch.randint(10, (2048,)))  # yours"
    whole = ", drop_last=True" if setting.compiled else ""
    lines = [
        "import torch",
        "from torch.utils.data import DataLoader" + ("" if dataset else ", TensorDataset"),
        f"from {module} import {name}",
        f"from {origin} import {maker}" if dataset else "",
        f"torch.set_num_threads({setting.threads})" if setting.threads else "",
        f"dataset = {f'{maker}()' if dataset else samples}",
        f"loader = DataLoader(dataset, batch_size={setting.batch}, shuffle=True{whole})",
        f"model = {name}().to({device}, {holds})",
        "model.compile()" if setting.compiled else "",
        f"optimizer = torch.optim.{kind.__name__}(model.parameters(), lr={setting.lr:g}{given})",
        f"scaler = torch.amp.GradScaler({device})" if scaled else "",
        "for x, y in loader:",
        f"    x, y = x.to({device}, {holds}), y.to({device})",
        "    optimizer.zero_grad()",
        f"    with torch.autocast({device}, dtype={dtype}):" if setting.autocast else "",
        f"{'    ' * setting.autocast}    loss = torch.nn.functional.{loss}(model(x), y)",
        "    scaler.scale(loss).backward()" if scaled else "    loss.backward()",
        "    scaler.step(optimizer)" if scaled else "    optimizer.step()",
        "    scaler.update()" if scaled else "",
    ]
    return "\n".join(filter(None, lines))
