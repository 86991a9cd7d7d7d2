"""Scorer and trainer on a CPU, compared with the loops they replace.

python -m bench.lm

The model has Qwen3's vocabulary, a small body and random weights; nothing is fetched. Speeds are
tokens per CPU second on one thread: baseline and variants alternate in one process, each round is
a ratio, and their median counts. Memory is the process's peak above what it held before. Takes five
minutes and 8 GB.
"""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from bench import Line, show
from stages.lm import attention
from stages.lm.model import LanguageModel, make_bin
from stages.lm.norms import fuse_norms
from stages.lm.packing import balance, pack, row_costs
from stages.lm.plan import TrainingRows, TrainingSettings
from stages.lm.trainer import Trainer

VOCABULARY = 151_936  # Qwen3's
ROUNDS = 3  # after one that is not counted


def lines() -> Iterator[Line]:
    """Every line of the CPU part."""
    torch.set_num_threads(1)
    attention.register()
    yield from rank_balance()
    yield from bin_filling()
    yield from training()
    for dtype in (torch.float32, torch.bfloat16):
        yield scoring(dtype)


def long_tailed(n: int, mean: float, longest: int) -> np.ndarray:
    """Lengths as reasoning models write them: lognormal, cut at `longest`.

    They are the n quantiles of the distribution in random order, so that a few rows have its tail.
    """
    sigma = 0.8
    quantiles = [NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)]
    lengths = np.exp(np.log(mean) - sigma**2 / 2 + sigma * np.array(quantiles))
    return np.random.default_rng(0).permutation(np.clip(lengths, 16, longest).astype(np.int64))


def small_model(dtype: torch.dtype) -> torch.nn.Module:
    """A Qwen3-architecture model with Qwen3's vocabulary and random weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=False,
        initializer_range=0.1,  # logits of the size of a trained model's
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


# Measuring ---------------------------------------------------------------------------------------


def status(field: str) -> float:
    """A field of this process's memory status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1e3
    raise KeyError(field)


def measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU seconds, and peak memory in MB above the start."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, started = status("VmRSS"), time.process_time()
    result = work()
    return result, time.process_time() - started, status("VmHWM") - before


@dataclass(frozen=True)
class Comparison:
    """A variant and its baseline.

    Attributes
    ----------
    result, baseline : Any
        What both made in the last round.
    ratios : list of float
        CPU seconds of the baseline over those of the variant, one a round.
    baseline_mb, mb : float
        The largest peaks.
    """

    result: Any
    baseline: Any
    ratios: list[float]
    baseline_mb: float
    mb: float

    @property
    def speed(self) -> float:
        """The median of the ratios."""
        return float(np.median(self.ratios))

    @property
    def memory(self) -> float:
        """Peak of the baseline over that of the variant."""
        return self.baseline_mb / self.mb

    def figures(self) -> tuple[str, str]:
        """Cells of the table: speed with its range, memory."""
        return (
            f"{self.speed:.2f} x tokens per CPU second "
            f"({min(self.ratios):.2f} to {max(self.ratios):.2f} in {len(self.ratios)} rounds)",
            f"{self.baseline_mb:,.0f} → {self.mb:,.0f} MB (1/{self.memory:.1f})",
        )


def side_by_side(
    baseline: Callable[[], Any], **variants: Callable[[], Any]
) -> dict[str, Comparison]:
    """Alternate the baseline and its variants; the first round warms up."""
    works = {"baseline": baseline, **variants}
    results: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    peaks: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS + 1):
        for name, work in works.items():
            results.pop(name, None)
            results[name], duration, peak = measured(work)
            seconds[name].append(duration)
            peaks[name].append(peak)
    return {
        name: Comparison(
            result=results[name],
            baseline=results["baseline"],
            ratios=[a / b for a, b in zip(seconds["baseline"], seconds[name], strict=True)][1:],
            baseline_mb=max(peaks["baseline"][1:]),
            mb=max(peaks[name][1:]),
        )
        for name in variants
    }


# Scoring -----------------------------------------------------------------------------------------


def scoring(dtype: torch.dtype) -> Line:
    """Packed bins and a chunked head, against one trace at a time and full float32 logits."""
    lengths = np.array([2000, 1100, 700, 500, 350, 250, 150, 100])
    n_context = lengths // 10
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, VOCABULARY, n) for n in lengths]
    plain, model = small_model(dtype), LanguageModel(small_model(dtype))
    model.checkpoint.set_attn_implementation(attention.NAME)
    fuse_norms(model.checkpoint)

    def one_by_one() -> np.ndarray:
        logprobs_of_rows = []
        for row, context in zip(rows, n_context, strict=True):
            ids = torch.from_numpy(row)[None]
            with torch.no_grad():
                logits = plain(ids, use_cache=False).logits.float()
                logprobs = torch.log_softmax(logits[0, :-1], -1).gather(1, ids[0, 1:, None])
            logprobs_of_rows.append(logprobs[context - 1 :, 0].numpy())
        return np.concatenate(logprobs_of_rows)

    def packed() -> np.ndarray:
        by_row = {}
        for members in pack(lengths, 2048):
            bin_ = make_bin([rows[i] for i in members], n_context[members].tolist())
            with torch.no_grad():
                values = model(bin_).numpy()
            by_row |= zip(members, np.split(values, np.cumsum(bin_.counts)[:-1]), strict=True)
        return np.concatenate([by_row[i] for i in range(len(rows))])

    comparison = side_by_side(one_by_one, packed=packed)["packed"]
    apart = np.abs(comparison.result - comparison.baseline)
    speed, memory = comparison.figures()
    return Line(
        f"scoring, {str(dtype).split('.')[-1]}, 8 rows of 100 to 2,000 tokens, against one row at "
        "a time with full float32 logits",
        speed,
        "1.3 x, 1/8 of the memory",
        comparison.speed >= 1.3 and comparison.memory >= 8,
        memory,
        f"{apart.max():.0e} at most, {apart.mean():.0e} on average",
    )


