"""The way out of a pack: compression, and the index that keeps single records readable.

Without an index a pack is compressed as one stream. With one each record is a gzip member or a zstd frame of its own
(RFC 1952, 2.2; RFC 8878, 3.1), so that a range request for what the index says gives bytes that can be read by
themselves; the whole is still one valid file, only larger.
"""

from __future__ import annotations

from json.encoder import encode_basestring

from asyncup.model import Key
from asyncup.packing.layout import Codec


class Outlet:
    """Bytes on their way into one object.

    A line of the index is `{"key": ["1"], "offset": 0, "length": 17}`: where the record lies in the object as it is stored,
    compressed if it is. An empty record has the length 0.
    """

    def __init__(self, codec: Codec | None, *, indexed: bool) -> None:
        self._codec = codec
        self._stream = codec.stream() if codec is not None and not indexed else None
        self._index = bytearray() if indexed else None
        self._offset = 0

    def add(self, piece: bytes) -> bytes:
        """Bytes that are no record: a header, what lies between."""
        if self._index is None:
            return piece if self._stream is None else self._stream.add(piece)
        if self._codec is not None and piece:
            piece = self._codec.compress(piece)
        self._offset += len(piece)
        return piece

    def record(self, key: Key, piece: bytes, member: str | None = None) -> bytes:
        """A record; `member` is the name that it has in the object, if it has one."""
        if self._index is None:
            return piece if self._stream is None else self._stream.add(piece)
        offset = self._offset
        piece = self.add(piece)
        names = ",".join(["null" if part is None else encode_basestring(part) for part in key])
        named = "" if member is None else f',"member":{encode_basestring(member)}'
        self._index += f'{{"key":[{names}]{named},"offset":{offset},"length":{len(piece)}}}\n'.encode()
        return piece

    def finish(self) -> bytes:
        """What the compression has kept."""
        return b"" if self._stream is None else self._stream.finish()

    def index(self) -> bytes:
        """The index so far."""
        return b"" if self._index is None else bytes(self._index)
