"""What is known of a GPU and a Mac besides times: driver, clock, heat, cores, label."""

import platform
import subprocess
import sys
import types

import pytest
import torch

from bench.measure import (
    devices,
    doctor,
    environment,
)
from bench.measure.devices import find
from bench.report import doctor as words
from tests.helpers import strict


@pytest.mark.parametrize(
    ("is_mps", "seen"),
    [
        (True, "mps: torch 2.15.0 needs macOS 15, this is macOS 13.6"),
        (False, "cuda: torch 2.15.0 was built for CUDA 13.2, and the NVIDIA driver 550.1 supports"),
    ],
)
def test_an_accelerator_that_torch_cannot_use_is_explained(monkeypatch, is_mps, seen):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.15.0"))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: is_mps)
    monkeypatch.setattr(platform, "mac_ver", lambda: ("13.6", "", ""))
    smi = "| NVIDIA-SMI 550.1   Driver Version: 550.1    CUDA Version: 12.4 |"
    done = subprocess.CompletedProcess([], 0, smi, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert devices.unavailable().startswith(seen)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert devices.unavailable() == ""


def test_a_driver_that_does_not_give_the_name_of_its_gpu(monkeypatch):
    def raises(_):
        raise RuntimeError("CUDA unknown error")

    monkeypatch.setattr(torch.cuda, "get_device_properties", raises)
    assert devices._accelerator.__wrapped__("cuda").fault() == "CUDA unknown error"


class Nvml(types.ModuleType):
    """The module pynvml, for a GPU that is hot, capped and in use."""

    NVMLError = RuntimeError
    NVML_CLOCK_SM = NVML_TEMPERATURE_GPU = 0
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40

    def __init__(self, reasons=0x20, cap=300_000, others=1):
        super().__init__("pynvml")
        running = [types.SimpleNamespace(pid=-1)] * others
        self.nvmlInit = self.nvmlShutdown = lambda: None
        self.nvmlDeviceGetHandleByUUID = lambda name: name
        self.nvmlDeviceGetCurrentClocksThrottleReasons = lambda _: reasons
        self.nvmlDeviceGetComputeRunningProcesses = lambda _: running
        self.nvmlSystemGetDriverVersion = lambda: "580.65"
        self.nvmlDeviceGetClockInfo = lambda *_: 1200
        self.nvmlDeviceGetMaxClockInfo = lambda *_: 1980
        self.nvmlDeviceGetPowerManagementLimit = lambda _: cap
        self.nvmlDeviceGetPowerManagementDefaultLimit = lambda _: 400_000
        self.nvmlDeviceGetTemperature = self.not_supported

    def not_supported(self, *_):
        raise self.NVMLError("Not Supported")


@pytest.mark.parametrize(
    ("nvml", "remedies", "fit"),
    [
        (Nvml(), ("gpu in use", "gpu hot", "gpu capped"), False),
        (Nvml(reasons=0, others=0), ("gpu capped",), True),
        (Nvml(reasons=0, others=0, cap=400_000), (), True),
        (None, ("install nvml",), True),
    ],
)
def test_doctor_looks_at_the_gpu(monkeypatch, nvml, remedies, fit):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    properties = types.SimpleNamespace(uuid="1-2", name="NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    device = devices._accelerator.__wrapped__("cuda")
    assert (device.model, device.count, device.broken) == ("NVIDIA H100", 8, "")
    assert device.driver == ("CUDA 13.0, driver 580.65" if nvml else "CUDA 13.0")
    found = doctor.gpu_state(device)
    assert (found.remedies, found.fit) == (remedies, fit)
    seen = words.seen(found.code, found.figures)
    assert seen.startswith("driver 580.65, 1200 of 1980 MHz, limit " if nvml else "its clock")
    assert words.remedy(found.remedies, found.figures) or not remedies


@pytest.mark.parametrize(
    ("settings", "therm", "remedies"),
    [
        (" lowpowermode         1\n", "", ("low power mode",)),
        (" powermode            1\n", "", ("low power mode",)),
        (" powermode            2\n", "CPU_Speed_Limit \t= 100\n", ()),
        (" lowpowermode         0\n", " CPU_Speed_Limit \t= 58\n", ("hot",)),
    ],
)
def test_doctor_looks_at_the_power_mode_and_the_heat_of_a_mac(
    monkeypatch, settings, therm, remedies
):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(doctor.psutil, "sensors_battery", lambda: None, raising=False)
    monkeypatch.setattr(doctor, "_read", lambda _: "")
    done = {
        word: subprocess.CompletedProcess([], 0, text)
        for word, text in (("-g", settings), ("therm", therm))
    }
    monkeypatch.setattr(devices, "run_program", lambda *words: done[words[-1]])
    found = doctor.power()
    assert (found.remedies, found.fit) == (remedies, not remedies)


@pytest.mark.parametrize(
    ("version", "model", "parts"),
    [("2.6.0", "Apple M1 7-core GPU", False), ("2.15.0", "Apple M1 8-core GPU", True)],
)
def test_the_gpu_of_a_mac_has_its_cores_and_from_2_15_on_events(monkeypatch, version, model, parts):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
    names = {"get_name": lambda: "Apple M1", "get_core_count": lambda: 8}
    mps = types.SimpleNamespace(**(names if parts else {}))
    monkeypatch.setattr(torch.backends, "mps", mps)
    listed = '{"SPDisplaysDataType": [{"sppci_model": "Apple M1", "sppci_cores": "7"}]}'
    done = subprocess.CompletedProcess([], 0, listed, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    device = devices._accelerator.__wrapped__("mps")
    assert device.model == model
    assert (device.event is not None, device.peak_bytes is not None) == (parts, parts)


def test_the_label_of_a_machine_distinguishes_one_gpu_from_eight():
    current = environment.current()
    with strict.machine("cuda"):
        one = environment.machine_label(current, [find("cuda")])
    with strict.machine("cuda-8"):
        eight = environment.machine_label(current, [find("cuda")])
    assert one != eight == one.replace("simulated", "8x-simulated")
