"""A second fence around the parsing of model text: an audit hook that forbids evaluation.

Nothing here hands such text to Python. If a library ever did, the hook raises before a character of
it runs.
"""

import collections
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import sympy.polys.monomials

_FORBIDDEN_EVENTS = (
    "ctypes.dlopen",
    "os.chmod",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.link",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.spawn",
    "os.symlink",
    "os.system",
    "os.truncate",
    "pty.spawn",
    "shutil.rmtree",
    "socket.__new__",
    "socket.bind",
    "socket.connect",
    "subprocess.Popen",
)
# These build functions from names of their own, never from an answer's text.
_GENERATORS = {module.__file__ for module in (collections, dataclasses, sympy.polys.monomials)}
_forbidding = False


def _asking_file() -> str:
    """File of the code that caused the event which the audit hook is looking at."""
    return sys._getframe(2).f_code.co_filename


@contextmanager
def evaluation_forbidden() -> Iterator[None]:
    """Let nothing in this process compile text, start a program, write a file or open a socket."""
    global _forbidding
    _forbidding = True
    try:
        yield
    finally:
        _forbidding = False


def _refuse(event: str, arguments: tuple) -> None:
    if not _forbidding:
        return
    if event in ("compile", "exec"):
        source = arguments[1] if event == "compile" else arguments[0].co_filename
        # Modules that are loaded on first use come from files, whose names have no `<`.
        if str(source or "<").startswith("<") and _asking_file() not in _GENERATORS:
            raise PermissionError(f"{event} of text is forbidden here")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise PermissionError("writing files is forbidden here")
    if event in _FORBIDDEN_EVENTS:
        raise PermissionError(f"{event} is forbidden here")


def build() -> None:
    """Set up the hook, which no process ever gets rid of; it is idle until it is asked for."""
    sys.dont_write_bytecode = True
    sys.addaudithook(_refuse)
