"""The words of every finding."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.report import units
from bench.report.phrases import NAMED, crossing, cut, listed, name, params, size, times
from bench.stats.ratios import Ratio
from bench.verdicts.finding import Finding, Subject
from bench.verdicts.loading import without_workers
from bench.verdicts.named import AUTOCAST


def _cell(subject: Subject) -> str:
    return f"{name(subject)} in {subject.dtype} on {subject.device}"


def _loader(subject: Subject) -> str:
    return f"workers={subject.params['workers']} batch={subject.params['batch']}"


def _differing(one: Any) -> str:
    """Return ``start=fork is 2.0x faster (1.9 to 2.1) than start=spawn``."""
    here, there = (
        " ".join(f"{k}={v}" for k, v in side.params.items() if other.params.get(k) != v)
        for side, other in ((one.subject, one.rival), (one.rival, one.subject))
    )
    return f"{here} is {times(one.ratio)} than {there}"


def _alike(names: Sequence[str]) -> str:
    return f"; {listed(names)} may be about as fast" if names else ""


def _fault(one: Any) -> str:
    status = "" if one.advice == "ok" else f"{one.advice}: "
    return f"{_cell(one.subject)}: {status}{cut(one.reason)}"


def _unsettled(one: Any) -> str:
    text = f"{one.n:,} of {one.total:,} cells {'is' if one.n == 1 else 'are'} not settled"
    seen = [f"{one.stolen:,} lost CPU time to other programs"] if one.stolen else []
    seen += (
        [f"{one.slowed:,} ran while the machine was slower than at its best"] if one.slowed else []
    )
    return f"{text}: {', '.join(seen)}" if seen else text


def _unsupported(one: Any) -> str:
    names = []
    for benchmark, refused in one.refused.items():
        if isinstance(refused, tuple):
            which = listed([" ".join(map("=".join, cell)) for cell in refused])
        else:
            which = " ".join(f"{param}={'|'.join(values)}" for param, values in refused.items())
        names.append(benchmark + (f" ({which})" if which else ""))
    return (
        f"unsupported on {one.subject.device} in {listed(one.dtypes)}: {listed(names, 2 * NAMED)}; "
        f"reason: {cut(one.reason)}"
    )


def _device(one: Any) -> str:
    smallest, largest = size(one.smallest), size(one.largest)
    words = {"above": "faster", "below": "slower", "always": "faster", "never": "never faster"}
    text = f"{name(one.subject)} in {one.subject.dtype}: {one.subject.device} is "
    text += f"{words.get(one.advice, one.advice)} than {against(one)} "
    if one.crossover:
        text += f"from {one.param} {crossing(one.crossover)} on"
    else:
        text += f"(measured: {one.param} {smallest} to {largest})"
        if one.ties:
            text += f"; no notable difference at {listed(list(map(size, one.ties)))}"
            return f"{text}; at {size(one.at)} it is {times(one.ratio)}"
    # The ratio at a smaller size would not describe the end of the range.
    return text + (f"; at {largest} it is {times(one.ratio)}" if one.at == one.largest else "")


def _extreme(pair: tuple[Subject, Ratio]) -> str:
    """Return ``2.0x slower (axis=0)``."""
    subject, ratio = pair
    words = f"{units.factor(ratio.factor)}x {'slower' if ratio.value > 1 else 'faster'}"
    return f"{words} ({params(subject)})" if subject.params else words


def _by_benchmark(one: Any) -> str:
    rival = against(one)
    if one.n == 1:
        subject, ratio = one.best
        return (
            f"{name(subject)} in {subject.dtype}: {subject.device} is {times(ratio)} than {rival}"
        )
    ends = " to ".join(dict.fromkeys(map(_extreme, (one.best, one.worst))))
    counts = [f"{one.faster} of {one.n} cells faster"] if one.faster else []
    counts += [f"{one.slower} of {one.n} cells slower"] if one.slower else []
    return (
        f"{one.subject.benchmark} in {one.subject.dtype}: {one.subject.device} takes "
        f"{units.factor(one.amount)} times as long as {rival} (geometric mean): "
        f"{', '.join(counts)}; {ends}"
    )


def _optimizer(one: Any) -> str:
    best, rival, *alike = (
        subject.params["implementation"] for subject in (one.subject, one.rival, *one.alike)
    )
    text = f"{one.subject.params['optimizer']} on {one.subject.device}: {best} is "
    text += "the fastest, " if one.advice == "fastest" else ""
    text += f"{times(one.ratio)} than {rival}{_alike(alike)}"
    return text + "".join(f"; {k} was not measured ({v})" for k, v in one.unmeasured.items())


def _loading(one: Any) -> str:
    how = "the best that is settled" if one.advice == "best settled" else one.advice
    text = f"JPEG images: {_loader(one.subject)} is {how}, {one.amount:,.0f} images/s"
    alone = without_workers(one.subject)
    if one.ratio:
        same = one.subject.params["batch"] == one.rival.params["batch"]
        rival = f"{'with' if alone else 'without'} workers"
        if not same or alone:
            rival = f"the best {rival}, {_loader(one.rival)}"
        text += f", {times(one.ratio)} than {rival}"
    elif one.rival:
        text += f"; no notable difference {'with' if alone else 'without'} workers"
    text += _alike([_loader(subject) for subject in one.alike])
    text += f"; its workers need {units.size(one.memory_bytes)}" if one.memory_bytes else ""
    if count := len(one.unmeasured):
        were = "was" if count == 1 else "were"
        text += f"; {count} of {one.total} settings {were} not settled"
    return text


_BOTTLENECK = {
    "loading": "loading is the bottleneck",
    "keeps up": "loading keeps up",
    "unclear": "neither is clearly the bottleneck",
}


def _bottleneck(one: Any) -> str:
    step = one.rival
    loaded, trained = (
        f"{amount:,.0f}" if amount else "an uncertain number of"
        for amount in (one.amount, one.rival_amount)
    )
    text = (
        f"{_BOTTLENECK[one.advice]} on {step.device}: FashionMNIST gives {loaded} images/s without "
        f"workers, training on them uses {trained} samples/s ({step.dtype}, {params(step)})"
    )
    return text + (f"; loading is {times(one.ratio)}" if one.advice == "loading" else "")


def _overhead(one: Any) -> str:
    smallest = size(float(one.subject.params["n"]))
    text = (
        f"a small call costs {units.seconds(one.amount)} on {one.subject.device} (add n={smallest})"
    )
    if one.negligible_from is None:
        return text
    return f"{text}; one with about {size(one.negligible_from)} elements takes twice as long"


def _bound(one: Any) -> str:
    """Return ``at least`` or ``at most`` if cells that are not settled may exceed the figure."""
    return f"{one.advice} " if one.advice else ""


def _launch(one: Any) -> str:
    text = f"{one.subject.device}: {one.n:,} of {one.total:,} cells take longer to launch than to "
    text += f"run (medians: launch {units.seconds(one.amount)}"
    text += f", work {units.seconds(one.rival_amount)})" if one.rival_amount else ")"
    return text + ("; larger batches or torch.compile need fewer launches" if one.advice else "")


def _first_call(one: Any) -> str:
    middle, low, high = units.factors(one.ratio)
    bounded = one.advice == "at most"
    factor, ends = (f"at most {high}", "") if bounded else (middle, f"{low} to {high}, ")
    return (
        f"{one.subject.device}: the first call takes {factor} times as long as a later one "
        f"({ends}median of {one.n:,} cells); the slowest one takes "
        f"{units.seconds(one.amount)} ({name(one.subject)} in {one.subject.dtype})"
    )


def _compiled(one: Any) -> str:
    text = f"forward and backward with torch.compile on {one.subject.device}, batch "
    text += f"{one.subject.params['batch']}, {one.subject.dtype}: "
    text += times(one.ratio) if one.ratio else "no notable difference"
    if one.calls:
        calls, low, high = map(size, one.calls)
        text += f"; the first call takes {units.seconds(one.amount)}, which pays off after "
        text += f"{calls} calls ({low} to {high})"
    return text


def _memory(one: Any) -> str:
    shares = " to ".join(dict.fromkeys(units.factor(x) for x in (one.least, one.most)))
    return (
        f"{one.subject.dtype} on {one.subject.device}: training takes {shares} times the "
        f"memory of float32 ({one.n} cells); {name(one.subject)} takes {units.size(one.amount)} "
        f"instead of {units.size(one.rival_amount)}"
    )


def _machine(one: Any) -> str:
    subject, trains = one.subject, one.topic == "machine"
    autocast = "autocast " if subject.benchmark == AUTOCAST.benchmark else ""
    how = f"trains best with {autocast}{subject.dtype}" if trains else "loads JPEG images best with"
    text = f"{subject.device} {how} {params(subject)}"
    text += f": {one.amount:,.0f} {one.unit}" if one.amount else ""
    if subject.device.startswith(f"{one.rival.device} "):
        return text
    speed = f"{times(one.ratio)} than" if one.ratio else "about as fast as"
    return f"{text}, {speed} {one.rival.device}"


def against(one: Any) -> str:
    """Return what a dtype is compared with, or a device: in half precision the CPU's best."""
    if one.topic == "dtype group":
        return str(one.rival.dtype)
    half = one.subject.dtype in ("float16", "bfloat16")
    return f"the best of {one.rival.device}" if half else str(one.rival.device)


