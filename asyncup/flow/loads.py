"""What travels between the stages of a run: rows to those who make uploads of them, uploads to those who send them."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from asyncup.flow.watermark import StreamTicket, Ticket, Together
from asyncup.model import ROW_OVERHEAD, Row, Upload

#: What a row, or an upload of it, is settled with.
AnyTicket: TypeAlias = Ticket | StreamTicket | Together
#: Rows under the tickets that stand for them; whoever gets them takes them out one by one. A ticket without any rows
#: says that no more rows come under it.
Load: TypeAlias = list[tuple[Ticket | StreamTicket, deque[Row]]]
#: An upload, with what it takes to settle its row.
Parcel: TypeAlias = tuple[Upload, AnyTicket, Row]


def weight(row: Row) -> int:
    """What a row holds of the memory budget."""
    held: int = row[-2] or 0
    return ROW_OVERHEAD + held
