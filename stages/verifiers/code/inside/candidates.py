"""A program's own side of the sandbox: its limits, its streams, its names, and how it is run.

Part of the program that `runner` is. Nothing here knows what is expected of a candidate.
"""

import builtins
import posix
import resource
import select
import sys

if __name__ != "__main__":  # in the sandbox they are one program, and annotations stay texts
    from types import CodeType
    from typing import Any, NoReturn

    from stages.verifiers.code.inside.messages import first_of, pack, receive, send

MAX_OUTPUT = 8 << 20
MAX_RESULT = 2 << 20
MAX_DESCRIPTORS = 64
RECURSION = 50000  # as LiveCodeBench has it
SOLUTION = "solution"
SIGKILL = 9


# Limits -------------------------------------------------------------------------------------------


def limit(limits: dict) -> None:
    """Bound what this process and its children may take; never to be raised again."""
    cpu = int(limits["cpu"])
    for name, soft, hard in (
        ("RLIMIT_AS", limits["memory"], limits["memory"]),
        ("RLIMIT_CPU", cpu, cpu + 1),
        ("RLIMIT_NPROC", limits["processes"], limits["processes"]),
        ("RLIMIT_FSIZE", 16 << 20, 16 << 20),
        ("RLIMIT_NOFILE", MAX_DESCRIPTORS, MAX_DESCRIPTORS),
        ("RLIMIT_CORE", 0, 0),
    ):
        if soft is not None:
            resource.setrlimit(getattr(resource, name), (soft, hard))


def confine(first: dict, parent: int) -> None:
    """End with the parent, and add a seccomp filter (hexadecimal BPF), where no namespace does.

    `parent` is its number from before the fork: asked later, it may be that of whoever inherited
    this process from a parent that was killed, which nothing would end then.
    """
    if not first["alone"]:
        return
    import ctypes

    libc = ctypes.CDLL(None)
    if libc.prctl(1, SIGKILL, 0, 0, 0):  # PR_SET_PDEATHSIG
        raise OSError("the process could not be bound to its parent")
    if posix.getppid() != parent:
        posix._exit(1)
    program = bytes.fromhex(first["filter"])
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    loaded = Program(len(program) // 8, ctypes.addressof(buffer))
    if program and libc.prctl(22, 2, ctypes.byref(loaded), 0, 0):  # PR_SET_SECCOMP, filter
        raise OSError("the seccomp filter could not be loaded")


def hide() -> None:
    """Close this process's memory and descriptors to others of the same user."""
    import ctypes

    if ctypes.CDLL(None).prctl(4, 0, 0, 0, 0):  # PR_SET_DUMPABLE
        raise OSError("the process could not be hidden")


# Candidate's side ---------------------------------------------------------------------------------


def replace_streams(stdin: "int | None", stdout: "int | None") -> None:
    """Make these two descriptors the standard streams; None is nothing."""
    null = posix.open("/dev/null", posix.O_RDWR)
    posix.dup2(null if stdin is None else stdin, 0)
    posix.dup2(null if stdout is None else stdout, 1)
    posix.dup2(null, 2)
    how: dict = {"encoding": "utf-8", "errors": "surrogateescape", "closefd": False}
    sys.stdin = open(0, **how)  # noqa: SIM115
    sys.stdout, sys.stderr = open(1, "w", **how), open(2, "w", **how)  # noqa: SIM115
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)


def namespace(name: str, code: "CodeType | None" = None) -> dict:
    """Globals of a module: for this code, with what graders prepend to it."""
    module = type(sys)(name)
    sys.modules[name] = module
    sys.argv = ["solution.py"]
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # which the site module would have set
    if code is not None:
        module.__dict__.update(common_names(code))
        sys.setrecursionlimit(RECURSION)
    return module.__dict__


# What graders of stdin and call tests import before a program (LeetCode, LiveCodeBench); those of
# assertions (HumanEval, MBPP) import nothing.
COMMON = {
    "": "bisect collections copy datetime functools heapq io itertools json math operator random "
    "re statistics string sys",
    "bisect": "bisect_left bisect_right insort insort_left insort_right",
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "copy": "deepcopy",
    "functools": "cache cached_property cmp_to_key lru_cache partial reduce",
    "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    "itertools": "accumulate chain combinations combinations_with_replacement count cycle groupby "
    "islice pairwise permutations product repeat starmap takewhile zip_longest",
    "math": "acos asin atan atan2 ceil comb cos dist exp factorial floor gcd hypot inf isqrt lcm "
    "log log10 log2 nan perm pi prod sin sqrt tan",
    "operator": "add and_ attrgetter itemgetter mul or_ sub xor",
    "random": "randint shuffle",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits",
    "sys": "maxsize setrecursionlimit stdin stdout",
    "typing": "Any Callable DefaultDict Deque Dict FrozenSet Generator Iterable Iterator List "
    "NamedTuple Optional Sequence Set Tuple Type TypeVar Union",
}


