"""Strict stand-ins for real accelerators: what PyTorch does on them, and no kinder.

While a `Strict` mode is active, tensors that are made on its device type, or moved there, have that
device for every Python program, although the CPU computes them. The rest is as on the machine that
a `Profile` describes: its missing dtypes, its refusals in PyTorch's own words, what a wait costs,
copies that arrive late, and faults. Time is virtual, see `SimulatedDevice`.
"""

import contextlib
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from bench.measure import arguments, devices, disturbance
from tests.helpers.simulated import SimulatedDevice

NO_FLOAT64 = (
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
    "Please use float32 instead."
)
NO_BFLOAT16 = "MPS BFloat16 is only supported on MacOS 14 or newer"
NO_AUTOCAST = (
    "In MPS autocast, but the target dtype torch.bfloat16 is not supported on macOS versions "
    "below 14. Disabling autocast."
)
NO_KERNEL = (
    "CUDA error: no kernel image is available for execution on the device\n"
    "CUDA kernel errors might be asynchronously reported at some other API call."
)
MPS_FULL = (
    "MPS backend out of memory (MPS allocated: 0 bytes, other allocations: 0 bytes, max allowed: "
    "1.02 GB). Tried to allocate 256 bytes on shared pool."
)
ASSERTED = "CUDA error: device-side assert triggered"
FULL = (
    "CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 11.90 GiB of "
    "which 0 bytes is free. Process 4711 has 11.80 GiB memory in use."
)


@dataclass(frozen=True)
class Profile:
    """A platform and a version of torch.

    `widening` is what ``tensor.to("cpu", torch.float64)`` does: works, raises the message, or
    writes nothing. `without` are the dtypes that cannot be on the device, each with the refusal;
    `refused` are those of functions, for the dtypes that a refusal names. `fault` is raised by
    every use of the device: always, or after the first error (`sticky`).
    """

    kind: str
    wait_s: float
    idle_wait_s: float
    launch_s: float = 5e-6
    widening: str = "works"
    without: dict[torch.dtype, str] = field(default_factory=dict)
    refused: dict[str, tuple[tuple[torch.dtype, ...], str]] = field(default_factory=dict)
    waits_are_switches: bool = False
    pins: bool = True
    events: bool = True
    count: int = 1
    fault: Exception | None = None
    sticky: bool = False
    autocast: str = ""
    version: str = ""


_MPS = Profile("mps", wait_s=220e-6, idle_wait_s=0.2e-6, waits_are_switches=True, events=False)
_CUDA = Profile("cuda", wait_s=6e-6, idle_wait_s=4e-6)
_WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)


def _with(profile: Profile, **changed) -> Profile:
    return Profile(**(vars(profile) | changed))


PROFILES = {
    "mps-2.6": _with(
        _MPS,
        version="2.6.0",
        widening="Cannot convert a float64 Tensor to MPS as the MPS framework doesn't support "
        "float64. Please use float32 instead.",
        without={torch.float64: NO_FLOAT64, torch.bfloat16: NO_BFLOAT16},
        refused={
            "matmul": (_WHOLE, "MPS device does not support mm for non-float inputs"),
            "bmm": (_WHOLE, "MPS device does not support bmm for non-float inputs"),
        },
        pins=False,
        autocast=NO_AUTOCAST,
    ),
    "mps-2.14": _with(
        _MPS,
        version="2.14.0",
        widening="nothing",
        without={torch.float64: NO_FLOAT64},
        pins=False,
    ),
    "mps-2.15": _with(
        _MPS,
        version="2.15.0",
        widening="Undefined type Double",
        without={torch.float64: NO_FLOAT64},
        events=True,
    ),
    "cuda": _CUDA,
    "cuda-8": _with(_CUDA, count=8),
    "unusable": _with(_CUDA, fault=RuntimeError(NO_KERNEL)),
    "unusable-mps": _with(_MPS, fault=RuntimeError(MPS_FULL)),
    "sticky": _with(_CUDA, fault=RuntimeError(ASSERTED), sticky=True),
    "full": _with(_CUDA, fault=torch.OutOfMemoryError(FULL)),
}
#: The device of the context, for benchmark files.
CURRENT: dict[str, "Strict"] = {}
#: What reads a value on the host, and so waits for the device.
READS = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__format__", "equal")
#: What launches nothing.
FREE = {
    *("view", "reshape", "t", "transpose", "permute", "expand", "detach", "unbind", "chunk"),
    *("split", "flatten", "squeeze", "unsqueeze", "narrow", "size", "dim", "numel", "stride"),
    *("element_size", "data_ptr", "untyped_storage", "is_contiguous", "is_floating_point"),
    *("requires_grad_", "__len__", "__hash__", "nelement", "is_complex", "storage_offset"),
    *("__repr__", "__deepcopy__", "is_inference", "register_hook", "empty", "empty_like"),
}
#: What the device computes in 16 bits with sums in float32; the CPU would take seconds for it.
PRODUCTS = ("matmul", "bmm", "mm", "linear", "__matmul__", "conv2d", "einsum", "lstm", "gru")
#: Elements from which a product takes the CPU seconds.
LARGE = 2**24
#: What takes tensors of both devices.
MIXES = (
    *("__deepcopy__", "copy_", "__getitem__", "__setitem__", "data", "index_put_"),
    "is_same_size",
)