# Training ----------------------------------------------------------------------------------------


def training() -> list[Line]:
    """A step's gradient from packed bins, against batches of 4 padded to their longest row."""
    lengths = long_tailed(20, 140, 900)  # as 5,000 and 32,000 are to each other
    rng = np.random.default_rng(1)
    tokens = [rng.integers(0, VOCABULARY, n) for n in lengths]
    n_context = np.maximum(1, lengths // 10).astype(np.int32)
    weights = rng.uniform(0.5, 1.5, len(lengths))
    rows = TrainingRows(
        np.concatenate(tokens).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        n_context,
        weights,
    )
    divisor = float((lengths - n_context).sum())
    filled = lengths.sum() / sum(4 * max(lengths[i : i + 4]) for i in range(0, len(lengths), 4))
    plain = small_model(torch.float32).train()

    def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
        values = [p.grad for p in model.parameters()]
        model.zero_grad()
        return values

    def padded() -> list[torch.Tensor]:
        for first in range(0, len(tokens), 4):
            batch = tokens[first : first + 4]
            longest = max(map(len, batch))
            ids = torch.zeros(4, longest, dtype=torch.int64)
            mask, coefficients = torch.zeros_like(ids), torch.zeros(4, longest)
            for i, row in enumerate(batch):
                ids[i, : len(row)] = torch.from_numpy(row)
                mask[i, : len(row)] = 1
                coefficients[i, n_context[first + i] : len(row)] = weights[first + i] / divisor
            logits = plain(ids, attention_mask=mask, use_cache=False).logits.float()
            nll = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
            )
            (nll * coefficients[:, 1:].flatten()).sum().backward()
        return gradients(plain)

    def packed(every: int) -> Callable[[], list[torch.Tensor]]:
        model = small_model(torch.float32)
        fuse_norms(model)
        model.set_attn_implementation(attention.NAME)
        settings = TrainingSettings(
            mean_response_tokens=divisor / len(tokens),
            steps=1,
            n_draws=len(tokens),
            batch_size=len(tokens),
            learning_rate=1e-5,
            tokens_per_micro_batch=4096,
            recompute_every=every,
        )
        trainer = Trainer(LanguageModel(model), rows, rows, settings, Path("unused"))

        def work() -> list[torch.Tensor]:
            trainer.gradient(np.arange(len(tokens)))
            return gradients(model)

        return work

    compared = side_by_side(padded, packed=packed(0), recomputed=packed(1))
    lines = []
    for name, what in (("packed", "packed"), ("recomputed", "packed, layers recomputed")):
        one = compared[name]
        pairs = list(zip(one.result, one.baseline, strict=True))
        off = sum(float((a - b).square().sum()) for a, b in pairs)
        norm = sum(float(b.square().sum()) for _, b in pairs)
        speed, memory = one.figures()
        lines.append(
            Line(
                f"training, float32, {what}, {len(tokens)} rows of {lengths.min()} to "
                f"{lengths.max()} tokens, against padded batches of 4 ({filled:.0%} full)",
                speed,
                "3.5 x" if name == "packed" else "1/8 of the memory",
                one.speed >= 3.5 if name == "packed" else one.memory >= 8,
                memory,
                f"gradients {(off / norm) ** 0.5:.0e} relative",
            )
        )
    return lines


# Packing -----------------------------------------------------------------------------------------


def rank_balance() -> list[Line]:
    """Work of the busiest rank over the mean, against rows dealt out in their order."""
    costs = row_costs(long_tailed(16_710, 5000, 32_000), 1 / 54_000)
    lines = []
    for ranks in (8, 16):
        dealt = [costs[rank::ranks].sum() for rank in range(ranks)]
        shared = [costs[share].sum() for share in balance(costs, ranks)]
        ours, theirs = (max(work) / np.mean(work) for work in (shared, dealt))
        lines.append(
            Line(
                f"largest share of work over the mean, {ranks} ranks, 16,710 traces, against rows "
                "dealt in order",
                f"{ours:.6f} (dealt: {theirs:.3f})",
                "1.02",
                bool(ours <= 1.02),
            )
        )
        step = costs[: 6 * ranks]
        shared = [step[share].sum() for share in balance(step, ranks)]
        mean, dearest = np.mean(shared), max(step)
        lines.append(
            Line(
                f"the same for one optimizer step of {len(step)} rows",
                f"{max(shared) / mean:.3f} (its dearest row alone: {dearest / mean:.3f})",
            )
        )
    return lines


def bin_filling() -> list[Line]:
    """Share of a bin's budget that holds tokens, against padded batches of 4."""
    lengths = long_tailed(16_710, 5000, 32_000)
    bins = pack(lengths, 32_768)
    padded = sum(4 * max(lengths[i : i + 4]) for i in range(0, len(lengths), 4))
    full = lengths.sum() / (len(bins) * 32_768)
    return [
        Line(
            "tokens in bins of 32,768, 16,710 traces, against padded batches of 4",
            f"{full:.2%} full (padded: {lengths.sum() / padded:.0%})",
            "99 %",
            bool(full >= 0.99),
        )
    ]


if __name__ == "__main__":
    show(lines())
