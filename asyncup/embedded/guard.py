"""Runs one server and makes sure that it does not outlive who started it.

`python -m asyncup.embedded.guard STOP_SIGNAL UID GID COMMAND …`: the server is stopped when standard input ends, which
it does when the starter closes it, or dies, however it dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

#: Seconds for a server to stop by itself.
STOP_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Run the server until it ends or standard input does; returns its exit code."""
    stop_signal, uid, gid, *command = arguments
    owner = {} if uid == "-" else {"user": int(uid), "group": int(gid), "extra_groups": []}
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **owner)  # type: ignore[call-overload]

    def watch() -> None:
        sys.stdin.buffer.read()
        if server.poll() is None:
            server.send_signal(int(stop_signal))
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()

    threading.Thread(target=watch, daemon=True).start()
    code: int = server.wait()
    return code


if __name__ == "__main__":
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    os._exit(main(sys.argv[1:]))
