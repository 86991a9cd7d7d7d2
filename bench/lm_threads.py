"""Two training threads against one, on a quiet machine and beside a busy process.

python -m bench.lm_threads

Two processes train the same model, one with a single thread and one with two, and take turns of a
few steps. Each turn is timed by the wall clock, each pair of turns gives a ratio, and the median
counts. What else runs on the machine shows in the result: run it where nothing else does. Takes
four minutes.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from bench import Line, show

# (name, hidden size, layers, steps of a turn); rows as the demo's, 16 of about 60 tokens a step
MODELS = (("the demo's 0.8M model", 128, 4, 12), ("a 13M model", 512, 4, 2))
PAIRS = 15  # after one that is not counted
GOALS = {"quiet": 1.6, "beside one busy process": 0.9}


def lines() -> Iterator[Line]:
    """One line for each model, quiet and beside a busy process."""
    for name, hidden_size, layers, steps in MODELS:
        for condition, goal in GOALS.items():
            with ExitStack() as stack:
                if condition != "quiet":
                    stack.enter_context(busy_process())
                ratios = paired_ratios(stack, hidden_size, layers, steps)
            median = float(np.median(ratios))
            yield Line(
                f"training steps/s, two threads against one, {name}, {condition}",
                f"{median:.2f} x ({min(ratios):.2f} to {max(ratios):.2f} in {PAIRS} pairs)",
                f"{goal} x",
                median >= goal,
            )


def paired_ratios(stack: ExitStack, hidden_size: int, layers: int, steps: int) -> list[float]:
    """Seconds of one thread over those of two, one ratio a pair of turns."""
    command = [sys.executable, "-m", "bench.lm_threads", str(hidden_size), str(layers), str(steps)]
    one, two = (
        stack.enter_context(
            subprocess.Popen(
                [*command, threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        for threads in ("1", "2")
    )
    ratios = [turn(one) / turn(two) for _ in range(PAIRS + 1)]
    return ratios[1:]


def turn(process: subprocess.Popen) -> float:
    """Seconds that a process's next turn takes."""
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@contextmanager
def busy_process() -> Iterator[None]:
    """Another process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def take_turns(hidden_size: int, layers: int, steps: int, threads: int) -> None:
    """Train a few steps for every line of standard input; print the seconds they took."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from stages.lm import attention
    from stages.lm.model import LanguageModel
    from stages.lm.plan import TrainingRows, TrainingSettings
    from stages.lm.trainer import Trainer

    torch.set_num_threads(threads)
    attention.register()
    config = Qwen3Config(
        vocab_size=32,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden_size // 4,
    )
    model = Qwen3ForCausalLM._from_config(config, attn_implementation=attention.NAME)
    rng = np.random.default_rng(0)
    lengths = rng.integers(40, 80, 512)
    rows = TrainingRows(
        token_ids=rng.integers(0, 32, lengths.sum()).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        n_context=np.full(512, 10, dtype=np.int32),
        weights=np.ones(512),
    )
    settings = TrainingSettings(50.0, 10**6, 10**9, 16, 1e-4, recompute_every=0)
    trainer = Trainer(LanguageModel(model), rows, rows, settings, Path("unused"))
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(steps):
            trainer.train_step()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        take_turns(*map(int, sys.argv[1:]))
    else:
        show(lines())
