"""RLP, the byte encoding of Ethereum's transactions (Yellow Paper, appendix B); encoding only, we read none."""

from __future__ import annotations

from collections.abc import Sequence

Item = int | bytes | Sequence["Item"]


def encode(item: Item) -> bytes:
    """Encode bytes, a natural number (big-endian, no leading zeros) or a sequence of such; raise `OverflowError` below 0."""
    if isinstance(item, int):
        return encode(item.to_bytes((item.bit_length() + 7) // 8))
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _head(len(item), 0x80) + item
    body = b"".join(encode(each) for each in item)
    return _head(len(body), 0xC0) + body


def _head(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes((offset + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((offset + 55 + len(size),)) + size
