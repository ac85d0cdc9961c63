"""Programs that disturb a measurement, and end with the process that started them."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

#: What the neighbours run.
_PROGRAM = """
import os, subprocess, sys, tempfile, time
parent = os.getppid()
def alive():
    return os.getppid() == parent
def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
def poller():
    while alive():
        time.sleep(1 / 300)
def bursts(share, period=1.0):
    while alive():
        busy(share * period)
        time.sleep((1 - share) * period)
def burn():
    while alive():
        busy(0.2)
def stream():
    import numpy as np
    a = np.ones(2**24); b = np.empty_like(a)
    while alive():
        np.copyto(b, a)
def write():
    block = os.urandom(2**22)
    with tempfile.TemporaryFile() as file:
        while alive():
            for _ in range(16):
                file.write(block)
            file.flush(); os.fsync(file.fileno()); file.seek(0)
def train():
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    data = TensorDataset(torch.rand(4096, 784), torch.randint(0, 10, (4096,)))
    net = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    while alive():
        for x, y in DataLoader(data, 64, num_workers=1):
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step(); optimizer.zero_grad()
            if not alive():
                break
def forks():
    while alive():
        subprocess.run([sys.executable, "-S", "-c", "pass"])
def nice():
    os.nice(19); burn()
def idle():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); burn()
def pinned():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}); burn()
def on_and_off():
    while alive():
        busy(5); time.sleep(5)
def chase():
    import numpy as np
    after = np.random.default_rng(0).integers(0, 2**23, 2**23); at = np.arange(2**20)
    while alive():
        at = after[at]
def threads():
    import threading
    def wake():
        while alive():
            time.sleep(0.01)
    for _ in range(50):
        threading.Thread(target=wake, daemon=True).start()
    wake()
def pages():
    import mmap
    while alive():
        with mmap.mmap(-1, 2**28) as memory:
            for place in range(0, 2**28, 4096):
                memory[place] = 1
def sockets():
    import socket, threading
    one, other = socket.socketpair()
    def send():
        while alive():
            one.sendall(bytes(2**16))
    threading.Thread(target=send, daemon=True).start()
    while alive():
        other.recv(2**16)
def compress():
    import lzma
    block = os.urandom(2**18) * 4
    while alive():
        lzma.compress(block)
def files(read):
    while alive():
        for folder, _, names in os.walk(sys.prefix):
            for name in names if read else ():
                try:
                    open(os.path.join(folder, name), "rb").read()
                except OSError:
                    pass
                if not alive():
                    return
"""
#: The call that makes each neighbour, and how many processes of it; 0: one for each CPU.
NEIGHBOURS = {
    "none": ("", 0),
    "poller": ("poller()", 1),
    "bursts of 10 %": ("bursts(0.1)", 1),
    "bursts of 50 %": ("bursts(0.5)", 1),
    "one core": ("burn()", 1),
    "all cores": ("burn()", 0),
    "memory streamer": ("stream()", 1),
    "disk writer": ("write()", 1),
    "training": ("train()", 1),
}
#: Neighbours on which nothing was fitted.
MORE = {
    "short processes": ("forks()", 1),
    "one core at nice 19": ("nice()", 1),
    "one core at SCHED_IDLE": ("idle()", 1),
    "one pinned core": ("pinned()", 1),
    "5 s on and off": ("on_and_off()", 1),
    "random reads of memory": ("chase()", 1),
    "50 threads that wake up": ("threads()", 1),
    "new pages": ("pages()", 1),
    "a socket": ("sockets()", 1),
    "compression": ("compress()", 1),
    "a walk through folders": ("files(read=False)", 1),
    "reading of files": ("files(read=True)", 1),
}


@contextlib.contextmanager
def neighbour(name: str) -> Iterator[None]:
    """Run the neighbour."""
    call, count = (NEIGHBOURS | MORE)[name]
    if call and not count:
        import psutil

        count = psutil.cpu_count() or 1
    program = [sys.executable, "-c", _PROGRAM + call]
    processes = [subprocess.Popen(program) for _ in range(count)]
    try:
        time.sleep(3 if count else 0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