def common_names(code: "CodeType") -> dict:
    """Those of the `COMMON` names that a program uses: importing all would cost more than it."""
    used, found = used_names(code), {}
    for source, names in COMMON.items():
        for name in used.intersection(names.split()):
            try:
                module = __import__(source or name)
                found[name] = getattr(module, name) if source else module
            except (ImportError, AttributeError):
                continue  # an older Python
    return found


def used_names(code: "CodeType") -> "set[str]":
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            names |= used_names(constant)
    return names


def run_to_end(code: "CodeType", report: int) -> "NoReturn":
    """Run a program as `__main__`, and end this process as Python ends.

    Finalization waits for threads, calls what `atexit` holds, and flushes every open file object.
    """
    status = ""
    try:
        exec(code, namespace("__main__", code))
    except SystemExit:
        pass
    except BaseException as error:
        status = type(error).__name__
    posix.write(report, (status or "ok").encode()[:100])
    raise SystemExit(0)


def run_stdin(requests: int, replies: int, first: dict, code: "CodeType") -> None:
    """Answer inputs with outputs, a fresh process each."""
    common_names(code)  # loaded once, for all of them
    while True:
        test = receive(requests)
        source = posix.memfd_create("stdin")
        left = memoryview(test["input"].encode("utf-8", "surrogatepass"))
        while left:
            left = left[posix.write(source, left) :]
        posix.lseek(source, 0, 0)
        output, output_end = posix.pipe()
        report, report_end = posix.pipe()
        parent = posix.getpid()
        child = posix.fork()
        if child == 0:
            replace_streams(source, output_end)
            posix.dup2(report_end, 63)
            posix.closerange(3, 63)
            confine(first, parent)
            run_to_end(code, 63)
        for descriptor in (source, output_end, report_end):
            posix.close(descriptor)
        printed, status = _collect(child, output, report)
        posix.close(output)
        posix.close(report)
        send(replies, {"output": printed, "status": status})


def _collect(child: int, output: int, report: int) -> "tuple[bytes, str]":
    """Everything a process printed until it ended, or too much of it, and how it ended."""
    printed = bytearray()
    ended: int | None = None
    for descriptor in (output, report):
        posix.set_blocking(descriptor, False)
    while True:
        readable, _, _ = select.select([output], [], [], 0.02 if ended is None else 0)
        piece = posix.read(output, 1 << 16) if readable else None
        if piece:
            printed += piece
            if len(printed) > MAX_OUTPUT:
                posix.kill(child, SIGKILL)
                posix.waitpid(child, 0)
                return b"", "too much output"
            continue
        if ended is not None:
            break
        if readable:  # closed, though the process may still run
            ended = posix.waitpid(child, 0)[1]
        else:
            done, state = posix.waitpid(child, posix.WNOHANG)
            ended = state if done else None
    try:
        status = posix.read(report, 100).decode("utf-8", "replace")
    except OSError:
        status = ""
    if not status:
        killed = posix.WIFSIGNALED(ended)
        status = f"signal {posix.WTERMSIG(ended)}" if killed else "ended itself"
        if not killed and posix.WEXITSTATUS(ended) == 0:
            status = "ok"
    return bytes(printed), status


def run_call(requests: int, replies: int, first: dict, code: "CodeType") -> None:
    """Answer calls with results, in this process."""
    requests, replies = take_over(requests, 62), take_over(replies, 63)
    replace_streams(None, None)
    confine(first, first["parent"])
    try:
        scope = namespace(SOLUTION, code)
        exec(code, scope)
    except BaseException as error:
        send(replies, {"status": type(error).__name__})
        posix._exit(0)
    send(replies, {"status": "ok"})
    while True:
        arguments = receive(requests)["arguments"]
        try:
            result = pack(_entry(scope, first["entry_point"])(*arguments), _as_list)
            if len(result) > MAX_RESULT:
                raise OverflowError
            message = {"status": "ok", "result": result}
        except BaseException as error:
            message = {"status": type(error).__name__}
        send(replies, message)


def take_over(descriptor: int, number: int) -> int:
    posix.dup2(descriptor, number)
    return number


def _entry(scope: dict, path: str) -> "Any":
    """The function to call: `f`, or `Solution.f` of a new object; bare `f` may be a method too."""
    owner, _, name = path.rpartition(".")
    if not owner and name not in scope and "Solution" in scope:
        owner = "Solution"
    if not owner:
        return scope[name]
    return getattr(scope[owner](), name)


def _as_list(value: "Any") -> list:
    """What a call may also return: any other collection, as a list."""
    if hasattr(value, "__iter__") and hasattr(value, "__len__"):
        return first_of(value)
    raise TypeError("not plain data")