class _Storages:
    """A set of storages, of which an address may be given to another one once it is freed."""

    def __init__(self) -> None:
        self.known: dict[int, StorageWeakRef] = {}
        self.most = 1000

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        self.known[storage._cdata] = StorageWeakRef(storage)
        if len(self.known) > self.most:
            self.known = {key: ref for key, ref in self.known.items() if not ref.expired()}
            self.most = 2 * len(self.known) + 1000

    def __contains__(self, tensor: torch.Tensor) -> bool:
        found = self.known.get(tensor.untyped_storage()._cdata)
        return found is not None and not found.expired()


class Strict(TorchFunctionMode):
    """Computes on the CPU what a program asks of the device of `profile`."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self.clock = SimulatedDevice(profile.kind, profile.launch_s, profile.wait_s)
        self.on_device, self.pinned = _Storages(), _Storages()
        self.arriving: list[Callable[[], object]] = []
        self.broken = bool(profile.fault) and not profile.sticky
        #: How many times longer the device takes for everything.
        self.slowness = 1.0
        #: The last product of large matrices: the factors, their versions, the result.
        self.product: tuple = ((), [], torch.empty(0))
        #: What any work of the host alone takes, and whether the device was used since a reading.
        self.host_s, self.used = 0.0, False
        self.kernel_s, self.switches, self.bytes, self.pending = 20e-6, 0, 0, False

    # The device as the suite sees it.

    def device(self) -> devices.Device:
        """The device as the suite registers it."""
        made = self.clock.device()
        events = {} if self.profile.events else {"event": None, "peak_bytes": None}
        return devices.Device(
            **vars(made)
            | {"torch_device": torch.device(self.profile.kind), "synchronize": self.synchronize}
            | {"peak_bytes": self.peak_bytes, "launcher": self.long_work, "now": self.now}
            | {"starter": lambda: self.launch(0.0), "count": self.profile.count}
            | events
        )

    def now(self) -> float:
        """Read the clock; if the device was not used since the last time, that took `host_s`."""
        self.clock.host += 0.0 if self.used else self.host_s
        self.used = False
        return self.clock.now()

    def synchronize(self) -> None:
        """Wait for the queue, at the price of the profile; without work it costs next to nothing.

        Every wait that blocks counts as a switch of the process.
        """
        self.use()
        works = self.pending or self.clock.busy_until > self.clock.host
        self.clock.wait_s = self.profile.wait_s if works else self.profile.idle_wait_s
        self.pending = False
        self.used |= works
        self.switches += works
        self.clock.synchronize()
        self.arrive()

    def long_work(self, device: torch.device) -> Callable[[], object]:
        """Launch work of 50 ms."""
        self.use()
        read = self.clock.long_work(device)
        self.clock.busy_until += (self.slowness - 1) * 50e-3

        def waits() -> None:
            self.used = True
            read()

        return waits

    def peak_bytes(self, call: Callable[[], object]) -> int:
        """Return the bytes that a call allocates."""
        before = self.bytes
        call()
        return self.bytes - before

    def use(self, failed: bool = False) -> None:
        """Raise what every use of this device raises."""
        self.broken |= failed
        if self.broken and self.profile.fault:
            raise self.profile.fault

    def fail(self) -> None:
        """Let the kernel that runs now fail, and with it everything that follows."""
        self.use(failed=True)

    def launch(self, seconds: float | None = None) -> None:
        """Queue work."""
        self.use()
        self.pending = self.used = True
        self.clock.launch(self.slowness * (self.kernel_s if seconds is None else seconds))

    def arrive(self) -> None:
        """Let every copy that the host does not wait for arrive."""
        arriving, self.arriving = self.arriving, []
        for copy in arriving:
            copy()

    # What a program sees.

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func.__name__
        if name in ("__get__", "__set__"):
            return self.attribute(func.__self__.__name__, name, func, args)
        if name.startswith("_") and not name.startswith(("__", "_foreach", "_fused", "_amp")):
            return func(*args, **kwargs)
        given = list(_tensors((args, kwargs)))
        here = [one for one in given if one in self.on_device]
        if name in ("to", "cpu", "cuda", "type", "double", "float", "half", "bfloat16", "copy_"):
            if moved := self.moves(name, func, args, kwargs):
                return moved[0]
        elif name in ("pin_memory", "is_pinned"):
            return self.pins(name, args[0])
        asked = kwargs.get("device")
        if asked is not None:
            kwargs["device"] = None
        target = asked is not None and torch.device(asked).type == self.profile.kind
        if not (here or target):
            return self.on_host(func, args, kwargs)
        if name in ("numpy", "__array__"):
            raise TypeError(
                f"can't convert {self.profile.kind}:0 device type tensor to numpy. Use "
                "Tensor.cpu() to copy the tensor to host memory first."
            )
        others = [one for one in given if one not in self.on_device and one.dim()]
        if here and others and name not in MIXES and not name.endswith("backward"):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{self.profile.kind}:0 and cpu!"
            )
        self.refuse(name, [*here, *([kwargs["dtype"]] if kwargs.get("dtype") else [])])
        if name not in FREE:
            self.launch()
        if name in READS:  # the copy to the host is a launch
            self.synchronize()
        self.use()
        if name in PRODUCTS and torch.is_autocast_enabled(self.profile.kind):
            lower = torch.get_autocast_dtype(self.profile.kind)
            args = _wider(args, lower, back=True)
            here = [one for one in _tensors(args) if one.dtype == lower]
        if name == "cross_entropy" and torch.is_autocast_enabled(self.profile.kind):
            args = _wider(args, torch.get_autocast_dtype(self.profile.kind))
        half = here[0].dtype if here and name in PRODUCTS and here[0].dtype.itemsize == 2 else None
        if name == "matmul" and here[0].numel() >= LARGE:
            result = self.large(args, half)
        elif half and half.is_floating_point:
            args, kwargs = _wider((args, kwargs), half)
            result = _wider(func(*args, **kwargs), half, back=True)
        else:
            result = func(*args, **kwargs)
        if target and name in ("as_tensor", "asarray"):
            result = result.clone()
        return self.mark(result, host=asked is not None and not target)

    def large(self, factors, half):
        """Return the product of large matrices, computed once for all calls: time is virtual."""
        known, versions, product = self.product
        if versions != [one._version for one in known] or not _equal(known, factors):
            product = torch.matmul(*_wider(factors, half))
            product = _wider(product, half, back=True) if half else product
            self.product = factors, [one._version for one in factors], product
        return product.clone()

    def on_host(self, func, args, kwargs):
        if kwargs.pop("pin_memory", False):
            return self.pins("pin_memory", func(*args, **kwargs))
        return func(*args, **kwargs)

    def attribute(self, name, kind, func, args):
        value = args[0]
        if value not in self.on_device:
            return func(*args)
        if kind == "__set__":
            return func(*args)
        if name == "device":
            return torch.device(self.profile.kind, 0)
        if name in ("is_cuda", "is_mps", "is_cpu"):
            return name == f"is_{self.profile.kind}"
        result = func(*args)
        return self.mark(result) if isinstance(result, torch.Tensor) else result

    def moves(self, name, func, args, kwargs):
        """Return the result of a move or a conversion in a tuple; None if it is neither."""
        source, *words = args
        words += [kwargs[key] for key in ("device", "dtype", "other") if key in kwargs]
        if name == "copy_":
            return self.copies(source, *args[1:], **kwargs)
        to = next((w for w in words if isinstance(w, (str, torch.device))), None)
        to = "cpu" if name == "cpu" else "cuda" if name == "cuda" else to
        kinds = [w for w in words if isinstance(w, torch.dtype)]
        named = {"double": "float64", "float": "float32", "half": "float16"}.get(name, name)
        kinds += (
            [getattr(torch, named)] if isinstance(getattr(torch, named, 0), torch.dtype) else []
        )
        dtype = kinds[0] if kinds else source.dtype
        was, now = source in self.on_device, source in self.on_device
        if to is not None:
            now = torch.device(to).type == self.profile.kind
        if not was and not now:
            return None
        late = bool(kwargs.get("non_blocking")) or (name == "to" and True in words)
        if was and not now:
            if dtype == torch.float64 and source.dtype != torch.float64:
                if self.profile.widening == "nothing":
                    return (torch.zeros(source.shape, dtype=dtype),)
                if self.profile.widening != "works":
                    raise TypeError(self.profile.widening)
            made = self.copied(source, dtype, late)
            return (made,)
        self.refuse(name, [dtype])
        if was:
            if dtype == source.dtype and not kwargs.get("copy"):
                return (source,)
            self.launch()
            return (self.mark(source.to(dtype, copy=True)),)
        return (self.mark(self.copied(source, dtype, late)),)

    def copied(self, source, dtype, late):
        """Return a copy of `source`, which arrives when the device is waited for if `late`."""
        self.launch()
        if not late or source.requires_grad:
            self.synchronize()
            return source.to(dtype, copy=True)
        made = torch.zeros_like(source, dtype=dtype)
        self.arrives(functools.partial(made.copy_, source.detach()))
        return made

    def copies(self, target, source, non_blocking=False):
        """Copy in place; None if both are on the same side."""
        if (target in self.on_device) == (source in self.on_device):
            return None
        self.launch()
        if non_blocking:
            self.arrives(functools.partial(target.copy_, source))
        else:
            self.synchronize()
            target.copy_(source)
        return (target,)

    def arrives(self, copy):
        if len(self.arriving) == 4:  # no more are in flight
            self.arriving.pop(0)()
        self.arriving.append(copy)

    def pins(self, name, tensor):
        if name == "is_pinned":
            return tensor in self.pinned
        if not self.profile.pins:
            raise RuntimeError("Cannot access accelerator device when none is available.")
        made = tensor.clone()
        self.pinned.add(made)
        return made

    def refuse(self, name, given):
        """Raise what the device does not support."""
        kinds = [one.dtype if isinstance(one, torch.Tensor) else one for one in given]
        for dtype in kinds:
            if message := self.profile.without.get(dtype):
                raise TypeError(message)
        refused, message = self.profile.refused.get(name, ((), ""))
        if any(dtype in refused for dtype in kinds):
            raise RuntimeError(message)

    def mark(self, result, host=False):
        """Return a result whose tensors are on the device from now on."""
        for one in _tensors(result):
            if one.dtype in self.profile.without:
                raise TypeError(self.profile.without[one.dtype])
            if not host and one not in self.on_device:
                self.bytes += one.nbytes
                self.on_device.add(one)
        return result


def _tensors(value) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(_tensors, value.values()))
    elif isinstance(value, (list, tuple)):
        yield from itertools.chain.from_iterable(map(_tensors, value))


def _equal(some, others):
    """Whether two lists of tensors have the same values."""
    return len(some) == len(others) and all(
        x is y or (x.dtype == y.dtype and torch.equal(x, y))
        for x, y in zip(some, others, strict=True)
    )


def _wider(value, half, back=False):
    """Return a value whose tensors in the dtype `half` are in float32, or the other way round."""
    was, now = (torch.float32, half) if back else (half, torch.float32)
    return arguments.walk(
        value, lambda x: x.to(now) if isinstance(x, torch.Tensor) and x.dtype == was else x
    )


def _always(found, *_):
    return found


def _disabling(init, message):
    """Return an ``autocast.__init__`` that warns and disables itself for bfloat16."""

    def made(self, device_type, dtype=None, enabled=True, **more):
        off = device_type == "mps" and dtype == torch.bfloat16
        if off:
            warnings.warn(message, stacklevel=2)
        init(self, device_type, dtype=dtype, enabled=enabled and not off, **more)

    return made


@contextlib.contextmanager
def machine(name: str) -> Iterator[Strict]:
    """Yield the device of a profile, which the suite knows within the context."""
    made = CURRENT["device"] = Strict(PROFILES[name])
    profile = made.profile
    with contextlib.ExitStack() as stack:
        patch = mock.patch.object
        if profile.autocast:
            changed = _disabling(torch.autocast.__init__, profile.autocast)
            stack.enter_context(patch(torch.autocast, "__init__", changed))
        common = torch.cuda.amp.common
        # torch 2.6 asks the driver of a Mac whether autocast has bfloat16.
        stack.enter_context(patch(torch.backends.mps, "is_macos_or_newer", lambda *_: True))
        stack.enter_context(patch(common, "amp_definitely_not_available", lambda: False))
        for owner, function, answers in (
            (torch.cuda, "is_bf16_supported", True),
            (torch.cuda, "get_device_capability", (9, 0)),
            (torch.backends.cudnn, "is_acceptable", False),  # the CPU has no weights of cuDNN
        ):
            stack.enter_context(patch(owner, function, functools.partial(_always, answers)))
        if profile.version:
            version = torch.torch_version.TorchVersion(profile.version)
            stack.enter_context(patch(torch, "__version__", version))
        if profile.waits_are_switches:
            stack.enter_context(patch(disturbance, "switches", lambda: made.switches))
        stack.enter_context(mock.patch.dict(devices.OTHERS, {profile.kind: made.device()}))
        stack.enter_context(made)
        yield made
