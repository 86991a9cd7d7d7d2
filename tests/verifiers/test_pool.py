"""Answers that hang, swell or kill hurt only themselves."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stages.verifiers import Pool, VerifyOptions
from stages.verifiers.pool import Job, Result, Workers

LIMIT = 2.0
# Passes every check of form, and keeps a worker busy for minutes: answer and gold.
HANGS = (
    r"\boxed{\sum_{n=1}^{\infty}\frac{\cos(n^2)}{n^3+\sqrt{n}}}",
    r"\sum_{n=1}^{\infty}\frac{\sin(n^2)}{n^3+\sqrt{n}}",
)


def ordinary(rows):
    """More than 5,000 answers of people, models and books, with their golds."""
    for name in ("verifier/math_labelled_gsm8k", "verifier/math_labelled_math"):
        yield from ((row["answer"], row["gold"]) for row in rows(name))
    for row in rows("benchmarks/gsm8k_test"):
        gold = row["answer"].rpartition("####")[2].strip()
        yield rf"{row['answer']} \boxed{{{gold}}}", gold
    for row in rows("benchmarks/math500"):
        yield row["solution"], row["answer"]
    for row in rows("benchmarks/olympiadbench"):
        (gold,) = row["final_answer"]
        yield rf"\boxed{{{gold}}}", gold
    golds = [row["answer"] for row in rows("benchmarks/math500")]
    yield from ((rf"\boxed{{{a}}}", g) for g, a in itertools.pairwise(golds[:150]))


class Watch(threading.Thread):
    """Reads the peak address space of a pool's workers while it works."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(daemon=True)
        self.pool, self.peak, self.over = pool, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):
            for member in list(self.pool._workers._all):
                try:
                    status = Path(f"/proc/{member.pid}/status").read_text()
                except OSError:
                    continue
                peak = [line for line in status.splitlines() if line.startswith("VmPeak")]
                self.peak = max([self.peak, *(int(line.split()[1]) >> 10 for line in peak)])


@pytest.fixture(scope="module")
def mixed(rows):
    """Verdicts of ordinary answers alone, and of the same with all hostile ones among them."""
    plain = list(ordinary(rows))
    hostile = rows("verifier/math_hostile")
    tasks = [(i, answer, gold, "math", None) for i, (answer, gold) in enumerate(plain)]
    with Pool(workers=1, time_limit=LIMIT) as pool:
        alone = {key: verdict[:3] for key, verdict in pool.run(tasks)}
    step = len(tasks) // len(hostile)
    for number, row in enumerate(hostile):
        task = (row["name"], row["answer"], row["gold"], "math", None)
        tasks.insert(number * (step + 1), task)
    with Pool(workers=2, time_limit=LIMIT) as pool:
        watch = Watch(pool)
        watch.start()
        together = dict(pool.run(reversed(tasks)))
        watch.over.set()
    names = {row["name"] for row in hostile}
    return alone, together, names, watch.peak


def test_ordinary_answers_are_judged_the_same_among_hostile_ones(mixed):
    alone, together, names, _ = mixed
    assert len(alone) >= 5000
    assert {key: v[:3] for key, v in together.items() if key not in names} == alone


def test_no_answer_takes_more_than_its_limit(mixed):
    _, together, names, _ = mixed
    assert names <= set(together)
    assert max(verdict.seconds for verdict in together.values()) <= 1.2 * LIMIT


def test_no_worker_exceeds_its_memory_limit(mixed):
    assert 0 < mixed[3] <= 1024


def test_hostile_answers_are_right_only_if_they_are(mixed, rows):
    _, together, _, _ = mixed
    wrong = {r["name"] for r in rows("verifier/math_hostile") if r["expected"] is False}
    # Sixty times the reciprocal of three is three.
    correct = {n for n in wrong if together[n].verdict == "correct"}
    assert correct <= {"nested frac 60"}


def test_the_same_with_gmpy2():
    pytest.importorskip("gmpy2", reason="gmpy2 is not installed")
    with Pool(workers=1, time_limit=LIMIT) as pool:
        tasks = [(1, r"\boxed{9^{9^{9^{9}}}}", "3", "math", None), (2, *HANGS, "math", None)]
        found = dict(pool.run(tasks))
        environment = Path(f"/proc/{pool._workers._forker.pid}/environ").read_text()
    assert "SYMPY_GROUND_TYPES=python" in environment
    assert all(v.verdict == "error" and v.seconds <= 1.2 * LIMIT for v in found.values())


def test_an_answer_that_hangs_is_killed_and_the_next_ones_are_judged():
    with Pool(workers=1, time_limit=LIMIT) as pool:
        tasks = [
            ("hangs", *HANGS, "math", None),
            ("fine", r"\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", None),
        ]
        found = dict(pool.run(tasks))
    assert found["hangs"].verdict == "error"
    assert "over its time" in found["hangs"].reason
    assert found["fine"].verdict == "correct"


def test_a_limit_may_be_an_answers_own():
    with Pool(workers=1) as pool:
        ((_, verdict),) = pool.run([(1, *HANGS, "math", VerifyOptions(time_limit=0.5))])
    assert verdict.verdict == "error"
    assert verdict.seconds < 2


