"""Who holds the lock of a job: a process that can be told from every other, and whether it is still there.

A lease outlives a process that was killed, so its owner leaves what another process on the same machine needs to see
that it is dead: the machine's name and boot, the space of process ids, the id, and when the process began. Machines that
were started from one snapshot of a memory share all but the name. Whatever cannot be proved counts as alive; then the
lease has to run out.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asyncup.model import timestamp


@dataclass(frozen=True, slots=True)
class Owner:
    """One run. `boot`, `space` and `begun` are empty where the system does not say them; `since` is UTC, ISO 8601."""

    id: str
    host: str
    pid: int
    boot: str
    space: str
    begun: str
    since: str

    @classmethod
    def here(cls) -> Owner:
        """A run of this process. Reads files of the system, so it is for threads."""
        pid = os.getpid()
        return cls(
            id=secrets.token_hex(16),
            host=socket.gethostname(),
            pid=pid,
            boot=_boot(),
            space=_space(),
            begun=_begun(pid) or "",
            since=timestamp(),
        )

    @classmethod
    def of(cls, value: Any) -> Owner:
        """The owner in a JSON object. Raises ValueError, KeyError or TypeError."""
        kinds = {"pid": int}
        fields = {name: value[name] for name in cls.__slots__}
        if not all(isinstance(field, kinds.get(name, str)) for name, field in fields.items()):
            raise ValueError("not an owner")
        return cls(**fields)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_dead(self) -> bool:
        """Whether it was a process of this machine, since it was started, that is no more. For threads, as `here`."""
        if not (self.boot and self.space and self.begun):
            return False
        if (self.host, self.boot, self.space) != (socket.gethostname(), _boot(), _space()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        begun = _begun(self.pid)
        return begun is not None and begun != self.begun

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _boot() -> str:
    """What the kernel calls this boot. Source: https://man7.org/linux/man-pages/man4/random.4.html"""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _space() -> str:
    """The space that process ids are of. Source: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html"""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _begun(pid: int) -> str | None:
    """When a process began, in ticks since the boot; `dead` for one that nobody has waited for; None when it is not said.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return "dead" if state in "ZXx" else fields[18]