def _several(one: Any) -> str:
    text = f"{one.subject.dtype} on {one.subject.device}: {one.group} "
    rival = against(one)
    if one.ratio is None:
        text += f"not precise enough to compare with {rival}"
    elif one.advice in ("same", "unclear"):
        middle, low, high = units.factors(one.ratio)
        text += f"{middle}x the time of {rival} ({low} to {high}), "
        text += "about the same" if one.advice == "same" else "no clear difference"
    else:
        text += f"{times(one.ratio)} than {rival}"
    text += f" ({one.n} of {one.total} cells)"
    for word, end in (("worst", one.worst), ("best", one.best)):
        if end:
            seen = f"the {word} known" if one.exceeded else word
            text += f"; {seen}: {name(end[0])} {times(end[1])}"
    if one.error and one.topic == "dtype group":
        text += f"; relative error {one.error:.1e}"
    return text


_BROKEN = {
    "wrong": "is wrong",
    "error": "fails",
    "oom": "needs too much memory",
    "fallback": "leaves its device",
    "unsupported": "is unsupported",
}


def _use(one: Any) -> str:
    def setting(subject: Subject, autocast: bool = False) -> str:
        dtype = f"autocast {subject.dtype}" if autocast else subject.dtype
        return f"{subject.device}, {dtype}, batch {subject.params['batch']}"

    if one.advice == "unknown":
        text = "no answer yet: no training step is clearly faster than the default "
        text += f"({setting(one.rival)}, foreach, no workers)"
    elif one.advice == "default":
        text = f"the plain default is as good as anything timed: {setting(one.subject)}; "
        text += f"{one.amount:,.0f} samples/s"
    else:
        text = "" if one.advice == "use" else "one of the best: "
        text += f"train with {setting(one.subject, one.autocast)}: "
        text += f"{one.amount:,.0f} samples/s, " if one.amount else ""
        text += f"{times(one.ratio)} per sample than the plain default "
        text += f"({setting(one.rival)}, foreach optimizer, no workers)"
    made = [text]
    if one.of_dtype:
        place = "" if one.subject.device == one.rival.device else f" on {one.subject.device}"
        made.append(
            f"{one.subject.dtype} alone is {times(one.of_dtype)}, batch "
            f"{one.subject.params['batch']}{place} alone {times(one.of_batch)}"
        )
    also = [f"{one.implementation} optimizers"] if one.implementation else []
    if one.workers:
        count = "no" if one.workers == "0" else one.workers
        also.append(f"{count} DataLoader worker{'' if count == '1' else 's'}")
    also += ["torch.compile"] if one.compiled else []
    use = "Use" if one.advice == "unknown" else "Also use"
    made += [f"{use} {listed(also)}"] if also else []
    made += [
        f"Avoid {dtype}: training is {times(ratio)} than in float32"
        for dtype, ratio in one.avoid.items()
    ]
    made += [
        f"Each training step {_BROKEN[status]} {'in' if ' on ' in place else 'on'} {place}"
        for place, status in one.broken.items()
    ]
    known = f"Based on {one.n} of {one.total} training steps"
    made.append(f"{known}; {len(one.alike)} of the others may be faster" if one.alike else known)
    return ". ".join(made)


