"""Functions in processes that die, hang and are killed: real processes, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from asyncup.errors import TransformBroken
from asyncup.transforms.processes import InProcesses
from tests.integration.transforms.functions import MARKS, marks
from tests.integration.transforms.rows import HERE, opened, rows, told


@pytest.fixture(autouse=True)
def marks_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARKS, str(tmp_path))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; who adopts an orphan may take a second to notice."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(met: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
    return found


async def test_a_row_that_ends_its_process_is_tried_once_more_alone_and_only_it_fails() -> None:
    async with opened("play", executor="process", workers=1) as transform:
        made = told(await transform.apply(rows("a", "_exit", "b", "segfault", "kill once", "kill", "c")))

    assert made[0] == (b"a",)
    assert made[1] == "its process ended with exit code 7, twice"
    assert made[2] == (b"b",)
    assert made[3] == "its process was ended by SIGSEGV (a segmentation fault), twice"
    assert made[4] == (b"kill once",)
    assert made[5] == "its process was ended by SIGKILL (as the kernel does when memory runs out), twice"
    assert made[6] == (b"c",)
    assert {name: len(marks(name)) for name in ("_exit", "segfault", "kill once", "kill")} == {
        "_exit": 2,
        "segfault": 2,
        "kill once": 2,
        "kill": 2,
    }
    for name in ("_exit", "segfault", "kill once", "kill"):
        assert len(set(marks(name))) == 2, "each try has a process of its own"


async def test_a_row_that_takes_too_long_fails_at_once_even_in_c_and_its_process_is_gone() -> None:
    async with opened("play", executor="process", workers=1, timeout=0.3) as transform:
        made = told(await transform.apply(rows("a", "hang in C", "b", "hang", "c")))

    assert made == [
        (b"a",),
        "the transform took longer than 300 ms",
        (b"b",),
        "the transform took longer than 300 ms",
        (b"c",),
    ]
    for name in ("hang", "hang in C"):
        (pid,) = marks(name)
        assert not psutil.pid_exists(pid)


async def test_a_process_that_somebody_kills_between_portions_costs_no_row() -> None:
    async with opened("pid", executor="process", workers=1) as transform:
        ((first,),) = told(await transform.apply(rows("a")))
        os.kill(int(first), signal.SIGKILL)
        ((second,),) = told(await transform.apply(rows("b")))

    assert first != second


async def test_a_nursery_that_somebody_kills_costs_no_row_and_leaves_nothing() -> None:
    before = set(psutil.Process().children())  # servers of other tests may be among them
    async with opened("play", executor="process", workers=2) as transform:
        assert isinstance(transform, InProcesses)
        (nursery,) = set(psutil.Process().children()) - before
        nursery.kill()
        made = [told(await transform.apply(rows("a"))), told(await transform.apply(rows("kill once", "b")))]
        pids = transform.pids

    assert made == [[(b"a",)], [(b"kill once",), (b"b",)]]
    assert pids
    until(lambda: all(map(is_gone, pids)))


async def test_closing_in_the_middle_of_a_call_takes_a_second_and_leaves_nothing() -> None:
    async with opened("play", executor="process", workers=2) as transform:
        assert isinstance(transform, InProcesses)
        calls = [asyncio.ensure_future(transform.apply(rows("hang"))) for _ in range(2)]
        await asyncio.to_thread(until, lambda: len(marks("hang")) == 2)
        begun = time.monotonic()
        await transform.close()

        assert time.monotonic() - begun < 1.5
        assert not any(psutil.pid_exists(pid) for pid in marks("hang"))
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)


async def test_what_a_function_has_started_ends_with_its_process(tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text(
        "import subprocess\nfrom pathlib import Path\n"
        "def f(row):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        f"    Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "    child.wait()\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        async with opened("starts:f", executor="process", workers=1, timeout=0.5) as transform:
            made = told(await transform.apply(rows("a")))
    finally:
        sys.path.remove(str(tmp_path))

    assert made == ["the transform took longer than 500 ms"]
    child = int((tmp_path / "child").read_text())
    until(lambda: is_gone(child))


SCRIPT = """
import asyncio, json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
from asyncup.model import Column, RowShape
from asyncup.transforms.opening import open_transform
from asyncup.transforms.record import Layout

async def main(spec):
    layout = Layout(("id",), RowShape(1, ()), None, (Column("name", "text", "text"),))
    transform = await open_transform(spec, layout, executor="process", workers=1)
    print(json.dumps(transform.pids), flush=True)
    try:
        body = json.dumps({"name": sys.argv[1]}).encode()
        print((await transform.apply([("1", len(body), body)]))[0], flush=True)
    finally:
        await transform.close()
