# ruff: noqa: E501 - programs are easier to read with their own line breaks only
"""Programs that try to pass without being right, to break out, or to break the verifier.

Each is a name, the tests it faces and its source; `CANARY` in a source is replaced by a file name
that must not come to be, `PORT` by a port on which somebody listens. Whatever it achieves, it does
not compute what is asked: none may be judged correct.
"""

STDIN = {"kind": "stdin", "inputs": ["3 4\n", "5 6\n"], "outputs": ["7\n", "11\n"]}
CALL = {"kind": "call", "entry_point": "f", "inputs": [[3, 4], [5, 6]], "outputs": [7, 11]}
METHOD = {**CALL, "entry_point": "Solution.f"}
ASSERT = {
    "kind": "assert",
    "code": "def check(candidate):\n"
    "    assert candidate(3, 4) == 7\n"
    "    assert abs(candidate(5, 6) - 11) < 1e-9\n\n"
    "check(f)\n",
}
LIST = {"kind": "assert", "code": "assert f(3) == [0, 1, 2]\nassert f(1) == [0]\n"}

SYSCALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
BOMBS = {
    "fork bomb": (STDIN, "import os\nwhile True:\n    os.fork()"),
    "fork bomb that swallows errors": (
        STDIN,
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    ),
    "thread bomb": (
        STDIN,
        "import threading, time\nwhile True:\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()",
    ),
    "20 GB at once": (STDIN, "x = bytearray(20 << 30)\nprint(len(x))"),
    "memory by and by": (STDIN, "x = []\nwhile True:\n    x.append(bytearray(1 << 20))"),
    "memory in a file": (
        STDIN,
        "import os\nfd = os.memfd_create('x')\nwhile True:\n    os.write(fd, b'x' * (1 << 20))",
    ),
    "endless output": (STDIN, "while True:\n    print('7' * 100000)"),
    "endless errors": (STDIN, "import sys\nwhile True:\n    sys.stderr.write('7' * 100000)"),
    "disk in one file": (
        STDIN,
        "with open('/tmp/x', 'wb') as f:\n    while True:\n        f.write(b'x' * (1 << 20))",
    ),
    "disk in many files": (
        STDIN,
        "i = 0\nwhile True:\n    i += 1\n    open(f'/tmp/{i}', 'wb').write(b'x' * 65536)",
    ),
    "folders without end": (
        STDIN,
        "import os\nos.chdir('/tmp')\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')",
    ),
    "sleep": (STDIN, "import time\ntime.sleep(1000)"),
    "spin past all signals": (
        STDIN,
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
    ),
    "catch everything, for ever": (
        STDIN,
        "while True:\n    try:\n        while True:\n            pass\n"
        "    except BaseException:\n        pass",
    ),
    "stop itself": (STDIN, "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    "one huge power": (STDIN, "print(9 ** 9 ** 9)"),
    "a pattern that backtracks": (STDIN, "import re\nre.match('(a+)+b', 'a' * 64)\nprint(1)"),
    "source nested too deeply": (STDIN, "x = " + "(" * 50000 + ")" * 50000),
    "source that folds without end": (STDIN, "x = ((1 << 100000000) * 3) ** 1000000\nprint(x)"),
    "recursion without end": (CALL, "def f(a, b):\n    return f(b, a)"),
    "crash in C": (CALL, "import ctypes\ndef f(a, b):\n    return ctypes.string_at(0)"),
    "hang while defining": (CALL, "while True:\n    pass\ndef f(a, b):\n    return a + b"),
    "hang in the second call": (
        CALL,
        "n = 0\ndef f(a, b):\n    global n\n    n += 1\n    while n > 1:\n        pass\n"
        "    return a + b",
    ),
    "hang in an assertion": (ASSERT, "def f(a, b):\n    while True:\n        pass"),
    "a result without end": (CALL, "import itertools\ndef f(a, b):\n    return itertools.count()"),
    "a result that holds itself": (CALL, "def f(a, b):\n    x = []\n    x.append(x)\n    return x"),
    "a huge result": (CALL, "def f(a, b):\n    return 'x' * (200 << 20)"),
    "a result nested deeply": (
        ASSERT,
        "def f(a, b):\n    x = 7\n    for _ in range(900):\n        x = [x]\n    return x",
    ),
    "hang at exit": (
        STDIN,
        "import atexit, time\natexit.register(time.sleep, 1000)\nprint(6)",
    ),
    "a thread that outlives": (
        STDIN,
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()",
    ),
}

ESCAPES = {
    "a daemon": (
        STDIN,
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(1000)\n    os._exit(0)\nprint(6)",
    ),
    "a daemon that holds the output": (
        CALL,
        "import os, time\ndef f(a, b):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        time.sleep(1000)\n    return 0",
    ),
    "a shell": (STDIN, "import os\nos.system('(sleep 1000 &) ; touch CANARY')\nprint(6)"),
    "a program in its place": (STDIN, "import os\nos.execv('/bin/sleep', ['sleep', '1000'])"),
    "a program from memory": (
        STDIN,
        "import os\nfd = os.memfd_create('x')\n"
        "os.write(fd, open('/bin/touch', 'rb').read()[:10 << 20])\n"
        "os.execv(f'/proc/self/fd/{fd}', ['touch', 'CANARY'])",
    ),
    "kill everything": (STDIN, "import os\nos.kill(-1, 9)\nprint(6)"),
    "kill its parent": (STDIN, "import os\nos.kill(os.getppid(), 9)\nprint(6)"),
    "kill the tests": (ASSERT, "import os\nos.kill(os.getppid(), 9)\ndef f(a, b):\n    return 7"),
    "stop the tests": (ASSERT, "import os\nos.kill(os.getppid(), 19)\ndef f(a, b):\n    return 7"),
    "kill by number": (
        STDIN,
        "import os\nfor pid in range(2, 40000):\n    try:\n        os.kill(pid, 9)\n"
        "    except OSError:\n        pass\nprint(6)",
    ),
    "write a file": (STDIN, "open('CANARY', 'w').write('x')\nprint(6)"),
    "write to the system": (
        STDIN,
        "import os\nfor p in ('/usr/canary', '/etc/canary', '/canary', '/dev/shm/canary', "
        "'/var/tmp/canary', '/home/canary', '/dev/canary', '/proc/sys/kernel/core_pattern'):\n"
        "    try:\n        open(p, 'w').write('x')\n        print('wrote', p)\n"
        "    except OSError:\n        pass\nprint(6)",
    ),
    "a link out of /tmp": (
        STDIN,
        "import os\nos.symlink('CANARY', '/tmp/link')\nopen('/tmp/link', 'w').write('x')",
    ),
    "the network": (
        STDIN,
        "import socket\ns = socket.create_connection(('127.0.0.1', PORT), timeout=0.3)\n"
        "s.sendall(b'out')\nprint(6)",
    ),
    "a server": (
        STDIN,
        "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 0))\ns.listen()\ns.accept()",
    ),
    "a socket in the abstract": (
        STDIN,
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0canary')\ns.listen()\n"
        "s.settimeout(0.3)\ns.accept()",
    ),
    "a namespace of its own": (
        STDIN,
        SYSCALL + "print(libc.unshare(0x10000000))\nimport os\nopen('/proc/self/uid_map', 'w')",
    ),
    "a mount": (STDIN, SYSCALL + "print(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))"),
    "root again": (STDIN, "import os\nos.setuid(0)\nprint(open('/etc/shadow').read())"),
    "limits raised": (
        STDIN,
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
        "x = bytearray(4 << 30)\nprint(3 + 3)",
    ),
    "limits of its parent": (
        STDIN,
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))\nprint(6)",
    ),
    "ptrace": (STDIN, SYSCALL + "import os\nprint(libc.ptrace(16, os.getppid(), 0, 0))"),
    "kernel calls": (
        STDIN,
        SYSCALL + "for call in (321, 425, 250, 272, 155, 165, 246, 169, 175, 298, 435):\n"
        "    print(libc.syscall(call, 0, 0, 0, 0, 0))",
    ),
    "shared memory": (STDIN, SYSCALL + "print(libc.shmget(0, 1 << 30, 0o1777))\nprint(6)"),
    "type into the terminal": (
        STDIN,
        "import fcntl\nfor c in b'touch CANARY\\n':\n    fcntl.ioctl(0, 0x5412, bytes([c]))\nprint(6)",
    ),
    "the clock": (STDIN, "import time\ntime.clock_settime(0, 0)\nprint(6)"),
    "a clock that stands": (
        CALL,
        "import time\ntime.time = time.monotonic = lambda: 0\ndef f(a, b):\n    while True:\n"
        "        time.sleep(0.1)",
    ),
    "other processes": (
        STDIN,
        "import glob\nfor p in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    try:\n        print(p, open(p, 'rb').read())\n    except OSError:\n        pass",
    ),
}

