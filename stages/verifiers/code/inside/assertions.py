"""Test code, run beside a candidate that it can ask but that cannot look into it.

Part of the program that `runner` is. The tests run in this process, the candidate in another one;
every name of the candidate's is a proxy here, and values cross as plain data, so that an `__eq__`
or a look at the caller's frame gains nothing.
"""

import builtins
import posix
import sys

if __name__ != "__main__":  # in the sandbox they are one program, and annotations stay texts
    from collections.abc import Iterator
    from types import CodeType
    from typing import Any

    from stages.verifiers.code.inside.candidates import (
        SOLUTION,
        confine,
        hide,
        namespace,
        replace_streams,
        take_over,
    )
    from stages.verifiers.code.inside.messages import first_of, pack, receive, send, write


class RemoteError(Exception):
    """An exception of the candidate's own kind."""


class Connection:
    """The tests' end of the line to the candidate's process."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies

    def ask(self, *request: object) -> dict:
        send(self._requests, request, Proxy.number_of)
        reply = receive(self._replies, self.proxy)
        if "raise" in reply:
            known = getattr(builtins, str(reply["raise"]), None)
            if not (isinstance(known, type) and issubclass(known, Exception)):
                known = RemoteError
            raise known(reply["raise"])
        return reply

    def value(self, *request: object) -> "Any":
        return self.ask(*request)["value"]

    def proxy(self, number: int) -> "Proxy":
        return Proxy(self, number)

    def call(self, number: int, arguments: tuple, named: dict) -> "Any":
        reply = self.ask("call", number, arguments, named)
        changed = reply.get("arguments", ())
        for position in range(min(len(arguments), len(changed))):
            before, after = arguments[position], changed[position]
            if type(before) is list and type(after) is list:
                before[:] = after
            elif type(before) in (dict, set) and type(after) is type(before):
                before.clear()
                before.update(after)
        return reply["value"]


class Proxy:
    """An object of the candidate's. It equals nothing but itself: tests compare plain data."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.__dict__["_connection"] = connection
        self.__dict__["_number"] = number

    @staticmethod
    def number_of(value: object) -> int:
        if type(value) is Proxy:
            return value._number
        raise TypeError("only plain data can be given to the candidate")

    def __call__(self, *arguments: object, **named: object) -> "Any":
        return self._connection.call(self._number, arguments, named)

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
        return len(self._connection.value("list", self._number))

    def __getitem__(self, key: object) -> "Any":
        return self._connection.value("item", self._number, key)


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
    return {name: found[name][1] for name in names if found[name][0] != "module"}


def serve(requests: int, replies: int, code: "CodeType") -> None:
    """The candidate's process: define its names, then do what the tests' proxies ask."""
    objects: list = []
    failed = None

    def number_of(value: object) -> int:
        objects.append(value)
        return len(objects) - 1

    try:
        scope = namespace(SOLUTION)
        exec(code, scope)
    except BaseException as error:
        failed = type(error).__name__
    while True:
        request = receive(requests, objects.__getitem__)
        try:
            if failed:
                raise RemoteError
            body = pack(_do(scope, objects, *request), number_of)
        except BaseException as error:
            body = pack({"raise": failed or type(error).__name__})
        write(replies, body)


def _do(scope: dict, objects: list, what: str, number: int = -1, *details: "Any") -> dict:
    if what == "names":
        return {"names": {n: _described(v) for n, v in scope.items() if n[:2] != "__"}}
    target = objects[number]
    if what == "attribute":
        return {"value": getattr(target, *details)}
    if what == "assign":
        setattr(target, *details)
        return {}
    if what == "truth":
        return {"value": bool(target)}
    if what == "item":
        return {"value": target[details[0]]}
    if what == "list":
        return {"value": first_of(target)}
    arguments, named = details
    before = pack(arguments, id)
    reply = {"value": target(*arguments, **named)}
    if pack(arguments, id) != before:
        reply["arguments"] = list(arguments)
    return reply


def _described(value: "Any") -> tuple:
    return ("module", value.__name__) if isinstance(value, type(sys)) else ("value", value)
