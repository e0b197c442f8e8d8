"""One call of a plain function, whatever comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncup.model import Products, Row
from asyncup.transforms.failures import Failure, failure
from asyncup.transforms.pace import spelled
from asyncup.transforms.products import products
from asyncup.transforms.record import View


def called(function: Callable[[Any], Any], view: View, row: Row) -> Products | Failure:
    """A plain function's products for one row, or why there are none. Its generators run here."""
    try:
        return products(function(view(row)))
    except BaseException as exc:  # noqa: BLE001 - the user's function may raise anything, SystemExit too
        return failure(exc)


def too_slow(timeout: float) -> Failure:
    """Why a row fails that took longer than it may."""
    return Failure(f"it took longer than {spelled(timeout)}", "--transform-timeout is how long one row may take")