def test_an_answer_too_large_for_memory_costs_only_itself():
    swells = {"kind": "math", "golds": ["3"], "answer": "x", "ordered": False, "memory_limit": 1}
    with Workers(1) as workers:
        jobs = [Job("swells", None, swells, 5.0), Job("fine", Result("correct", ""))]
        found = {job.key: result for job, result in workers.each(jobs)}
        fine = {**swells, "answer": "3", "memory_limit": 1024}
        ((_, after),) = workers.each([Job("after", None, fine, 5.0)])
    assert found["swells"].verdict == "error"
    assert after.verdict == "correct"


def test_a_worker_that_is_killed_costs_one_answer():
    with Pool(workers=2, time_limit=20) as pool:
        tasks = [(0, *HANGS, "math", None)]
        tasks += [(i, rf"\boxed{{x+{i}}}", "1+x", "math", None) for i in range(1, 50)]
        found = {}
        for key, verdict in pool.run(tasks):
            found[key] = verdict
            if key == 10:
                busy = [m for m in pool._workers._busy() if m.job.key == 0]
                os.kill(busy[0].pid, signal.SIGKILL)
    assert found[0].verdict == "error"
    assert found[0].reason == "the worker died"
    assert [v.verdict for k, v in sorted(found.items()) if k] == ["correct"] + ["incorrect"] * 48


def test_a_worker_that_was_kept_from_running_says_nothing_about_its_answer(monkeypatch):
    with Pool(workers=1, time_limit=0.5) as pool:
        give, given = pool._workers._give, []

        def give_to_sleeper(member, job):
            if not given:
                os.kill(member.pid, signal.SIGSTOP)
            given.append(job)
            give(member, job)

        monkeypatch.setattr(pool._workers, "_give", give_to_sleeper)
        ((_, verdict),) = pool.run([(0, r"\boxed{(x+1)^2}", "x^2+2x+1", "math", None)])
    assert len(given) == 2
    assert verdict.verdict == "correct"


def test_verdicts_do_not_depend_on_workers_or_order(rows):
    golds = [row["answer"] for row in rows("benchmarks/math500")][:120]
    tasks = [
        (i, rf"\boxed{{{a}}}", g, "math", None)
        for i, (g, a) in enumerate(itertools.pairwise(golds))
    ]
    outcomes = []
    for workers, ordered in ((1, tasks), (3, tasks[::-1])):
        with Pool(workers=workers) as pool:
            outcomes.append({key: verdict[:3] for key, verdict in pool.run(ordered)})
    assert outcomes[0] == outcomes[1]


def test_equal_questions_are_asked_once(monkeypatch):
    with Pool(workers=1) as pool:
        given = []
        give = pool._workers._give
        monkeypatch.setattr(
            pool._workers, "_give", lambda m, job: (given.append(job), give(m, job))
        )
        tasks = ((i, r"\boxed{(x+1)^2}", "x^2+2x+1", "math", None) for i in range(500))
        assert {v.verdict for _, v in pool.run(tasks)} == {"correct"}
    assert len(given) == 1


def test_tasks_are_taken_as_they_are_needed():
    taken = 0

    def tasks():
        nonlocal taken
        for i in itertools.count():
            taken += 1
            yield i, rf"\boxed{{x+{i}}}", "x", "math", None

    with Pool(workers=1) as pool:
        list(itertools.islice(pool.run(tasks()), 10))
    assert taken < 200


def test_a_pool_may_be_left_at_any_time_and_used_again():
    with Pool(workers=1, time_limit=30) as pool:
        running = pool.run([(0, r"\boxed{1}", "1", "math", None), (1, *HANGS, "math", None)])
        assert next(running)[0] == 0
        running.close()
        ((key, verdict),) = pool.run([(2, r"\boxed{\sqrt{4}}", "2", "math", None)])
    assert (key, verdict.verdict) == (2, "correct")


def test_kinds_that_cannot_be_verified_are_errors():
    with Pool(workers=1) as pool:
        found = dict(pool.run([(1, "x", None, "none", None), (2, "x", "x", "poem", None)]))
    assert {v.verdict for v in found.values()} == {"error"}


def test_the_parent_keeps_its_threads_and_signals():
    code = (
        "import signal, threading\n"
        "before = [signal.getsignal(s) for s in (2, 10, 14, 15, 17)]\n"
        "from stages.verifiers import Pool\n"
        "with Pool(workers=1) as pool:\n"
        "    for _ in pool.run([(1, r'\\boxed{\\sqrt{4}}', '2', 'math', None)]):\n"
        "        assert threading.active_count() == 1\n"
        "assert before == [signal.getsignal(s) for s in (2, 10, 14, 15, 17)]\n"
        "import sys\n"
        "assert 'sympy' not in sys.modules and 'math_verify' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_workers_end_with_a_parent_that_is_killed():
    code = (
        "import sys\nfrom stages.verifiers import Pool\n"
        "pool = Pool(workers=2, time_limit=100)\n"
        f"hangs = (1, *{HANGS!r}, 'math', None)\n"
        "for _ in pool.run([(0, r'\\boxed{\\sqrt{4}}', '2', 'math', None), hangs]):\n"
        "    print(pool._workers._forker.pid, *(m.pid for m in pool._workers._all), flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        pids = parent.stdout.readline().split()
        assert len(pids) >= 2
        parent.kill()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids if int(pid))
