"""Scorer and trainer on one GPU at Qwen3-8B's shapes, random weights, nothing fetched.

python -m bench.lm_gpu [PART ...]

Parts: exactness head scoring memory training master. Each runs in a separate process, so that a
failure costs only the lines of that part; all together take less than ten minutes on an H200.
"""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import Line, show
from bench.lm import VOCABULARY, long_tailed
from stages.lm import attention
from stages.lm.logprobs import token_logprobs
from stages.lm.loss import weighted_nll
from stages.lm.model import LanguageModel, make_bin
from stages.lm.norms import fuse_norms
from stages.lm.packing import pack
from stages.lm.plan import TrainingRows, TrainingSettings
from stages.lm.trainer import Trainer

CUDA = torch.device("cuda")
GIB = 2**30
SECONDS_A_PART = 150


def main(parts: list[str]) -> None:
    """Print the table; with `--inside` as first argument, one part's lines alone."""
    if parts and parts[0] == "--inside":
        attention.register()
        show(PARTS[parts[1]](), heading=False)
        return
    if not torch.cuda.is_available():
        show(lines())
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n", flush=True)
    show([])
    for part in parts or PARTS:
        command = [sys.executable, "-m", "bench.lm_gpu", "--inside", part]
        environment = os.environ | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
        try:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, timeout=SECONDS_A_PART
            )
            failed = f"exit code {done.returncode}" if done.returncode else ""
            print(done.stdout.rstrip(), flush=True)
        except subprocess.TimeoutExpired:
            failed = f"stopped after {SECONDS_A_PART} s"
        if failed:
            print(f"| {part} | not run: {failed} | | | | |", flush=True)


def lines() -> list[Line]:
    """Every line as not run, for machines without a GPU."""
    return [Line(what, "not run", goal) for what, goal in GOALS.items()]


