"""Attacks on both sandboxes, and what happens where there is none."""

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from attacks import ATTACKS, STDIN

from stages.verifiers import NoSandbox, Pool, VerifyOptions
from stages.verifiers.code import judge, programs, sandbox
from stages.verifiers.code.inside import messages

LIMIT = 1.0
BACKENDS = ("bubblewrap", "seccomp+landlock")
FINE = "print(sum(map(int, input().split())))"


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    trouble = judge.probe(request.param)
    if trouble is not None:
        pytest.skip(f"{request.param} does not work on this machine: {trouble}")
    return request.param


def task(key, program, tests):
    options = VerifyOptions(tests=json.dumps(tests))
    return key, f"```python\n{program}\n```", None, "code", options


def runners() -> set[str]:
    """Processes that came of a runner, by number."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"marshal.loads(bytes.fromhex(" in (process / "cmdline").read_bytes():
                found.add(process.name)
        except OSError:
            continue
    return found


def alive(process: str) -> bool:
    """Whether a process runs; one that ended stays listed until its parent looks."""
    try:
        status = Path("/proc", process, "stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def leftovers(name: str) -> list[Path]:
    places = ("/tmp", "/var/tmp", "/dev/shm", "/", "/usr", "/etc", str(Path.home()), ".")
    return [p for place in places for p in Path(place).glob(f"*{name}*")]


@pytest.fixture(scope="module")
def attacked(backend):
    """Verdicts of all attacks in one pool, and what they left behind."""
    canary = f"canary-{uuid.uuid4().hex}"
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0)
    before = runners()

    def prepared(source: str) -> str:
        source = source.replace("CANARY", f"/var/tmp/{canary}").replace("canary", canary)
        return source.replace("PORT", str(server.getsockname()[1]))

    with server, Pool(workers=4, time_limit=LIMIT, sandbox_name=backend) as pool:
        tasks = [task(name, prepared(source), tests) for name, (tests, source) in ATTACKS.items()]
        verdicts = dict(pool.run(tasks))
        ((_, after),) = pool.run([task("fine", FINE, STDIN)])
        try:
            connected = server.accept()
        except BlockingIOError:
            connected = None
    return verdicts, after, runners() - before, leftovers(canary), connected


def test_there_are_attacks_of_every_kind():
    assert len(ATTACKS) >= 40


def test_no_attack_is_correct(attacked):
    assert [name for name, verdict in attacked[0].items() if verdict.verdict == "correct"] == []
    assert len(attacked[0]) == len(ATTACKS)


def test_no_attack_outlives_its_limit_by_a_second(attacked):
    assert [name for name, v in attacked[0].items() if v.seconds > LIMIT + 1] == []


def test_no_attack_is_mistaken_for_a_failure_of_the_sandbox(attacked):
    assert [n for n, v in attacked[0].items() if "did not start" in v.reason] == []


def test_the_verifier_stays_up(attacked):
    assert attacked[1].verdict == "correct"


def test_no_attack_leaves_a_process_or_a_file_or_gets_out(attacked):
    _, _, processes, files, connected = attacked
    time.sleep(0.2)
    assert set(filter(alive, processes)) == set()
    assert files == []
    assert connected is None


@pytest.mark.parametrize(
    ("tests", "program"),
    [
        (STDIN, "while True: pass"),
        ({"kind": "assert", "code": "assert f() == 1"}, "def f():\n    while True: pass"),
    ],
)
def test_programs_end_with_a_pool_that_is_closed(backend, tests, program):
    before = runners()
    with Pool(workers=2, time_limit=60, sandbox_name=backend) as pool:
        slow = (1, r"\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", None)
        running = pool.run([task(0, program, tests), slow])
        assert next(running)[0] == 1
        until = time.monotonic() + 10
        while not runners() - before and time.monotonic() < until:
            time.sleep(0.01)
        started = runners() - before
        running.close()
    assert started
    until = time.monotonic() + 5
    while any(map(alive, started)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, started))


def test_both_sandboxes_judge_alike(rows):
    outcomes = []
    for name in BACKENDS:
        if judge.probe(name) is not None:
            pytest.skip(f"{name} does not work on this machine")
        labelled = rows("verifier/code_labelled")[::20]
        tasks = (
            (row["id"], row["answer"], None, "code", VerifyOptions(tests=row["tests"]))
            for row in labelled
        )
        with Pool(workers=2, sandbox_name=name) as pool:
            outcomes.append({key: verdict.verdict for key, verdict in pool.run(tasks)})
    assert outcomes[0] == outcomes[1]


def test_bubblewrap_comes_first():
    if judge.probe("bubblewrap") is not None:
        pytest.skip("bubblewrap does not work on this machine")
    assert judge.choose() == "bubblewrap"


@pytest.fixture
def nothing_works(monkeypatch):
    judge.choose.cache_clear()
    monkeypatch.setattr(judge, "probe", lambda name: "not here")
    yield
    judge.choose.cache_clear()


def test_without_a_sandbox_programs_are_refused(nothing_works):
    with Pool(workers=1) as pool, pytest.raises(NoSandbox) as refused:
        list(pool.run([task(0, FINE, STDIN)]))
    assert "bubblewrap: not here" in str(refused.value)
    assert "allow_unsandboxed" in str(refused.value)


def test_without_a_sandbox_a_setting_may_allow_programs(nothing_works):
    with Pool(workers=1, allow_unsandboxed=True) as pool:
        ((_, verdict),) = pool.run([task(0, FINE, STDIN)])
    assert verdict.verdict == "correct"
    assert verdict.reason.endswith("[unsandboxed]")


def test_the_second_sandbox_is_taken_where_the_first_is_missing(monkeypatch):
    if judge.probe("seccomp+landlock") is not None:
        pytest.skip("seccomp and Landlock do not work on this machine")
    judge.choose.cache_clear()
    monkeypatch.setattr(sandbox, "_program", lambda name: f"/nowhere/{name}")
    assert judge.choose() == "seccomp+landlock"
    judge.choose.cache_clear()


def test_a_sandbox_that_does_not_start_is_an_error_not_a_wrong_answer():
    class Broken(sandbox.Backend):
        name = "broken"

        def command(self, python):
            return ["false"]

    tests = programs.as_tests(STDIN)
    assert judge.run(FINE, tests, Broken(), 5, 512) == ("error", "the sandbox did not start")


def test_no_test_finds_what_another_left(backend):
    tests = {"kind": "stdin", "inputs": ["1", "2"], "outputs": ["no", "no"]}
    program = (
        "import os\nfound = os.path.exists('/tmp/x')\ntry:\n    open('/tmp/x', 'w').write('x')\n"
        "except OSError:\n    pass\nprint('yes' if found else 'no')"
    )
    with Pool(workers=1, sandbox_name=backend) as pool:
        ((_, verdict),) = pool.run([task(0, program, tests)])
    assert verdict.verdict == "correct", verdict.reason


def test_a_process_whose_parent_is_gone_does_not_start(backend):
    chosen = sandbox.backend(backend)
    if chosen.enter is None:
        pytest.skip("the namespace ends its processes")
    child = os.fork()
    if child == 0:
        sandbox._end_with(os.getpid(), sandbox.ctypes.CDLL(None))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


# The runner and its messages ----------------------------------------------------------------------


def test_the_runner_is_written_for_old_pythons():
    for file in sandbox.RUNNER:
        ast.parse(file.read_text(), feature_version=(3, 8))


def test_plain_data_survives_the_way():
    value = {
        "a": [1, -2.5, None, True, "ä\ud800", b"x"],
        2: ({3}, frozenset({4}), 1j, range(1, 9, 2)),
    }
    assert messages.unpack(messages.pack(value)) == value
    assert list(messages.unpack(messages.pack(iter([1, 2])))) == [1, 2]


def test_messages_of_too_many_items_are_refused():
    with pytest.raises(ValueError, match="too many items"):
        messages.unpack(b"l" + b"n" * messages.MAX_UNPACKED + b"e")


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"l", b"i;", b"i1", b"s9;ab", b"s-5;ab", b"s99999999999;a", b"h1;", b"nn", b"Dne"],
)
def test_messages_that_are_none_are_refused(data):
    with pytest.raises((ValueError, IndexError)):
        messages.unpack(data)


def test_an_ordinary_user_has_both_sandboxes_too():
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user already, for whom the other tests speak")
    probing = (
        "from stages.verifiers.code import judge\n"
        "print([judge.probe(name) for name in ('bubblewrap', 'seccomp+landlock')])\n"
    )
    paths = [str(Path(__file__).parents[3]), *(p for p in sys.path if "site-packages" in p)]
    done = subprocess.run(
        [
            *(shutil.which("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"),
            *(str(sandbox.interpreter()), "-B", "-c", probing),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PYTHONPATH": os.pathsep.join(paths), "PATH": os.environ["PATH"]},
    )
    if done.returncode != 0:
        pytest.skip(f"the project cannot be imported by nobody: {done.stderr[-200:]}")
    assert done.stdout.strip() == "[None, None]"
