"""Time and memory of the journal: append, recover, finish, and adopt a finished table.

python -m bench.journal [--rows 1000 10000 100000] [--tokens 5000] [--folder DIR]

Every phase runs in a separate process, whose peak resident memory is reported.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts import tables
from stages.artifacts.journal import Journal, Key

PHASES = ("append", "recover", "finish", "adopt", "extend")
RECIPE = {"traces": {"step": "traces", "version": 1}}


def main() -> None:
    """Run every phase at every size and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--tokens", type=int, default=5_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phase:
        print(json.dumps(measure(args.phase, args.folder / "t.parquet", *args.rows, args.tokens)))
        return
    print(f"Rows of {args.tokens:,} tokens\n")
    print("| rows | phase | seconds | peak MiB | on disk MiB |\n|---:|:---|---:|---:|---:|")
    for rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for phase in PHASES:
                command = [sys.executable, "-m", "bench.journal", "--phase", phase]
                command += ["--folder", folder, "--rows", str(rows), "--tokens", str(args.tokens)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                seconds, peak, disk = json.loads(done.stdout)
                figures = f"{rows:,} | {phase} | {seconds:.1f} | {peak:,.0f} | {disk:,.0f}"
                print(f"| {figures} |", flush=True)


def measure(phase: str, output: Path, count: int, tokens: int) -> tuple[float, float, float]:
    """Seconds, peak memory and size on disk (MiB) of one phase."""
    keys: list[Key] = [(f"q{n // 8}", n % 8) for n in range(count)]
    started = time.monotonic()
    if phase == "append":
        with Journal(output, tables.TRACES, RECIPE, ("n_tokens",)) as journal:
            started = time.monotonic()
            for row in traces(keys, tokens):
                journal.append(row)
    else:
        with Journal(output, tables.TRACES, RECIPE, ("n_tokens",)) as journal:
            assert sum(journal.column("n_tokens", keys)) == count * tokens
            if phase == "finish":
                started = time.monotonic()
                journal.finish(keys, {"seconds": journal.seconds})
            if phase == "extend":
                keys.append(("q0", 8))
                journal.append(next(traces(keys[-1:], tokens)))
                journal.finish(keys, {"seconds": journal.seconds})
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = sum(file.stat().st_size for file in output.parent.rglob("*") if file.is_file())
    return seconds, peak, size / (1 << 20)


def traces(keys: list[Key], tokens: int) -> Iterator[dict[str, Any]]:
    """Rows of the `traces` table with Zipf-distributed token ids, and text of as many words."""
    generator = np.random.default_rng(0)
    words = np.array([f"w{n:04d}" for n in range(10_000)])
    samples = []
    for _ in range(64):
        ids = np.minimum(generator.zipf(1.3, tokens), 150_000).astype(np.int32)
        samples.append((ids.tolist(), " ".join(words[ids % 10_000])))
    for n, (question, k) in enumerate(keys):
        ids, text = samples[n % len(samples)]
        yield {
            "question_id": question,
            "k": k,
            "seed": n,
            "token_ids": ids,
            "trace": text,
            "n_tokens": tokens,
            "finish_reason": "stop",
            "closed": True,
        }


if __name__ == "__main__":
    main()
