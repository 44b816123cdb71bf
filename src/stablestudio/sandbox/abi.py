"""The little of Solidity's ABI that the embedded chains speak: words, texts, and Multicall3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from stablestudio.protocols.evm import keccak256

# A contract takes call data and who calls, and returns data or raises `CallReverted`.
Contract = Callable[[bytes, str], Awaitable[bytes]]
View = Callable[[bytes], Awaitable[bytes]]

MULTICALL = "0xca11bde05977b3631167028862be2a173976ca11"  # the same on every chain
_WORD = 32
_MOST_CALLS = 1000
# viem asks chains on which it knows no Multicall3 by a creation that deploys one and calls it; so this code begins.
_DEPLOYING_BYTES = 398
_DEPLOYING_HASH = bytes.fromhex("22296fa8f815086ccadc3cb4a9fb337da50380b8231699362f2c541dc63d0249")


class CallReverted(Exception):
    """A contract refused a call. `data` is what it says of it, in its own encoding."""

    def __init__(self, reason: str = "", *, data: bytes = b"") -> None:
        self.reason = reason
        self.data = data
        super().__init__(reason)


def selector(signature: str) -> bytes:
    """Return the four bytes that name a function or an error."""
    return keccak256(signature.encode())[:4]


def topic(signature: str) -> str:
    """Return an event's name in a log."""
    return "0x" + keccak256(signature.encode()).hex()


def word(value: int) -> bytes:
    """Encode a number."""
    return value.to_bytes(_WORD)


def address_word(address: str) -> bytes:
    """Encode an address."""
    return word(int(address, 16))


def text(value: str) -> bytes:
    """Encode one string, as the only value."""
    data = value.encode()
    return word(_WORD) + word(len(data)) + data + bytes(-len(data) % _WORD)


def read_word(data: bytes, index: int) -> bytes:
    """Return the word at an index of the arguments; raise `CallReverted`, as a decoder in a contract does."""
    found = data[index * _WORD : (index + 1) * _WORD]
    if len(found) != _WORD:
        raise CallReverted
    return found


def read_address(data: bytes, index: int) -> str:
    """Return the address at an index of the arguments, in lower case."""
    return "0x" + read_word(data, index)[12:].hex()


def contract_of(views: Mapping[bytes, View | bytes]) -> Contract:
    """Return a contract that only reads: its answers by selector, fixed ones as they are."""

    async def contract(data: bytes, _: str) -> bytes:
        found = views.get(data[:4])
        if found is None:
            raise CallReverted
        return found if isinstance(found, bytes) else await found(data[4:])

    return contract


def multicall_of(contracts: Mapping[str, Contract]) -> Contract:
    """Return Multicall3's `aggregate3` over other contracts."""

    async def aggregate(arguments: bytes) -> bytes:
        results = []
        for target, may_fail, data in _read_calls(arguments):
            contract = contracts.get(target)
            try:
                results.append((True, b"" if contract is None else await contract(data, MULTICALL)))
            except CallReverted as reverted:
                if not may_fail:
                    raise CallReverted("Multicall3: call failed") from None
                results.append((False, reverted.data))
        return _write_results(results)

    return contract_of({selector("aggregate3((address,bool,bytes)[])"): aggregate})


def read_deployless(data: bytes) -> bytes | None:
    """Return the call data that viem puts behind its code for a contract made for one call; None for any other code."""
    code, arguments = data[:_DEPLOYING_BYTES], data[_DEPLOYING_BYTES:]
    return _bytes_at(arguments, 1) if keccak256(code) == _DEPLOYING_HASH else None


def _read_calls(arguments: bytes) -> list[tuple[str, bool, bytes]]:
    items = _behind(arguments, read_word(arguments, 0))
    count = int.from_bytes(read_word(items, 0))
    if count > _MOST_CALLS:
        raise CallReverted("too many calls")
    heads = items[_WORD:]
    return [_read_call(_behind(heads, read_word(heads, index))) for index in range(count)]


def _read_call(item: bytes) -> tuple[str, bool, bytes]:
    return read_address(item, 0), any(read_word(item, 1)), _bytes_at(item, 2)


def _bytes_at(item: bytes, index: int) -> bytes:
    body = _behind(item, read_word(item, index))
    size = int.from_bytes(read_word(body, 0))
    data = body[_WORD : _WORD + size]
    if len(data) != size:
        raise CallReverted
    return data


def _behind(data: bytes, offset: bytes) -> bytes:
    start = int.from_bytes(offset)
    if start > len(data):
        raise CallReverted
    return data[start:]


def _write_results(results: list[tuple[bool, bytes]]) -> bytes:
    items = [
        word(fine) + word(2 * _WORD) + word(len(data)) + data + bytes(-len(data) % _WORD) for fine, data in results
    ]
    starts, start = [], len(items) * _WORD
    for item in items:
        starts.append(word(start))
        start += len(item)
    return word(_WORD) + word(len(items)) + b"".join(starts) + b"".join(items)
