"""RLP, the byte encoding of Ethereum's transactions (Yellow Paper, appendix B)."""

from __future__ import annotations

from collections.abc import Sequence

Item = int | bytes | Sequence["Item"]
Decoded = bytes | list["Decoded"]

_MAX_DEPTH = 8


class BadRlp(ValueError):
    """The bytes are no RLP, or not the one spelling that RLP allows."""


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


def decode(data: bytes) -> Decoded:
    """Read one item that fills `data`; raise `BadRlp` for any other spelling than the one that `encode` writes.

    So two different byte strings never have the same content. Lists may lie eight deep.
    """
    item, end = _read(data, 0, len(data), _MAX_DEPTH)
    if end != len(data):
        raise BadRlp("There are bytes behind the item")
    return item


def number(item: Decoded) -> int:
    """Read a natural number as `encode` writes it: big-endian without leading zeros; raise `BadRlp`."""
    if not isinstance(item, bytes) or item[:1] == b"\0":
        raise BadRlp("A number has no leading zeros")
    return int.from_bytes(item)


def _read(data: bytes, start: int, limit: int, depth: int) -> tuple[Decoded, int]:
    """Return the item at `start` and where it ends; it must end at `limit` or before."""
    if start >= limit:
        raise BadRlp("An item is missing")
    kind = data[start]
    if kind < 0x80:
        return data[start : start + 1], start + 1
    if kind < 0xC0:
        first, end = _span(data, start, limit, 0x80)
        if end - first == 1 and data[first] < 0x80:
            raise BadRlp("A small byte stands for itself")
        return data[first:end], end
    if not depth:
        raise BadRlp("The lists lie too deep")
    first, end = _span(data, start, limit, 0xC0)
    items: list[Decoded] = []
    while first < end:
        item, first = _read(data, first, end, depth - 1)
        items.append(item)
    return items, end


def _span(data: bytes, start: int, limit: int, offset: int) -> tuple[int, int]:
    """Return where the content of the item at `start` begins and ends."""
    length, first = data[start] - offset, start + 1
    if length > 55:
        size = length - 55
        length, first = int.from_bytes(data[first : first + size]), first + size
        if length < 56 or data[start + 1] == 0:
            raise BadRlp("A length is written too long")
    if first + length > limit:
        raise BadRlp("An item is cut off")
    return first, first + length