def model_of(size: str, device: torch.device = CUDA, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A Qwen3 model of a published size, with random weights made on the device."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    hidden, intermediate, layers, heads, tied = {
        "8B": (4096, 12288, 36, 32, False),
        "1.7B": (2048, 6144, 28, 16, True),
        "tiny": (256, 768, 4, 4, False),
    }[size]
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=min(8, heads // 2),
        head_dim=128,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3ForCausalLM._from_config(
            config, dtype=dtype, attn_implementation=attention.NAME
        )
    return model.eval()


def random_rows(lengths: np.ndarray) -> TrainingRows:
    """Rows of random tokens, a tenth of each its prompt."""
    rng = np.random.default_rng(0)
    return TrainingRows(
        rng.integers(0, VOCABULARY, int(lengths.sum())).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.maximum(1, lengths // 10).astype(np.int32),
        np.ones(len(lengths)),
    )


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Median wall-clock seconds of one call, after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


def peak(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result, and device memory in GiB above what was held before."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = work()
    torch.cuda.synchronize()
    return result, (torch.cuda.max_memory_allocated() - before) / GIB


# Exactness ---------------------------------------------------------------------------------------


def exactness() -> list[Line]:
    """Packed against one by one: bfloat16 by the flash kernel, float32 by the fallback."""
    lines = []
    lengths = np.array([1900, 1000, 700, 300, 64, 5])
    rows = random_rows(lengths)
    chosen = [rows.tokens(i) for i in range(len(rows))]
    exact = None
    for dtype in (torch.float32, torch.bfloat16):
        model = LanguageModel(model_of("tiny", dtype=dtype))

        def scored(members: list[int], model: LanguageModel = model) -> torch.Tensor:
            bin_ = make_bin([chosen[i] for i in members], rows.n_context[members].tolist(), CUDA)
            with torch.no_grad():
                return model(bin_)

        packed = scored(list(range(len(rows))))
        alone = torch.cat([scored([i]) for i in range(len(rows))])
        exact = alone if exact is None else exact
        apart = (packed - alone).abs()
        text = f"{apart.max():.0e} at most, {apart.mean():.0e} on average"
        if dtype != torch.float32:
            noise = [(x - exact).abs().mean() for x in (packed, alone)]
            text += f"; from float32: packed {noise[0]:.1e}, alone {noise[1]:.1e} on average"
        lines.append(
            Line(f"packed against one by one, {str(dtype)[6:]}, small model", "", agreement=text)
        )
    lines.append(gradient_exactness(chosen, rows))
    return lines


def gradient_exactness(chosen: list[np.ndarray], rows: TrainingRows) -> Line:
    """Gradients of the flash path in bfloat16, packed and one by one, against float32's."""

    def gradient(dtype: torch.dtype, bins: list[list[int]]) -> torch.Tensor:
        model = LanguageModel(model_of("tiny", dtype=dtype)).train()
        for members in bins:
            bin_ = make_bin([chosen[i] for i in members], rows.n_context[members].tolist(), CUDA)
            model(bin_, torch.full((len(bin_.targets),), 1e-3, device=CUDA)).backward()
        return torch.cat([p.grad.float().flatten() for p in model.parameters()])

    everything = list(range(len(rows)))
    exact = gradient(torch.float32, [everything])
    off = [
        float((gradient(torch.bfloat16, bins) - exact).norm() / exact.norm())
        for bins in ([everything], [[i] for i in everything])
    ]
    return Line(
        "gradient in bfloat16 against float32, small model",
        "",
        agreement=f"packed {off[0]:.1e}, one by one {off[1]:.1e} relative",
    )


# Head --------------------------------------------------------------------------------------------


def head() -> list[Line]:
    """Loss and gradients of 8,192 tokens, against the three matrix products they cannot avoid."""
    generator = torch.Generator(CUDA).manual_seed(0)
    n, width = 8192, 4096
    hidden = torch.randn(n, width, device=CUDA, dtype=torch.bfloat16, generator=generator)
    weight = torch.randn(VOCABULARY, width, device=CUDA, dtype=torch.bfloat16, generator=generator)
    weight *= 0.02
    hidden.requires_grad_()
    weight.requires_grad_()
    targets = torch.randint(0, VOCABULARY, (n,), device=CUDA, generator=generator)
    coefficients = torch.full((n,), 1e-4, device=CUDA)

    def ours() -> None:
        hidden.grad = weight.grad = None
        weighted_nll(hidden, weight, targets, coefficients).backward()

    slope = torch.randn(2048, VOCABULARY, device=CUDA, dtype=torch.bfloat16, generator=generator)
    h, w = hidden.detach(), weight.detach()
    grad = torch.zeros_like(w)

    def floor() -> None:
        for part in h.split(2048):
            part @ w.t()
            slope @ w
            grad.addmm_(slope.t(), part)

    our_seconds, floor_seconds = seconds(ours), seconds(floor)
    _, memory = peak(ours)
    few = slice(0, 512)
    with torch.no_grad():
        exact = torch.log_softmax(h[few].float() @ w.float().t(), -1)
        exact = exact.gather(1, targets[few, None])[:, 0]
        apart = (token_logprobs(h[few], w, targets[few]) - exact).abs().max()
    ratio = our_seconds / floor_seconds
    return [
        Line(
            "head, forward and backward, 8,192 tokens x 4,096 x 151,936, against its three matrix "
            "products",
            f"{ratio:.2f} x the time ({1e3 * our_seconds:.1f} ms)",
            "1.5 x",
            ratio <= 1.5,
            f"{memory:.1f} GiB, gradients of 1.2 GiB included",
            f"{apart:.0e} a token from float32",
        )
    ]


# Scoring -----------------------------------------------------------------------------------------


def scoring() -> list[Line]:
    """Tokens a second over bins of 32,768 of traces of mean 5,000."""
    lengths = long_tailed(64, 5000, 32_000)
    rows = random_rows(lengths)
    model = LanguageModel(model_of("8B"))
    fuse_norms(model.checkpoint)
    bins = pack(lengths, 32_768)[:6]

    def work() -> None:
        for members in bins:
            chosen = [rows.tokens(i) for i in members]
            with torch.no_grad():
                model(make_bin(chosen, rows.n_context[members].tolist(), CUDA)).cpu()

    tokens = sum(int(lengths[members].sum()) for members in bins)
    rate = tokens / seconds(work, repeats=2)
    _, memory = peak(work)
    return [
        Line(
            f"scoring, Qwen3-8B shapes, {tokens:,} tokens of traces of mean 5,000",
            f"{rate:,.0f} tokens/s",
            "26,000 tokens/s",
            rate >= 26_000,
            f"{memory:.1f} GiB",
        )
    ]


def memory() -> list[Line]:
    """One trace of 32,768 tokens, against full float32 logits."""
    rows = random_rows(np.array([32_768]))
    model = LanguageModel(model_of("8B"))
    bin_ = make_bin([rows.tokens(0)], [int(rows.n_context[0])], CUDA)

    def full_logits() -> torch.Tensor:
        with torch.no_grad():
            logits = model.checkpoint(
                input_ids=bin_.input_ids,
                position_ids=bin_.position_ids,
                use_cache=False,
                layout=bin_.layout,
            ).logits.float()
            logprobs = torch.log_softmax(logits[0, :-1], -1)
            return logprobs.gather(1, bin_.input_ids[0, 1:, None])[bin_.positions, 0]

    def ours() -> torch.Tensor:
        with torch.no_grad():
            return model(bin_)

    mine, my_memory = peak(ours)
    theirs, their_memory = peak(full_logits)
    ratio = their_memory / my_memory
    return [
        Line(
            "scoring one trace of 32,768 tokens, Qwen3-8B shapes, against full float32 logits",
            f"1/{ratio:.1f} of the memory above the weights",
            "1/4",
            ratio >= 4,
            f"{their_memory:.1f} → {my_memory:.1f} GiB",
            f"{(mine - theirs).abs().mean():.0e} a token on average (its logits are bfloat16)",
        )
    ]


# Training ----------------------------------------------------------------------------------------


def train(size: str, **changes: Any) -> tuple[float, float, float]:
    """Tokens a second of whole optimizer steps, peak memory in GiB, and the last loss."""
    lengths = long_tailed(16, 4000, 8192)
    rows = random_rows(lengths)
    settings = TrainingSettings(
        mean_response_tokens=float((lengths - rows.n_context).mean()),
        steps=3,
        n_draws=48,
        batch_size=16,
        learning_rate=1e-5,
        dtype=torch.bfloat16,
        **({"master_dtype": torch.bfloat16, "tokens_per_micro_batch": 8192} | changes),
    )
    model = LanguageModel(model_of(size))
    fuse_norms(model.checkpoint)
    trainer = Trainer(model, rows, random_rows(lengths[:0]), settings, Path("unused"))
    log = list(trainer.run())
    rate = float(np.median([line["tokens_per_second"] for line in log[1:]]))
    return rate, torch.cuda.max_memory_allocated() / GIB, log[-1]["loss"]


def training() -> list[Line]:
    """Optimizer steps of 16 rows in bins of 8,192, by how many layers are recomputed."""
    lines = []
    for every, what in ((1, "every layer"), (2, "every second layer"), (3, "every third layer")):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            rate, gib, _ = train("8B", recompute_every=every)
        except torch.OutOfMemoryError:
            lines.append(Line(f"training, {what} recomputed", "out of memory"))
            continue
        lines.append(
            Line(
                f"training, Qwen3-8B shapes, bfloat16, bins of 8,192, {what} recomputed",
                f"{rate:,.0f} tokens/s",
                "9,000 tokens/s",
                rate >= 9000,
                f"{gib:.0f} GiB in all",
            )
        )
    return lines


def master() -> list[Line]:
    """Master weights in float32 (FSDP2 on one GPU), against none."""
    with_master, gib, loss = train("1.7B", master_dtype=torch.float32)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    without, gib_without, loss_without = train("1.7B")
    return [
        Line(
            "training, Qwen3-1.7B shapes, float32 master weights, against bfloat16 alone",
            f"{with_master / without:.2f} x tokens/s ({with_master:,.0f})",
            memory=f"{gib_without:.0f} → {gib:.0f} GiB in all",
            agreement=f"loss after 3 steps {loss:.4f} and {loss_without:.4f}",
        )
    ]


PARTS: dict[str, Callable[[], list[Line]]] = {
    "exactness": exactness,
    "head": head,
    "scoring": scoring,
    "memory": memory,
    "training": training,
    "master": master,
}
GOALS = {
    "packed against one by one in bfloat16, forward and backward": "",
    "head, forward and backward, against its three matrix products": "1.5 x",
    "scoring, Qwen3-8B shapes, traces of mean 5,000": "26,000 tokens/s",
    "scoring one trace of 32,768 tokens, against full float32 logits": "1/4 of the memory",
    "training, Qwen3-8B shapes, bfloat16, bins of 8,192": "9,000 tokens/s",
    "training with float32 master weights, against bfloat16 alone": "",
}


if __name__ == "__main__":
    main(sys.argv[1:])