CHEATS = {
    "an object equal to all, returned": (
        CALL,
        "class X:\n    def __eq__(self, o):\n        return True\ndef f(a, b):\n    return X()",
    ),
    "an object equal to all, asserted": (
        ASSERT,
        "class X:\n    def __eq__(self, o):\n        return True\n    def __sub__(self, o):\n"
        "        return 0\ndef f(a, b):\n    return X()",
    ),
    "a number equal to all": (
        ASSERT,
        "class X(int):\n    def __eq__(self, o):\n        return True\n    def __hash__(self):\n"
        "        return 0\n    def __sub__(self, o):\n        return 0\ndef f(a, b):\n    return X(1)",
    ),
    "a list equal to all": (
        LIST,
        "class X(list):\n    def __eq__(self, o):\n        return True\n    def __iter__(self):\n"
        "        return iter(range(3))\ndef f(n):\n    return X()",
    ),
    "a method with such a result": (
        METHOD,
        "class X(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\n"
        "class Solution:\n    def f(self, a, b):\n        return X(0)",
    ),
    "text equal to all": (
        LIST,
        "class X(str):\n    __eq__ = lambda s, o: True\n    __hash__ = str.__hash__\n"
        "def f(n):\n    return [X(i) for i in range(n)]",
    ),
    "not a number": (ASSERT, "def f(a, b):\n    return float('nan')"),
    "infinity": (ASSERT, "def f(a, b):\n    return float('inf')"),
    "the caller's frames": (
        ASSERT,
        "import sys\ndef f(a, b):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in [*frame.f_locals.values(), *frame.f_code.co_consts]:\n"
        "            if value in (7, 11):\n                return value\n"
        "        frame = frame.f_back\n",
    ),
    "the caller's frames in a call": (
        CALL,
        "import sys\ndef f(a, b):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in frame.f_locals.values():\n            if value in (7, 11):\n"
        "                return value\n        frame = frame.f_back\n",
    ),
    "all objects": (
        ASSERT,
        "import gc\ndef f(a, b):\n    for o in gc.get_objects():\n"
        "        if isinstance(o, str) and 'candidate(3, 4)' in o:\n"
        "            return 7 if a == 3 else 11\n",
    ),
    "its own memory": (
        ASSERT,
        "def f(a, b):\n    mine = []\n    for line in open('/proc/self/maps'):\n"
        "        if ' rw' in line:\n            mine.append(line.split()[0])\n"
        "    with open('/proc/self/mem', 'rb') as memory:\n        for span in mine:\n"
        "            low, high = (int(x, 16) for x in span.split('-'))\n            memory.seek(low)\n"
        "            if b'candid' + b'ate(3, 4)' in memory.read(high - low):\n"
        "                return 7 if a == 3 else 11\n",
    ),
    "the memory of the tests": (
        ASSERT,
        "import os\ndef f(a, b):\n    spans = [l.split()[0] for l in open(f'/proc/{os.getppid()}/maps')]\n"
        "    with open(f'/proc/{os.getppid()}/mem', 'rb') as memory:\n        for span in spans:\n"
        "            low, high = (int(x, 16) for x in span.split('-'))\n            memory.seek(low)\n"
        "            if b'candid' + b'ate(3, 4)' in memory.read(high - low):\n"
        "                return 7 if a == 3 else 11\n",
    ),
    "memory by a kernel call": (
        ASSERT,
        SYSCALL + "import os\ndef f(a, b):\n    buffer = ctypes.create_string_buffer(8)\n"
        "    one = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)\n"
        "    other = (ctypes.c_void_p * 2)(0x400000, 8)\n"
        "    n = libc.process_vm_readv(os.getppid(), one, 1, other, 1, 0)\n"
        "    return 7 if n > 0 and a == 3 else 11 if n > 0 else None",
    ),
    "descriptors of the tests": (
        ASSERT,
        "import os\ndef f(a, b):\n    for fd in os.listdir(f'/proc/{os.getppid()}/fd'):\n"
        "        if b'candidate' in open(f'/proc/{os.getppid()}/fd/{fd}', 'rb').read(100):\n"
        "            return 7 if a == 3 else 11\n",
    ),
    "its own descriptors": (
        ASSERT,
        "import os\ndef f(a, b):\n    for fd in range(60):\n        try:\n            os.set_blocking(fd, False)\n"
        "            if b'candidate' in os.read(fd, 1 << 16):\n"
        "                return 7 if a == 3 else 11\n        except OSError:\n            pass\n",
    ),
    "a forged verdict at once": (
        ASSERT,
        "import os\nbody = b'Ds6;statuss2;oke'\nfor fd in range(3, 64):\n    try:\n"
        "        os.write(fd, len(body).to_bytes(4, 'big') + body)\n    except OSError:\n"
        "        pass\nos._exit(0)",
    ),
    "a forged verdict from a call": (
        ASSERT,
        "import os\ndef f(a, b):\n    body = b'Ds6;statuss2;oke'\n    for fd in range(3, 64):\n"
        "        try:\n            os.write(fd, len(body).to_bytes(4, 'big') + body)\n"
        "        except OSError:\n            pass\n    os._exit(0)",
    ),
    "forged outputs": (
        STDIN,
        "import os\nbody = b'Ds6;outputb2;7\\ns6;statuss2;oke'\nfor fd in range(3, 64):\n    try:\n"
        "        os.write(fd, len(body).to_bytes(4, 'big') + body)\n    except OSError:\n"
        "        pass\nos._exit(0)",
    ),
    "builtins replaced": (
        ASSERT,
        "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.AssertionError = OSError\n"
        "builtins.isinstance = lambda *a: True\nbuiltins.compile = builtins.exec = lambda *a: None\n"
        "def f(a, b):\n    return 7",
    ),
    "names of the tests redefined": (
        ASSERT,
        "def check(f):\n    pass\ndef abs(x):\n    return 0\n"
        "class AssertionError(Exception):\n    pass\ndef f(a, b):\n    return 7",
    ),
    "modules poisoned": (
        ASSERT,
        "import sys\nfor name in list(sys.modules):\n    sys.modules[name] = None\n"
        "def f(a, b):\n    return 7",
    ),
    "leave with success": (ASSERT, "import sys\nsys.exit(0)"),
    "leave at once": (ASSERT, "import os\nos._exit(0)"),
    "leave in the call": (ASSERT, "import os\ndef f(a, b):\n    os._exit(0)"),
    "leave with success in the call": (ASSERT, "def f(a, b):\n    raise SystemExit(0)"),
    "leave a call test": (CALL, "import os\ndef f(a, b):\n    os._exit(0)"),
    "leave a stdin test": (STDIN, "import os\nos._exit(0)"),
    "an error of the tests' kind": (ASSERT, "def f(a, b):\n    raise StopIteration"),
    "nothing": (ASSERT, ""),
    "nothing for stdin": (STDIN, ""),
    "all answers at once": (STDIN, "print(7)\nprint(11)"),
    "the first answer always": (STDIN, "print(7)"),
    "the tests' file": (
        STDIN,
        "import glob\nfor p in glob.glob('/**/*', recursive=True):\n    try:\n"
        "        text = open(p).read(4096)\n    except (OSError, ValueError):\n        continue\n"
        "    if 'outputs' in text:\n        print(7 if input() == '3 4' else 11)\n        break",
    ),
    "the environment": (
        STDIN,
        "import os, sys\nfor text in [*os.environ.values(), *sys.argv, *sys.orig_argv]:\n"
        "    if '11' in text and 'outputs' in text:\n        print(7 if input() == '3 4' else 11)",
    ),
    "an error after the answer": (CALL, "def f(a, b):\n    yield a + b\n    raise KeyError"),
    "a wrong type of answer": (CALL, "def f(a, b):\n    return str(a + b)"),
    "truth for a number": (CALL, "def f(a, b):\n    return True"),
}

ATTACKS = {**BOMBS, **ESCAPES, **CHEATS}
