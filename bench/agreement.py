"""Do the engine and the scorer assign the same log-probs to sampled tokens?

python -m bench.agreement [--model DIR] [--draws N] [--tokens T]

vLLM samples at temperature 1 and says the log-prob of every token that it drew; the scorer is
given the same token ids in packed bins. Both compute in float32, then both in bfloat16. Without a
model, a small one with random weights is made. Takes a minute or two for a model of 135M
parameters on a CPU.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import Line, show

LONGEST_PROMPT = 256
GOAL = 1e-4  # nats a token on average, float32


@dataclass(frozen=True)
class Sampled:
    """One draw: its context and tokens, and the engine's log-probs of them."""

    context: list[int]
    tokens: list[int]
    logprobs: np.ndarray


def lines(model: Path, draws: int, tokens: int) -> Iterator[Line]:
    """One line for each dtype."""
    for dtype in ("float32", "bfloat16"):
        sampled = sample(model, dtype, draws, tokens)
        differences = np.abs(
            np.concatenate([d.logprobs for d in sampled]) - score(model, dtype, sampled)
        )
        mean = float(differences.mean())
        yield Line(
            f"log-probs of sampled tokens, vLLM against the scorer, {dtype}, {len(sampled)} draws, "
            f"{len(differences):,} tokens",
            f"{mean:.1e} nats a token on average, {differences.max():.1e} at most",
            f"mean below {GOAL:.0e}" if dtype == "float32" else "",
            mean < GOAL if dtype == "float32" else None,
        )


def sample(model: Path, dtype: str, draws: int, tokens: int) -> list[Sampled]:
    """Draws of vLLM at temperature 1, each with a seed of its own."""
    from vllm import SamplingParams

    from stages.engines.vllm import VllmEngine
    from stages.experiments.settings import Engine, Machine

    how = Engine(name="vllm", dtype=dtype)
    with VllmEngine(model, how, Machine(), LONGEST_PROMPT + tokens) as engine:
        contexts = prompts(engine.tokenizer, draws)
        outputs = engine._llm.generate(
            [{"prompt_token_ids": context} for context in contexts],
            [
                SamplingParams(temperature=1.0, max_tokens=tokens, seed=number, logprobs=0)
                for number in range(draws)
            ],
            use_tqdm=False,
        )
    sampled = []
    for context, output in zip(contexts, outputs, strict=True):
        drawn = output.outputs[0]
        ids = list(drawn.token_ids)
        logprobs = [step[token].logprob for step, token in zip(drawn.logprobs, ids, strict=True)]
        sampled.append(Sampled(context, ids, np.array(logprobs)))
    return sampled


def prompts(tokenizer: object, n: int) -> list[list[int]]:
    """Additions: as a user's turn where the tokenizer has a chat template, else bare."""
    numbers = np.random.default_rng(0).integers(10, 1000, (n, 2))
    if not tokenizer.chat_template:
        return [tokenizer.encode(f"{a}+{b}=", add_special_tokens=False) for a, b in numbers]
    questions = [f"What is {a} + {b}? Explain every step." for a, b in numbers]
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        for question in questions
    ]


def score(directory: Path, dtype: str, sampled: list[Sampled]) -> np.ndarray:
    """The scorer's log-probs of all drawn tokens, draw after draw."""
    import torch

    from stages.lm.model import load, make_bin
    from stages.lm.packing import pack

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load(directory, getattr(torch, dtype), device)
    rows = [np.array(draw.context + draw.tokens) for draw in sampled]
    logprobs: dict[int, np.ndarray] = {}
    for members in pack(np.array([len(row) for row in rows]), 2048):
        bin_ = make_bin(
            [rows[i] for i in members], [len(sampled[i].context) for i in members], device
        )
        with torch.no_grad():
            values = model(bin_).cpu().numpy()
        logprobs |= zip(members, np.split(values, np.cumsum(bin_.counts)[:-1]), strict=True)
    return np.concatenate([logprobs[i] for i in range(len(rows))])


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="directory of a model")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of a draw")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or scratch(Path(folder) / "scratch")
        show(lines(model, args.draws, args.tokens))


def scratch(path: Path) -> Path:
    """The demo's model, untrained."""
    from stages.base import make
    from stages.experiments.sources import Scratch

    make(Scratch(), 0, path)
    return path


if __name__ == "__main__":
    main()
