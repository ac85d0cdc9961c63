"""A Python whose processes start in a moment: forks of one that has imported torch and the suite.

Importing torch takes seconds, and the tests start dozens of processes. `interpreter` gives the
path of an executable that accepts ``-P``, ``-u``, ``-m MODULE`` and ``-c CODE`` as ``python``
does. It asks the server for a fork and gives it its standard streams, environment and folder. It
forwards signals, and it ends as the fork ends: with its exit status, or by its signal. When it is
killed, the server kills the fork.

To the suite, the machine is always quiet there. A test of the start itself (binding of threads,
what is imported) needs a real process.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

#: Imported before the forks, and by none of them again.
PRELOADED = (
    *("pytest", "torch", "torchvision", "distributed", "pytest_benchmark.plugin"),
    *("bench.cli.main", "bench.plugin.hooks", "bench.plugin.cells", "bench.plugin.progress"),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interpreter(folder: Path) -> Iterator[str]:
    """Yield the path of the executable, which exists within the context; POSIX only."""
    address, executable = folder / "server", folder / "python"
    words = [sys.executable, "-S", "-E", __file__, str(address)]
    executable.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    executable.chmod(0o755)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(address))
    server.listen(64)
    words = [sys.executable, __file__, "--serve", str(server.fileno()), str(executable)]
    descriptors = [server.fileno()]
    with subprocess.Popen(words, pass_fds=descriptors, stdin=subprocess.PIPE), server:
        yield str(executable)


def serve(descriptor: int, executable: str) -> None:
    """Fork for every client until standard input ends, as it does when the tests have ended."""
    atexit.register(leave)  # the first one registered runs last
    sys.path[0] = str(Path(__file__).parents[2])
    sys.executable = executable  # so that a fork starts its own processes as forks
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # an optional extra
            importlib.import_module(name)
    importlib.import_module("tests.helpers.quiet").always()
    del sys.path[0]
    gc.freeze()  # so that collections leave the pages shared
    server = socket.socket(fileno=descriptor)
    while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
        client, _ = server.accept()
        if os.fork() == 0:
            server.close()
            return attend(client)
        client.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def attend(client: socket.socket) -> None:
    """Fork once more for the program; stay between it and the client until it ends."""
    message, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
    while not message.endswith(b"\n"):
        message += client.recv(1 << 20)
    child = os.fork()
    if child == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return become(**json.loads(message))
    for stream in (*streams, 0, 1, 2):
        os.close(stream)

    def forward() -> None:
        while number := client.recv(1):
            os.kill(child, number[0])
        os.kill(child, signal.SIGKILL)  # the client is gone

    threading.Thread(target=forward, daemon=True).start()
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        client.sendall(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(words: list[str], environment: dict[str, str], folder: str) -> None:
    """Run the program as a new interpreter would; it ends as the program does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path and path not in sys.path]
    words = [word for word in words if word != "-u"] if "-u" in words[:2] else words
    if words[0] == "-P":
        del words[0]
    else:
        sys.path.insert(0, folder)
    option, program, *rest = words
    sys.argv = [option, *rest]
    try:
        if option == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        CODE[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException:
        CODE[0] = 1
        raise


#: The exit status of this process, for `leave`.
CODE = [0]


def leave() -> None:
    """End this process without the destruction of every object, which takes a second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(CODE[0])


def ask(address: str, words: list[str]) -> NoReturn:
    """Let the server fork for these words, and end as the fork ends."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        wanted = {"words": words, "environment": dict(os.environ), "folder": os.getcwd()}
        message = json.dumps(wanted).encode() + b"\n"
        sent = socket.send_fds(client, [message], [0, 1, 2])
        client.sendall(message[sent:])
        for number in SIGNALS:
            signal.signal(number, lambda number, _: client.sendall(bytes([number])))
        code = int(client.recv(16) or b"255")
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(int(sys.argv[2]), sys.argv[3])
    else:
        ask(sys.argv[1], sys.argv[2:])