"""
CALLED = f'asyncio.run(main("{HERE}:play"))\n'


def script(tmp_path: Path, text: str, name: str, *, wait: bool = True) -> subprocess.Popen[str]:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT + text)
    process = subprocess.Popen(
        [sys.executable, str(file), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        start_new_session=True,
    )
    if wait:
        process.wait(30)
    return process


@pytest.mark.parametrize("name", ["hang", "hang in C"])
def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path, name: str) -> None:
    process = script(tmp_path, CALLED, name, wait=False)
    (pid,) = until(lambda: marks(name))
    (nursery,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()

    until(lambda: is_gone(pid) and is_gone(nursery.pid))


def test_no_import_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    # it computes in C for ever, so nothing of Python's can notice
    (tmp_path / "endless.py").write_text(
        f"import os, re, sys\nif '-c' in sys.argv[0]:\n    import {HERE} as functions\n    functions.mark('import')\n"
        "    re.match(r'(a+)+$', 'a' * 40 + 'b')\ndef f(row): pass\n"
    )
    process = script(tmp_path, 'asyncio.run(main("endless:f"))\n', "a", wait=False)
    (nursery,) = until(lambda: marks("import"))
    process.kill()
    process.communicate()

    until(lambda: is_gone(nursery))


@pytest.mark.parametrize("place", ["parent", "nursery"])
async def test_a_module_that_runs_asyncup_when_it_is_imported_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    condition = "True" if place == "parent" else "'-c' in sys.argv[0]"
    (tmp_path / f"unguarded_{place}.py").write_text(
        f"import asyncio, sys\nfrom asyncup.transforms.opening import open_transform\ndef f(row): pass\n"
        f"if {condition}: asyncio.run(open_transform(f, None, executor='process'))\n"
    )

    with pytest.raises(TransformBroken, match=f"unguarded_{place} runs asyncup when it is imported"):
        async with opened(f"unguarded_{place}:f", executor="process"):
            pass


def test_ctrl_c_reaches_the_parent_only_and_no_traceback_but_its_own_is_seen(tmp_path: Path) -> None:
    process = script(tmp_path, CALLED, "hang", wait=False)
    (pid,) = until(lambda: marks("hang"))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the whole group
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)  # and as somebody may
        os.kill(pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)

    assert stderr.count("KeyboardInterrupt\n") == 1
    assert "functions.py" not in stderr
    assert not psutil.pid_exists(pid)


def test_what_a_function_prints_goes_to_standard_error_and_a_script_without_a_guard_is_not_run_again(
    tmp_path: Path,
) -> None:
    process = script(tmp_path, "print('begins')\n" + CALLED, "print")
    stdout, stderr = process.communicate()

    assert process.returncode == 0, stderr
    assert stdout.splitlines()[0] == "begins"
    assert stdout.splitlines()[2:] == ["(b'print',)"]
    assert stderr == "from the function\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(row): return 'mine'\nif __name__ == '__main__': asyncio.run(main(f))\n", None),
        (
            "def f(row): return 'mine'\nasyncio.run(main(f))\n",
            "it is defined in script.py, which another process would",
        ),
    ],
    ids=["guarded", "not guarded"],
)
def test_a_function_of_the_script_itself_needs_a_guard(tmp_path: Path, text: str, said: str | None) -> None:
    process = script(tmp_path, text, "x")
    stdout, stderr = process.communicate()

    if said is None:
        assert stdout.splitlines()[1] == "(b'mine',)"
    else:
        assert said in stderr
        assert stdout == ""


async def test_a_function_that_no_other_process_can_have_is_refused_by_name() -> None:
    with pytest.raises(TransformBroken, match=r"a lambda cannot be sent to another process") as caught:
        async with opened(lambda row: row.body, executor="process"):
            pass

    assert caught.value.hint is not None
    assert "--executor thread" in caught.value.hint


async def test_a_module_whose_import_starts_threads_is_imported_by_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "threaded.py").write_text(
        "import os, threading\nimported = os.getpid()\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "def f(row): return str(imported == os.getpid())\n"
    )

    async with opened("threaded:f", executor="process", workers=1) as transform:
        assert told(await transform.apply(rows("a"))) == [(b"True",)]


async def test_where_there_can_be_no_more_processes_the_run_ends_and_says_so_and_no_row_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "scarce.py").write_text(
        f"""
import os, pathlib, sys, time

def refuse():
    raise BlockingIOError(11, "no more")

def once():
    os.fork = refuse
    return fork()

if "pytest" not in sys.modules:  # in the process that forks
    fork, os.fork = os.fork, once

def f(row):
    while not pathlib.Path({str(tmp_path)!r}, "go").exists():
        time.sleep(0.005)
    return "made"
"""
    )

    async with opened("scarce:f", executor="process", workers=2) as transform:
        first = asyncio.create_task(transform.apply(rows("a")))
        await asyncio.sleep(0)
        with pytest.raises(TransformBroken, match="no process could be started for it: Resource temp") as caught:
            await transform.apply(rows("b"))
        (tmp_path / "go").touch()
        assert told(await first) == [(b"made",)]
    assert "--executor-workers" in str(caught.value.hint)


async def test_a_module_is_imported_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "once.py").write_text(
        "import os, time\nimported = os.getpid()\n"
        "def f(row):\n    time.sleep(0.05)\n    return f'{imported} {os.getpid()}'\n"
    )

    async with opened("once:f", executor="process", workers=2) as transform:
        made = await asyncio.gather(*(transform.apply(rows("a")) for _ in range(4)))

    found = [told(part)[0][0].decode().split() for part in made]
    assert len({imported for imported, _ in found}) == 1
    assert len({pid for _, pid in found}) == 2
