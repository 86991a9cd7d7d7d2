"""Messages between the verifier and what runs in the sandbox: plain data, its length before it.

Read and written on both sides; in the sandbox it is one program with `runner`, by a bare Python
from 3.8 on, so it imports next to nothing.
"""

import posix

if __name__ != "__main__":  # in the sandbox they are one program, and annotations stay texts
    from collections.abc import Callable, Iterable
    from typing import Any

    Objects = Callable[[Any], Any] | None

MAX_ITEMS = 100000
MAX_UNPACKED = 1 << 20  # items of one message, in all


class Value(tuple):
    """An object of the standard library by its parts: module, name, arguments of its type."""

    __slots__ = ()


class Gone(Exception):
    """The process at the other end of a pipe has ended."""


def send(descriptor: int, message: object, objects: "Objects" = None) -> None:
    write(descriptor, pack(message, objects))


def write(descriptor: int, body: bytes) -> None:
    left = memoryview(len(body).to_bytes(4, "big") + body)
    while left:
        left = left[posix.write(descriptor, left) :]


def receive(descriptor: int, objects: "Objects" = None) -> "Any":
    """One message, and not a byte more: what follows may not be for this process."""
    size = int.from_bytes(_exactly(descriptor, 4), "big")
    return unpack(_exactly(descriptor, size), objects)


def _exactly(descriptor: int, count: int) -> bytes:
    pieces = []
    while count:
        piece = posix.read(descriptor, min(count, 1 << 20))
        if not piece:
            raise Gone
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def pack(value: object, objects: "Objects" = None) -> bytes:
    """Plain data as bytes: the type's letter, then the content.

    Subclasses count as their base, by the base's own methods. `objects` makes a number of any
    other object, where there is such a function; else that is a TypeError.
    """
    out = bytearray()
    _pack(value, objects, out)
    return bytes(out)


def _pack(value: "Any", objects: "Objects", out: bytearray) -> None:
    kind = type(value)
    if value is None or kind is bool:
        out += b"n" if value is None else b"y" if value else b"z"
    elif isinstance(value, int):
        out += b"i%s;" % str(int.__int__(value)).encode()
    elif isinstance(value, float):
        out += b"d%s;" % float.__repr__(value).encode()
    elif isinstance(value, str):
        text = str.encode(value, "utf-8", "surrogatepass")
        out += b"s%d;" % len(text)
        out += text
    elif isinstance(value, (bytes, bytearray)):
        out += b"b%d;" % len(value)
        out += value
    elif isinstance(value, dict):
        out += b"D"
        for key, item in dict.items(value):
            _pack(key, objects, out)
            _pack(item, objects, out)
        out += b"e"
    elif kind is complex or kind is range:
        parts = (
            (value.real, value.imag) if kind is complex else (value.start, value.stop, value.step)
        )
        _pack_items(b"c" if kind is complex else b"r", parts, objects, out)
    elif isinstance(value, (list, tuple, set, frozenset)):
        letter, base = next(pair for pair in _BASES if isinstance(value, pair[1]))
        _pack_items(letter, base.__iter__(value), objects, out)
    elif hasattr(kind, "__next__"):
        _pack_items(b"I", first_of(value), objects, out)
    elif objects is None:
        raise TypeError("not plain data")
    else:
        number = objects(value)
        if type(number) is Value:
            _pack_items(b"V", number, None, out)
        elif isinstance(number, int):
            out += b"h%d;" % number
        else:
            _pack(number, None, out)


def _pack_items(letter: bytes, items: "Iterable[Any]", objects: "Objects", out: bytearray) -> None:
    out += letter
    for item in items:
        _pack(item, objects, out)
    out += b"e"


def first_of(items: "Iterable[Any]") -> list:
    """The first `MAX_ITEMS` items; no more are ever sent."""
    taken = []
    for item in items:
        taken.append(item)
        if len(taken) == MAX_ITEMS:
            break
    return taken


def unpack(data: bytes, objects: "Objects" = None) -> "Any":
    """The inverse of `pack`, on untrusted bytes; ValueError if they are invalid."""
    value, end = _unpack(data, 0, objects, [MAX_UNPACKED])
    if end != len(data):
        raise ValueError("bytes left over")
    return value


def _unpack(data: bytes, at: int, objects: "Objects", left: "list[int]") -> "tuple[Any, int]":
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("too many items")
    letter = data[at : at + 1]
    at += 1
    if letter in _CONSTANTS:
        return _CONSTANTS[letter], at
    if letter in _COLLECTIONS or letter == b"V":
        items = []
        while data[at : at + 1] != b"e":
            item, at = _unpack(data, at, objects, left)
            items.append(item)
        if letter == b"V":
            if objects is None:
                raise ValueError("no such type")
            return objects(Value(items)), at + 1
        return _COLLECTIONS[letter](items), at + 1
    end = data.index(b";", at)
    content = data[at:end].decode("ascii")
    at = end + 1
    if letter == b"i":
        return int(content), at
    if letter == b"d":
        return float(content), at
    if letter in (b"s", b"b"):
        end = at + int(content)
        if not at <= end <= len(data):
            raise ValueError("text cut off")
        piece = bytes(data[at:end])
        return (piece if letter == b"b" else piece.decode("utf-8", "surrogatepass")), end
    if letter == b"h" and objects is not None:
        return objects(int(content)), at
    raise ValueError("no such type")


_BASES: "tuple[tuple[bytes, Any], ...]" = (
    (b"l", list),
    (b"t", tuple),
    (b"S", set),
    (b"F", frozenset),
)
_CONSTANTS = {b"n": None, b"y": True, b"z": False}
_COLLECTIONS: "dict[bytes, Callable[[list], Any]]" = {
    b"l": list,
    b"t": tuple,
    b"S": set,
    b"F": frozenset,
    b"I": iter,
    b"D": lambda items: {items[i]: items[i + 1] for i in range(0, len(items), 2)},
    b"c": lambda items: complex(*items),
    b"r": lambda items: range(*items),
}
