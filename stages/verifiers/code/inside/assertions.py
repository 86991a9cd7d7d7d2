"""Test code, run beside a candidate that it can ask but that cannot look into it.

Part of the program that `runner` is. The tests run in this process, the candidate in another one;
every name of the candidate's is a proxy here, and values cross as plain data, so that an `__eq__`
or a look at the caller's frame gains nothing.
"""

import builtins
import posix
import sys

if __name__ != "__main__":  # in the sandbox they are one program, and annotations stay texts
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any

    from stages.verifiers.code.inside.candidates import (
        MAX_OUTPUT,
        SOLUTION,
        confine,
        hide,
        namespace,
        replace_streams,
        take_over,
    )
    from stages.verifiers.code.inside.messages import Value, first_of, pack, receive, send, write


_BINARY = "eq ne lt le gt ge add sub mul truediv floordiv mod pow matmul and or xor radd rmul"
_UNARY = "str repr hash neg pos abs invert"
_STANDARD = {  # types that cross by their parts; what rebuilds them is called on either side
    "fractions": ("Fraction",),
    "decimal": ("Decimal",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "collections": ("deque",),
    "builtins": ("dict_keys", "dict_items"),
}
_PLAIN_TYPES = ("int", "float", "str", "bool", "list", "tuple", "dict", "set", "bytes", "complex")


def by_parts(value: "Any") -> "Any":
    """A standard type, or an object of one, as `Value`; None for anything else."""
    kind = type(value)
    if kind is type and value in [getattr(builtins, name) for name in _PLAIN_TYPES]:
        return Value(("builtins", value.__name__, None))
    if kind.__name__ not in _STANDARD.get(kind.__module__, ()):
        return None
    if kind.__module__ == "builtins":
        return Value(("builtins", kind.__name__, (list(value),)))
    if kind.__name__ == "deque":
        return Value(("collections", "deque", (list(value), value.maxlen)))
    return Value((kind.__module__, kind.__name__, tuple(value.__reduce__()[1])))


def from_parts(value: Value) -> "Any":
    """The other way round; ValueError for a type that does not cross."""
    module, name, arguments = value
    if module == "builtins" and arguments is None and name in _PLAIN_TYPES:
        return getattr(builtins, name)
    if name not in _STANDARD.get(module, ()):
        raise ValueError("no such type")
    if module == "builtins":
        (items,) = arguments
        return dict.fromkeys(items).keys() if name == "dict_keys" else dict(items).items()
    return getattr(__import__(module), name)(*arguments)


class RemoteError(Exception):
    """An exception of the candidate's own kind."""


class Connection:
    """The tests' end of the line to the candidate's process."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies
        self._exceptions: dict = {}

    def ask(self, *request: object) -> dict:
        send(self._requests, request, Proxy.number_of)
        reply = receive(self._replies, self.proxy)
        if reply.get("printed"):
            sys.stdout.write(reply["printed"])
        if "raise" in reply:
            raise self.exception(reply["raise"])(*reply["content"])
        return reply

    def exception(self, names: tuple) -> type:
        """A local class for an exception's, by the names of its bases, the nearest first."""
        if not names or names[0] == "BaseException":
            return RemoteError
        known = getattr(builtins, str(names[0]), None)
        if isinstance(known, type) and issubclass(known, BaseException):
            return known
        if names[0] not in self._exceptions:
            base = self.exception(names[1:])
            self._exceptions[names[0]] = type(str(names[0]), (base,), {})
        return self._exceptions[names[0]]

    def value(self, *request: object) -> "Any":
        return self.ask(*request)["value"]

    def proxy(self, number: "Any") -> "Any":
        return from_parts(number) if type(number) is Value else Proxy(self, number)

    def call(self, number: int, arguments: tuple, named: dict) -> "Any":
        reply = self.ask("call", number, arguments, named)
        handed = (*arguments, *named.values())
        for before, after in zip(handed, reply.get("arguments", ())):  # noqa: B905 - not in 3.8
            if type(before) is list and type(after) is list:
                before[:] = after
            elif type(before) in (dict, set) and type(after) is type(before):
                before.clear()
                before.update(after)
        if "awaited" in reply:
            return _coroutine(reply["awaited"])
        return reply["value"]


async def _coroutine(value: object) -> object:
    return value


class Proxy:
    """An object of the candidate's. It equals nothing of the tests': they compare plain data."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.__dict__["_connection"] = connection
        self.__dict__["_number"] = number
        self.__dict__["_made_by_tests"] = False

    @staticmethod
    def number_of(value: object) -> "Any":
        if type(value) is Proxy:
            return value._number
        parts = by_parts(value)
        if parts is None:
            raise TypeError("only plain data can be given to the candidate")
        return parts

    def __call__(self, *arguments: object, **named: object) -> "Any":
        result = self._connection.call(self._number, arguments, named)
        if type(result) is Proxy and self._connection.value("is class", self._number):
            result.__dict__["_made_by_tests"] = True
        return result

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):
            raise AttributeError(name)
        return self._connection.value("attribute", self._number, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._connection.ask("assign", self._number, name, value)

    def __bool__(self) -> bool:
        return self._connection.value("truth", self._number)

    def __iter__(self) -> "Iterator[Any]":
        return iter(self._connection.value("list", self._number))

    def __len__(self) -> int:
        return self._connection.value("length", self._number)

    def __getitem__(self, key: object) -> "Any":
        return self._connection.value("item", self._number, key)

    def __contains__(self, item: object) -> bool:
        if self._made_by_tests:
            return self._connection.value("contains", self._number, item)
        return any(item is one or item == one for one in self)

    def __instancecheck__(self, value: object) -> bool:
        return type(value) is Proxy and self._connection.value("isinstance", self._number, value)


def _operator(name: str) -> "Any":
    """An operator of a proxy's; with data of the tests' only of an object that they made."""

    def operate(self: Proxy, *others: object) -> "Any":
        compares = name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
        trusted = self._made_by_tests and not compares
        if others and type(others[0]) is not Proxy and not trusted:
            return NotImplemented
        if name in ("__abs__",) and not self._made_by_tests:
            raise TypeError("not a number")
        return self._connection.value("operate", self._number, name, *others)

    return operate


for _name in (_BINARY + " " + _UNARY).split():
    setattr(Proxy, f"__{_name}__", _operator(f"__{_name}__"))


def run_assert(requests: int, replies: int, first: dict, code: "CodeType") -> None:
    """Run test code here against a candidate in a process of its own."""
    hide()
    ask, asked = posix.pipe()
    answer, answered = posix.pipe()
    parent = posix.getpid()
    child = posix.fork()
    if child == 0:
        take_over(ask, 62)
        take_over(answered, 63)
        replace_streams(None, None)
        posix.closerange(3, 62)
        confine(first, parent)
        serve(62, 63, code)
    posix.close(ask)
    posix.close(answered)
    request = receive(requests)
    confine(first, first["parent"])
    try:
        connection = Connection(asked, answer)
        scope = {"__name__": "tests", "__builtins__": builtins}
        program = compile(request["code"], "tests", "exec")
        exec(compile(request["setup"], "setup", "exec"), scope)
        scope.update(_names(connection, request))
        exec(program, scope)
        status = "ok"
    except BaseException as error:
        status = type(error).__name__
    send(replies, {"status": status})


def _names(connection: Connection, request: dict) -> dict:
    """The candidate's names that the tests may use; of the fallback ones, the first it defines."""
    found = connection.ask("names")["names"]
    names = [name for name in request["names"] if name in found]
    if not request["names"]:
        names = [name for name in request["fallback"] if name in found][:1]
    scope = {}
    for name in names:
        kind, content = found[name]
        if kind != "module":
            scope[name] = connection.exception(content) if kind == "exception" else content
    return scope


def serve(requests: int, replies: int, code: "CodeType") -> None:
    """The candidate's process: define its names, then do what the tests' proxies ask."""
    objects: list = []
    failed: BaseException | None = None

    def number_of(value: object) -> "Any":
        parts = by_parts(value)
        if parts is not None:
            return parts
        objects.append(value)
        return len(objects) - 1

    def object_of(number: "Any") -> "Any":
        return from_parts(number) if type(number) is Value else objects[number]

    printed = sys.stdout = __import__("io").StringIO()
    vars(sys).update(__stdout__=printed)

    try:
        scope = namespace(SOLUTION)
        exec(code, scope)
    except BaseException as error:
        failed = error
    while True:
        request = receive(requests, object_of)
        try:
            if failed is not None:
                raise failed
            reply = _do(scope, objects, *request)
            if printed.tell():
                reply["printed"] = printed.getvalue()[:MAX_OUTPUT]
                printed.seek(0)
                printed.truncate()
            body = pack(reply, number_of)
        except BaseException as error:
            body = _raised(error)
        write(replies, body)


def _raised(error: BaseException) -> bytes:
    """An exception by the names of its classes, and what it was raised with."""
    names = _exception_names(type(error))
    try:
        return pack({"raise": names, "content": error.args})
    except BaseException:
        return pack({"raise": names, "content": ()})


def _exception_names(kind: type) -> tuple:
    return tuple([base.__name__ for base in kind.__mro__ if issubclass(base, BaseException)])


def _do(scope: dict, objects: list, what: str, number: int = -1, *details: "Any") -> dict:
    if what == "names":
        return {"names": {n: _described(v) for n, v in scope.items() if n[:2] != "__"}}
    target = objects[number]
    if what == "call":
        return _called(target, *details)
    if what == "assign":
        setattr(target, *details)
        return {}
    return {"value": _ASKED[what](target, *details)}


_ASKED: "dict[str, Callable[..., Any]]" = {
    "attribute": getattr,
    "truth": bool,
    "item": lambda target, key: target[key],
    "list": lambda target: first_of(target),
    "length": len,
    "contains": lambda target, item: item in target,
    "isinstance": lambda target, value: isinstance(value, target),
    "is class": lambda target: isinstance(target, type),
    "operate": lambda target, name, *others: getattr(type(target), name)(target, *others),
}


def _called(target: "Any", arguments: tuple, named: dict) -> dict:
    handed = [*arguments, *named.values()]
    before = pack(handed, id)
    result = target(*arguments, **named)
    if hasattr(type(result), "cr_frame"):
        import asyncio

        reply = {"awaited": asyncio.run(result)}
    else:
        reply = {"value": result}
    if pack(handed, id) != before:
        reply["arguments"] = handed
    return reply


def _described(value: "Any") -> tuple:
    if isinstance(value, type) and issubclass(value, BaseException):
        return "exception", _exception_names(value)
    return ("module", value.__name__) if isinstance(value, type(sys)) else ("value", value)
