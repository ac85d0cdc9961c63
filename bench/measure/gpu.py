"""The state of an NVIDIA GPU: driver, clock, power, temperature, other processes (NVML)."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class State:
    """What NVML reports; None for what a GPU does not report.

    Clocks are those of the multiprocessors in MHz, power is in W, temperature in degrees Celsius.
    `hot` is whether heat lowers the clock now, `others` the processes of others that compute on it.
    """

    driver: str | None = None
    clock_mhz: int | None = None
    max_clock_mhz: int | None = None
    power_cap_w: float | None = None
    usual_cap_w: float | None = None
    temperature: int | None = None
    hot: bool = False
    others: int = 0


def read(device: torch.device) -> State | None:
    """Return the state of a GPU; None without the package nvidia-ml-py or an NVIDIA driver."""
    if device.type != "cuda" or not torch.version.cuda:
        return None
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # no package, or no driver
        return None
    try:
        uuid = torch.cuda.get_device_properties(device).uuid
        return _state(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except Exception:  # a partition of a GPU, which NVML does not find by this name
        return None
    finally:
        with contextlib.suppress(Exception):
            nvml.nvmlShutdown()


def _state(nvml: Any, gpu: Any) -> State:
    def asked(function: Callable[..., Any], *args: Any, per: int = 1) -> Any:
        try:
            found = function(*args)
        except nvml.NVMLError:  # this GPU does not report it
            return None
        return found / per if per > 1 else found

    reasons = asked(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu) or 0
    slowed = nvml.nvmlClocksThrottleReasonSwThermalSlowdown
    slowed |= nvml.nvmlClocksThrottleReasonHwThermalSlowdown
    running = asked(nvml.nvmlDeviceGetComputeRunningProcesses, gpu) or []
    return State(
        driver=asked(nvml.nvmlSystemGetDriverVersion),
        clock_mhz=asked(nvml.nvmlDeviceGetClockInfo, gpu, nvml.NVML_CLOCK_SM),
        max_clock_mhz=asked(nvml.nvmlDeviceGetMaxClockInfo, gpu, nvml.NVML_CLOCK_SM),
        power_cap_w=asked(nvml.nvmlDeviceGetPowerManagementLimit, gpu, per=1000),
        usual_cap_w=asked(nvml.nvmlDeviceGetPowerManagementDefaultLimit, gpu, per=1000),
        temperature=asked(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
        hot=bool(reasons & slowed),
        others=sum(one.pid != os.getpid() for one in running),
    )
