"""The processes behind the pool: one that has everything loaded, and the workers it forks.

A worker does one request at a time and may be killed at any instant; the next one is forked within
milliseconds. All messages are JSON with their length before them.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

LENGTH = struct.Struct("!I")
_PR_SET_PDEATHSIG = 1
REQUESTS_PER_WORKER = 2000
Handlers = dict[str, Callable[[Any], tuple[str, str]]]
HEADROOM = 256 << 20  # bytes that judging a program may add to a worker's address space
NEAR = 32  # MiB: a process that came this close to its limit may have been refused memory


def send(channel: socket.socket, message: Any) -> None:
    """Send one message."""
    body = json.dumps(message).encode()
    channel.sendall(LENGTH.pack(len(body)) + body)


def receive(channel: socket.socket) -> Any:
    """Receive one message; None where the other side has closed."""
    head = _receive_exactly(channel, LENGTH.size)
    body = _receive_exactly(channel, LENGTH.unpack(head)[0]) if head else None
    return None if body is None else json.loads(body)


def _receive_exactly(channel: socket.socket, count: int) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < count:
        piece = channel.recv(min(count - len(pieces), 1 << 20))
        if not piece:
            return None
        pieces += piece
    return bytes(pieces)


def fork_workers(control: socket.socket) -> None:
    """Fork a worker for every socket that comes over `control`, until that closes."""
    from stages.verifiers.math import symbolic

    import_module("stages.verifiers.code.judge")
    symbolic.prepare_process()
    handlers: Handlers = {"math": _math, "check": _check, "code": _code}
    own = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 65536, 1)
        if not message:
            return
        for ended in filter(None, message.decode().rstrip(";").split(",")):
            os.waitpid(int(ended), 0)  # only now may its number go to another process
        if os.fork() == 0:
            control.close()
            _end_with(own)
            _serve(socket.socket(fileno=descriptors[0]), handlers)
            os._exit(0)
        os.close(descriptors[0])


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _serve(channel: socket.socket, handlers: Handlers) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    send(channel, {"pid": os.getpid()})
    for number in range(1, REQUESTS_PER_WORKER + 1):
        request = receive(channel)
        if request is None:
            return
        spoilt, started = False, time.monotonic()
        try:
            verdict, reason = handlers[request["kind"]](request)
        except MemoryError:
            verdict, reason, spoilt = "error", "out of memory", True
        except Exception as error:
            # Never the message of an exception: it may hold an expression whose repr hangs.
            verdict, reason, spoilt = "error", f"the verifier failed: {type(error).__name__}", True
        last = spoilt or number == REQUESTS_PER_WORKER
        seconds = time.monotonic() - started
        send(channel, {"verdict": verdict, "reason": reason, "seconds": seconds, "last": last})
        if last:
            return


def _math(request: dict[str, Any]) -> tuple[str, str]:
    from stages.verifiers.math import symbolic
    from stages.verifiers.math.compare import Task
    from stages.verifiers.math.fence import evaluation_forbidden

    task = Task(tuple(request["golds"]), request["answer"], request["ordered"])
    with _memory_limited(request["memory_limit"]), evaluation_forbidden():
        try:
            equal, reason = symbolic.compare(task)
        except (symbolic.TooLarge, symbolic.UnreadableGold) as error:
            return "error", str(error)
    if not equal and _memory("VmPeak") > (request["memory_limit"] - NEAR) << 20:
        raise MemoryError  # which the libraries swallow, and then find the answers different
    return ("correct" if equal else "incorrect"), reason


def _check(request: dict[str, Any]) -> tuple[str, str]:
    from stages.verifiers.math import symbolic
    from stages.verifiers.math.fence import evaluation_forbidden

    with _memory_limited(request["memory_limit"]), evaluation_forbidden():
        for gold in request["golds"]:
            if not symbolic.is_readable(gold):
                return "error", f"cannot be parsed: {gold[:200]}"
    return "correct", ""


def _code(request: dict[str, Any]) -> tuple[str, str]:
    """Programs have limits inside their sandbox; this one is on what comes back from there."""
    from stages.verifiers.code import judge

    with _memory_limited((_memory("VmSize") + HEADROOM) >> 20):
        return judge.handle(request)


def _memory(name: str) -> int:
    """Bytes of address space of this process: VmSize has it now, VmPeak had it at most."""
    with Path("/proc/self/status").open() as status:
        sizes = [int(line.split()[1]) << 10 for line in status if line.startswith(name)]
    return sizes[0] if sizes else 0


class _memory_limited:
    """The address space of this process, held to a number of MiB for a while."""

    def __init__(self, mebibytes: int) -> None:
        self._bytes = mebibytes << 20

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_AS)
        hard = self._before[1]
        soft = self._bytes if hard == resource.RLIM_INFINITY else min(self._bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._before)


def main() -> None:
    """What the pool starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool's own end is what ends it
    fork_workers(socket.socket(fileno=int(sys.argv[1])))
