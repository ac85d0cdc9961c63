"""Statuses of what operations raise; the messages are PyTorch's own."""

import pytest
import torch

from bench.measure import devices
from bench.measure.answer import WrongAnswer
from bench.measure.cell import Cell
from bench.measure.refusal import classify


@pytest.mark.parametrize(
    ("exception", "status"),
    [
        (RuntimeError("\"baddbmm\" not implemented for 'Bool'"), "unsupported"),
        (NotImplementedError("The operator 'aten::x' is not currently implemented"), "unsupported"),
        (NotImplementedError(), "unsupported"),
        (TypeError("Got unsupported ScalarType BFloat16"), "unsupported"),
        (TypeError("the MPS framework doesn't support float64. Please use float32"), "unsupported"),
        (
            RuntimeError("Could not run 'aten::x' with arguments from the 'MPS' backend"),
            "unsupported",
        ),
        (TypeError("MPS BFloat16 is only supported on MacOS 14 or newer"), "unsupported"),
        (TypeError("MPS bfloat16 type is supported on MacOS 14.0 or newer."), "unsupported"),
        (
            TypeError(
                "Trying to convert Float8 to the MPS backend but it does not have support for that "
                "dtype."
            ),
            "unsupported",
        ),
        (RuntimeError("MPS: no support for int64 for min_max"), "unsupported"),
        (RuntimeError("Undefined type Double"), "unsupported"),
        (RuntimeError("Cannot find a working triton installation."), "unsupported"),
        (RuntimeError("Compiler: cl is not found."), "unsupported"),
        (RuntimeError("CUDA error: no kernel image is available for execution"), "unsupported"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), "oom"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), "oom"),
        (MemoryError(), "oom"),
        (WrongAnswer("off by 2"), "wrong"),
        (RuntimeError("The size of tensor a (3) must match"), "error"),
        (ValueError("unsupported"), "error"),
    ],
)
def test_status(exception, status):
    found, reason = classify(exception)
    assert found == status
    assert reason
    assert "\n" not in reason


def test_the_reason_of_a_compiler_is_its_own():
    text = (
        "backend='inductor' raised:\nRuntimeError: Cannot find a working triton installation. "
        "Either the package is not installed or it is too old.\n\nSet TORCHDYNAMO_VERBOSE=1"
    )
    status, reason = classify(RuntimeError(text))
    assert status == "unsupported"
    assert reason.startswith("RuntimeError: Cannot find a working triton installation.")
    text = "InvalidCxxCompiler: No working C++ compiler found in cxx: (None, 'g++')"
    assert classify(RuntimeError(f"{text}\n\nSet TORCHDYNAMO_VERBOSE=1")) == ("unsupported", text)
    assert classify(RuntimeError("backend='inductor' raised:\nCppCompileError: C++"))[0] == "error"


def test_real_refusals():
    with pytest.raises(TypeError) as caught:
        torch.ones(2, dtype=torch.bfloat16).numpy()
    assert classify(caught.value)[0] == "unsupported"
    with pytest.raises(RuntimeError) as caught:
        torch.rand(2, dtype=torch.int32)
    assert classify(caught.value)[0] == "unsupported"
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert classify(caught.value)[0] == "oom"


def test_what_the_check_of_an_answer_raises_is_no_refusal_of_the_backend():
    def reference(_):
        raise NotImplementedError("NumPy has no such tensor")

    with pytest.raises(NotImplementedError) as caught:
        Cell(devices.find("cpu"), torch.float32, None)(torch.neg, torch.ones(2), expect=reference)
    status, reason = classify(caught.value)
    assert (status, reason.count("NumPy has no such tensor")) == ("error", 1)
    assert reason.startswith("the answer could not be checked: ")
