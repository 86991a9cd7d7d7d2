"""Where programs that a model wrote are run: bubblewrap, else seccomp with Landlock, else nowhere.

Both backends start a bare Python that knows no more than the standard library, without network,
without the machine's files or processes, as nobody if this process is root.
"""

import ctypes
import functools
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NOBODY = 65534
_NO_GROUPS = ("--clear-groups", "--")
RUNNER = [
    Path(__file__).with_name("inside") / name
    for name in ("messages.py", "candidates.py", "assertions.py", "runner.py")
]
SYSTEM_PYTHON = Path("/usr/bin/python3")
UNSANDBOXED = "unsandboxed"


class NoSandbox(Exception):
    """Programs cannot be run safely here; the message says what was tried and what to do."""


class Backend:
    """A way to start the runner. `name` stands in every verdict that it leads to."""

    name: str
    has_namespaces = False  # whose end is the end of every process in them
    processes: int | None = None  # what RLIMIT_NPROC may be set to, if it can be
    enter: Callable[[int], None] | None = None  # called in the new process, with its parent's pid

    def command(self, python: Sequence[str]) -> list[str]:
        """The command line that runs this Python in the sandbox."""
        return list(python)

    def candidate_filter(self) -> str:
        """What more candidate code is denied, as hexadecimal BPF; empty for nothing."""
        return ""

    def start(self) -> subprocess.Popen[bytes]:
        """Start the runner with pipes to its standard streams, in a session of its own."""
        command = self.command((str(interpreter()), "-I", "-S", "-B", "-c", runner_command()))
        is_root = os.geteuid() == 0
        identity: dict[str, Any] = {}
        if is_root and self.enter is None:
            # By a command: Popen would have to copy all of this process to do it.
            command = [
                _program("setpriv"),
                f"--reuid={NOBODY}",
                f"--regid={NOBODY}",
                *_NO_GROUPS,
                *command,
            ]
        elif is_root:
            identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={},
            cwd="/",
            start_new_session=True,
            preexec_fn=None if self.enter is None else functools.partial(self.enter, os.getpid()),
            **identity,
        )
        assert process.stdin is not None and process.stdout is not None
        for pipe in (process.stdin, process.stdout):
            os.set_blocking(pipe.fileno(), False)
        return process


def _program(name: str) -> str:
    """Where a program is; the sandbox's own environment has no PATH."""
    return shutil.which(name) or name


@functools.cache
def interpreter() -> Path:
    """The Python that runs candidates: the system's, since any user may reach that one."""
    if SYSTEM_PYTHON.exists():
        asked = subprocess.run(
            [SYSTEM_PYTHON, "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 8))"],
            check=False,
        )
        if asked.returncode == 0:
            return SYSTEM_PYTHON
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return base if base.exists() else Path(sys.executable).resolve()


@functools.cache
def runner_command() -> str:
    """The runner as a command for the interpreter, compiled by it beforehand: it starts faster."""
    compiling = "import marshal,sys;i=sys.stdin;o=sys.stdout.buffer;o.write(marshal.dumps("
    compiling += "compile(i.read(),'runner','exec',optimize=2)))"
    made = subprocess.run(
        [interpreter(), "-I", "-S", "-c", compiling],
        input=b"\n".join(file.read_bytes() for file in RUNNER),
        stdout=subprocess.PIPE,
        check=True,
    )
    return f"import marshal;exec(marshal.loads(bytes.fromhex('{made.stdout.hex()}')))"


def _python_home() -> list[Path]:
    """Folders that the interpreter needs beside the system's libraries."""
    home = interpreter().resolve().parents[1]
    return [] if home.is_relative_to("/usr") else [home]


