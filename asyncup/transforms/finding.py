"""Finds a user's function by its name, or says by name why there is none; and says how another process would find it."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from asyncup.errors import TransformBroken
from asyncup.transforms.failures import own_traceback, said

_FORM = "write it as package.module:function, such as app.thumbnails:make"


@dataclass(frozen=True, slots=True)
class Found:
    """A user's function, ready to be called here.

    Attributes:
        name: what messages call it.
        function: what is called with each row.
        setup: what is to be called once before, of the same module; None where it has none.
        is_async: whether it is to be awaited.
        way: how another process finds it.
    """

    name: str
    function: Callable[[Any], Any]
    setup: Callable[[], Any] | None
    is_async: bool
    way: Way


@dataclass(frozen=True, slots=True)
class Way:
    """How another process finds a function: what it imports first, and then a name in it or a pickle.

    Attributes:
        module: what it imports; None where nothing is to be imported by name.
        script: the file that is the program itself here, which it runs under another name than `__main__`.
        attribute: the function's dotted name in `module`.
        pickled: the function itself, where it has no such name.
        refusal: why no other process can find it; None if one can.
        remedy: what to do about that.
    """

    module: str | None = None
    script: str | None = None
    attribute: str | None = None
    pickled: bytes | None = None
    refusal: str | None = None
    remedy: str | None = None


#: Says in each thread whether it imports a user's module: one that runs asyncup again would never end.
importing = threading.local()


def refuse_within_import(spec: object) -> None:
    """Refuse to begin while the module that has the function is being imported.

    Raises:
        TransformBroken: it is.
    """
    if (module := getattr(importing, "module", None)) is not None:
        raise _broken(
            str(spec),
            f"{module} runs asyncup when it is imported, and is imported for its function",
            'put what it does under `if __name__ == "__main__":`',
        )


@contextlib.contextmanager
def being_imported(module: str | None) -> Iterator[None]:
    """A user's module is imported within."""
    importing.module = module
    try:
        yield
    finally:
        importing.module = None


def find(spec: str | Callable[..., Any]) -> Found:
    """Find what a text names, in the current folder too, or look at a callable. Imports the user's module: may take long.

    Raises:
        TransformBroken: there is nothing of that name, its module cannot be imported, or it cannot be called.
    """
    if not isinstance(spec, str):
        return _given(spec)
    module_name, _, attribute = spec.partition(":")
    if not module_name or not all(part.isidentifier() for part in [*module_name.split("."), *attribute.split(".")]):
        raise _broken(spec, f"{spec} names no function", _hint_of_form(spec))
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    module = _imported(spec, module_name)
    function: Any = module
    for part in attribute.split("."):
        if not hasattr(function, part):
            raise _broken(spec, f"{_called(function)} has no {part}", _nearest(part, function))
        function = getattr(function, part)
    if not callable(function):
        raise _broken(spec, f"{spec} is {_a(function)}, not a function", _nearest("", module))
    way = Way(module=module_name, attribute=attribute)
    return Found(spec, _collected(function), _setup_of(module, function), _is_async(function), way)


def _imported(spec: str, name: str) -> ModuleType:
    try:
        with being_imported(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if name.endswith(".py"):  # that of a file; importing it has run it, as it would by its right name
            hint = f"write it as {name.removesuffix('.py')}:{spec.partition(':')[2]}"
            raise _broken(spec, f"there is no module {name}", hint) from None
        if exc.name is None or not (name == exc.name or name.startswith(f"{exc.name}.")):
            raise _not_imported(spec, name, exc) from None
        found = sorted({*(path.stem for path in Path.cwd().glob("*.py")), *_packages()})
        near = difflib.get_close_matches(exc.name.partition(".")[0], found, n=1)
        if "." in exc.name:
            near = []
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"it is looked for in {Path.cwd()}, PYTHONPATH and what is installed"
        )
        raise _broken(spec, f"there is no module {exc.name}", hint) from None
    except Exception as exc:  # noqa: BLE001 - a module of the user's may raise anything
        raise _not_imported(spec, name, exc) from None
    except SystemExit as exc:
        raise _not_imported(spec, name, exc) from None


def _packages() -> list[str]:
    return [path.parent.name for path in Path.cwd().glob("*/__init__.py")]


def _not_imported(spec: str, name: str, exc: BaseException) -> TransformBroken:
    return _broken(spec, f"importing {name} failed: {said(exc)}", own_traceback(exc))


def _given(function: Callable[..., Any]) -> Found:
    name = name_of(function)
    if not callable(function):
        raise _broken(name, f"{_a(function)} is not a function", _FORM)
    module = sys.modules.get(_module_of(function))
    setup = None if module is None else _setup_of(module, function)
    return Found(name, _collected(function), setup, _is_async(function), _way(function, name))


def name_of(function: Any) -> str:
    """What messages call a callable."""
    inner = function.func if isinstance(function, functools.partial) else function
    if not hasattr(inner, "__qualname__"):
        inner = type(inner)
    return f"{getattr(inner, '__module__', '?')}:{getattr(inner, '__qualname__', inner)}"