def sentence(finding: Finding) -> str:
    """Return a finding in words, with its figures."""
    return WORDS[finding.topic](finding)


#: The words of each topic.
WORDS: dict[str, Callable[[Any], str]] = {
    "fault": _fault,
    "unsupported": _unsupported,
    "unstable": _unsettled,
    "device": _device,
    "benchmark": _by_benchmark,
    "optimizer": _optimizer,
    "loading": _loading,
    "bottleneck": _bottleneck,
    "in place": lambda one: (
        f"{name(one.subject, 'form')} on {one.subject.device}: in place is {times(one.ratio)}"
    ),
    "copy": lambda one: (
        f"torch.tensor(array) copies the data in {units.seconds(one.amount)} "
        f"(n={one.subject.params['n']}), "
        f"from_numpy shares the memory in {units.seconds(one.rival_amount)}"
    ),
    "bandwidth": lambda one: (
        f"the best {'settled ' * bool(one.advice)}copy on {one.subject.device} moves {_bound(one)}"
        f"{units.rate(one.amount, 'B')} ({params(one.subject)} in {one.subject.dtype})"
    ),
    "far below": lambda one: (
        f"{_cell(one.subject)} reaches {_bound(one)}{one.amount / one.rival_amount:.0%} of this "
        "bandwidth"
    ),
    "arithmetic": lambda one: (
        f"the best {'settled ' * bool(one.advice)}{one.subject.dtype} matmul on "
        f"{one.subject.device}: {_bound(one)}{units.rate(one.amount, 'FLOP')} "
        f"({params(one.subject)})"
    ),
    "dtype group": _several,
    "device group": _several,
    "use": _use,
    "overhead": _overhead,
    "launch": _launch,
    "first call": _first_call,
    "compiled": _compiled,
    "memory": _memory,
    "machine": _machine,
    "machine loading": _machine,
    "loader option": lambda one: (
        f"{one.subject.benchmark} on {one.subject.device}: {_differing(one)}"
    ),
}