class Bubblewrap(Backend):
    """Namespaces of its own for everything; files: the system's libraries, and an empty /tmp.

    As under Landlock no file can be written, so that no test finds what another left.
    """

    name = "bubblewrap"
    has_namespaces = True
    processes = 16

    def command(self, python: Sequence[str]) -> list[str]:
        """The command line: what held against every attack tried (see tests/verifiers)."""
        binds = ["--ro-bind", "/usr", "/usr"]
        for top in ("/bin", "/sbin", "/lib", "/lib64"):
            path = Path(top)
            if path.is_symlink():
                binds += ["--symlink", str(path.readlink()), top]
            elif path.exists():
                binds += ["--ro-bind", top, top]
        for home in _python_home():
            binds += ["--ro-bind", str(home), str(home)]
        return [
            _program("bwrap"),
            *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"),
            *("--new-session", "--clearenv", "--cap-drop", "ALL"),
            *binds,
            *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
            *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
            *("--dir", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"),
            "--",
            *python,
        ]


class Landlock(Backend):
    """One process under a seccomp allow-list and Landlock: reads the system's files, writes none.

    Candidate code can start threads but no processes, and signal nobody.
    """

    name = "seccomp+landlock"

    def __init__(self) -> None:
        self._base = _seccomp_filter(_ALLOWED, "")
        self._candidate = _seccomp_filter("", _DENIED_TO_CANDIDATES)

    def candidate_filter(self) -> str:
        """No new processes, no other programs, no signals."""
        return self._candidate.hex()

    def enter(self, parent: int) -> None:
        """Give up everything, for good."""
        libc = ctypes.CDLL(None, use_errno=True)
        _end_with(parent, libc)
        _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _restrict_files(libc, ["/usr", "/bin", "/lib", "/lib64", "/sbin", *_python_home()])
        program = ctypes.create_string_buffer(self._base, len(self._base))
        loaded = struct.pack("HxxxxxxP", len(self._base) // 8, ctypes.addressof(program))
        _check(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, loaded, 0, 0))


class Unsandboxed(Backend):
    """Limits on time and memory, and nothing else: only where a setting allows it."""

    name = UNSANDBOXED

    def enter(self, parent: int) -> None:
        """End with the worker."""
        _end_with(parent, ctypes.CDLL(None))


_BACKENDS: dict[str, Callable[[], Backend]] = {
    Bubblewrap.name: Bubblewrap,
    Landlock.name: Landlock,
    UNSANDBOXED: Unsandboxed,
}


@functools.cache
def backend(name: str) -> Backend:
    """A backend by its name."""
    return _BACKENDS[name]()


# seccomp and Landlock -----------------------------------------------------------------------------

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CLONE_THREAD = 0x10000
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_NEWEST_KNOWN_ABI = 6
# By ABI version, from 1: file rights to handle, network rights, scopes (kernel's landlock.h).
_FILE_RIGHTS = (0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF, 0xFFFF)
_NET_RIGHTS = (0, 0, 0, 3, 3, 3)
_SCOPES = (0, 0, 0, 0, 0, 3)

# What CPython and its standard library need to compute, print and start threads.
_ALLOWED = (
    "access alarm arch_prctl brk capget chdir clock_getres clock_gettime clock_nanosleep "
    "clone close close_range dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait "
    "epoll_wait eventfd2 execve exit exit_group faccessat faccessat2 fadvise64 fcntl fork "
    "fstat fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getgroups "
    "getitimer getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid "
    "getrlimit getrusage getsid gettid gettimeofday getuid ioctl lseek lstat madvise "
    "membarrier memfd_create mincore mlock mmap mprotect mremap msync munlock munmap "
    "nanosleep newfstatat open openat pause pipe pipe2 poll ppoll prctl pread64 preadv "
    "prlimit64 pselect6 pwrite64 pwritev read readlink readlinkat readv restart_syscall rseq "
    "rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "sched_getaffinity sched_getparam sched_getscheduler sched_yield seccomp select "
    "set_robust_list set_tid_address setitimer setrlimit sigaltstack socketpair stat statx "
    "sysinfo tgkill time timer_create timer_delete timer_getoverrun timer_gettime "
    "timer_settime times umask uname vfork wait4 waitid write writev kill recvfrom recvmsg "
    "sendmsg sendto shutdown getsockname getpeername getsockopt setsockopt"
)
_DENIED_TO_CANDIDATES = (
    "execve execveat fork vfork kill tkill tgkill pidfd_open pidfd_send_signal ptrace prctl "
    "seccomp memfd_create timer_create"
)


def _seccomp_filter(allowed: str, denied: str) -> bytes:
    """A BPF program: of an allow-list, or of a deny-list that also refuses new processes."""
    import errno

    import pyseccomp

    refuse = pyseccomp.ERRNO(errno.EPERM)
    made = pyseccomp.SyscallFilter(refuse if allowed else pyseccomp.ALLOW)
    for name in (allowed or denied).split():
        try:
            made.add_rule(pyseccomp.ALLOW if allowed else refuse, name)
        except (OSError, ValueError, RuntimeError):
            continue  # this architecture has no such call
    if denied:
        no_thread = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, 0)
        made.add_rule(refuse, "clone", no_thread)
        # Its own limits a program may lower, or raise to where they were fixed.
        made.add_rule(refuse, "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))
    # glibc falls back to clone, whose flags can be looked at.
    made.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    with tempfile.TemporaryFile() as program:
        made.export_bpf(program)
        program.seek(0)
        return program.read()


def landlock_abi() -> int:
    """Version of the kernel's Landlock; 0 where there is none."""
    return max(0, ctypes.CDLL(None).syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1))


def _restrict_files(libc: ctypes.CDLL, readable: Sequence[str | Path]) -> None:
    abi = min(landlock_abi(), _NEWEST_KNOWN_ABI)
    if abi < 1:
        raise OSError("the kernel has no Landlock")
    rights = _FILE_RIGHTS[abi - 1]
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    attributes = struct.pack("QQQ", rights, _NET_RIGHTS[abi - 1], _SCOPES[abi - 1])[:size]
    ruleset = _check(libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, size, 0))
    grants = [(path, _EXECUTE | _READ_FILE | _READ_DIR) for path in readable]
    grants += [("/etc/ld.so.cache", _READ_FILE), ("/dev/urandom", _READ_FILE)]
    grants += [("/dev/null", _READ_FILE | _WRITE_FILE)]
    for path, granted in grants:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("=Qi", granted, opened)
        _check(libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0))
        os.close(opened)
    _check(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _end_with(parent: int, libc: ctypes.CDLL) -> None:
    """Have the kernel end this process with its parent, even one that was killed just now."""
    _check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)


def _check(returned: int) -> int:
    if returned < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return returned