def _way(function: Any, name: str) -> Way:
    """How another process finds a callable."""
    module = _module_of(function)
    try:
        pickled = pickle.dumps(function, protocol=5)
    except Exception as exc:  # noqa: BLE001 - pickling runs methods of the user's
        what = "a lambda" if "<lambda>" in name else "a function within a function" if "<locals>" in name else "it"
        return Way(
            refusal=f"{what} cannot be sent to another process: {said(exc)}",
            remedy=f"define it at the top of a module, and give it by its name ({_FORM}), or use --executor thread",
        )
    if module != "__main__" and b"__main__" not in pickled:
        return Way(module=module, pickled=pickled)
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        return Way(
            refusal="it is defined in an interactive session, which no other process can import",
            remedy="write it into a module, or use --executor thread",
        )
    if not _is_guarded(file):
        return Way(
            refusal=f"it is defined in {Path(file).name}, which another process would have to run from the beginning",
            remedy="move it into a module of its own, or put what the script does under "
            '`if __name__ == "__main__":`, or use --executor thread',
        )
    spec = getattr(main, "__spec__", None)
    if spec is not None and not spec.name.startswith("__main__"):
        return Way(script=f"-m {spec.name}", pickled=pickled)
    return Way(script=str(Path(file).resolve()), pickled=pickled)


def _is_guarded(file: str) -> bool:
    """Whether a script does its work under `if __name__ == "__main__":`, so that importing it does nothing."""
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return False
    return any(
        isinstance(part, ast.If) and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(part.test))
        for part in body
    )


def follow(way: Way) -> tuple[Callable[[Any], Any], Callable[[], Any] | None]:
    """In another process: the function, and its module's `setup`.

    Raises:
        Exception: whatever the user's module raises, and what pickle does.
    """
    with being_imported(way.module or way.script):
        if way.script is not None:
            _bring_main(way.script)
        module = importlib.import_module(way.module) if way.module is not None else sys.modules.get("__main__")
    if way.attribute is not None:
        function: Any = module
        for part in way.attribute.split("."):
            function = getattr(function, part)
    else:
        function = pickle.loads(way.pickled or b"")  # noqa: S301 - made by the process that started this one
    return _collected(function), None if module is None else _setup_of(module, function)


def _bring_main(script: str) -> None:
    """In another process: run the program's script under another name, and let pickles find in it what was `__main__`'s.

    As `multiprocessing` does it (https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods).
    """
    if script.startswith("-m "):
        main = importlib.import_module(script.removeprefix("-m "))
    else:
        spec = importlib.util.spec_from_file_location("__mp_main__", script)
        assert spec is not None  # noqa: S101 - it is a file that Python ran
        assert spec.loader is not None  # noqa: S101
        main = importlib.util.module_from_spec(spec)
        sys.modules["__mp_main__"] = main
        spec.loader.exec_module(main)
    sys.modules["__main__"] = main


def _setup_of(module: ModuleType, function: Any) -> Callable[[], Any] | None:
    """The module's own `setup`; one that it only imported is another's."""
    setup = getattr(module, "setup", None)
    if not inspect.isfunction(setup) or setup is function:
        return None
    return setup if setup.__module__ == module.__name__ or module is sys.modules.get("__main__") else None


def _module_of(function: Any) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    found = getattr(inner, "__module__", None) or type(inner).__module__
    return str(found)


def _is_async(function: Any) -> bool:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isclass(inner):
        return False
    calls = (inner, getattr(inner, "__call__", None))  # noqa: B004 - its signature is asked for, not whether there is one
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in calls)


def _collected(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function; for an `async def` that yields, one that gives all of it."""
    if not (inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(getattr(function, "__call__", None))):  # noqa: B004
        return function

    @functools.wraps(function)
    async def collected(record: Any) -> list[Any]:
        return [made async for made in function(record)]

    return collected


def _nearest(name: str, owner: Any) -> str:
    """A hint: the function that was probably meant, or those that there are."""
    home = getattr(owner, "__name__", None)
    names = [
        key
        for key, value in getattr(owner, "__dict__", {}).items()
        if not key.startswith("_") and callable(value) and (not inspect.ismodule(owner) or _module_of(value) == home)
    ]
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"it has {', '.join(names[:20])}{', …' if names[20:] else ''}" if names else "it has no functions"


def _hint_of_form(spec: str) -> str:
    module, colon, _ = spec.partition(":")
    if not colon and module.endswith(".py"):
        return f"write it as {module.removesuffix('.py').replace(os.sep, '.')}:function"
    if not colon and "." in module:
        return f"write it as {':'.join(module.rsplit('.', 1))}"
    return _FORM


def _called(owner: Any) -> str:
    return f"module {owner.__name__}" if inspect.ismodule(owner) else str(getattr(owner, "__qualname__", owner))


def _a(value: Any) -> str:
    kind = type(value).__qualname__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _broken(spec: str, message: str, hint: str | None) -> TransformBroken:
    return TransformBroken("load transform", spec, message, hint)
