"""One call of a plain function, whatever comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncup.model import Products, Row
from asyncup.transforms.failures import Failure, failure
from asyncup.transforms.products import products
from asyncup.transforms.record import View


def called(
    function: Callable[[Any], Any],
    view: View,
    row: Row,
    fails: type[BaseException] | tuple[type[BaseException], ...] = BaseException,
) -> Products | Failure:
    """A plain function's products for one row, or why there are none: it raised what `fails` a row. Its generators run here."""
    try:
        return products(function(view(row)))
    except fails as exc:  # it may raise anything, SystemExit too
        return failure(exc)


def too_slow(timeout: float) -> Failure:
    """Why a row fails that took longer than it may."""
    most = f"{timeout:g} s" if timeout >= 1 else f"{timeout * 1000:g} ms"
    return Failure(f"the transform took longer than {most}", "--transform-timeout is how long one row may take")
