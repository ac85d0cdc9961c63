"""The command ``bench``, also as ``python -m bench``."""

import os
import signal
import sys

STOPPED = 130


def main() -> None:
    """Run the command; report Ctrl-C at its start, or lost output, in one line."""
    try:
        from bench.cli import output
        from bench.cli.main import app

        out = output.install()
        status: int | str | None = 0
        try:
            app(prog_name="bench")
        except SystemExit as ended:
            status = ended.code
        # The result is there: a second Ctrl-C would only interrupt what libraries do at exit.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        out.flush()
        if out.problem:
            print(f"bench: standard output: {out.problem.strerror}", file=sys.stderr)
        sys.exit(status or (2 if out.problem else 0))
    except KeyboardInterrupt:
        os.write(2, b"bench: stopped\n")
        os._exit(STOPPED)


if __name__ == "__main__":
    main()
