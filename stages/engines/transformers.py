"""Sampling with `generate` of Transformers, for machines without vLLM."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.engines import Draw, Request, Sampling
from stages.experiments.settings import Engine as EngineSettings
from stages.experiments.settings import Machine

if TYPE_CHECKING:
    import torch

BATCH = 64


class TransformersEngine:
    """One model in this process; requests are drawn in batches."""

    def __init__(
        self, model: Path, settings: EngineSettings, machine: Machine, longest: int
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=settings.dtype)
        # of the model's generation settings only the end tokens, not a repetition penalty, say
        ends = loaded.generation_config.eos_token_id
        self._ends_at = set(ends if isinstance(ends, list) else [ends]) - {None}
        loaded.generation_config = GenerationConfig(eos_token_id=sorted(self._ends_at) or None)
        self._model = loaded.to(device).eval()
        self._batch = min(BATCH, machine.max_requests)
        self._longest = min(longest, loaded.config.max_position_embeddings)
        self.tokenizer = AutoTokenizer.from_pretrained(model)

    def __enter__(self) -> "TransformersEngine":
        return self

    def __exit__(self, *_: object) -> None:
        del self._model

    def sample(self, requests: Iterable[Request]) -> Iterator[Draw]:
        """Yield draws batch by batch; the requests of a batch share their sampling settings."""
        for how, group in itertools.groupby(requests, key=lambda request: request.sampling):
            rows = iter(group)
            while batch := list(itertools.islice(rows, self._batch)):
                fitting = [r for r in batch if len(r.prompt_token_ids) < self._longest]
                yield from (Draw(r.key, [], "length") for r in batch if r not in fitting)
                if fitting:
                    yield from self._generate(fitting, how)

    def _generate(self, batch: list[Request], how: Sampling) -> Iterator[Draw]:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        prompts = [{"input_ids": r.prompt_token_ids} for r in batch]
        padder = self.tokenizer
        padder.padding_side = "left"
        padder.pad_token = padder.pad_token or padder.eos_token
        inputs = padder.pad(prompts, return_tensors="pt").to(self._model.device)
        width = inputs["input_ids"].shape[1]
        rooms = [min(how.max_tokens, self._longest - len(r.prompt_token_ids)) for r in batch]

        def stopped(rows: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            tails = [self._ends(row, how) for row in rows[:, width:].tolist()]
            return torch.tensor(tails, device=rows.device)

        with torch.inference_mode():
            rows = self._model.generate(
                **inputs,
                do_sample=False,  # with the noise of `_SeededNoise` the largest logit is a draw
                max_new_tokens=max(rooms),
                logits_processor=LogitsProcessorList([_SeededNoise(batch, how)]),
                stopping_criteria=StoppingCriteriaList([stopped]),
                pad_token_id=padder.pad_token_id,
            )[:, width:].tolist()
        for request, row, room in zip(batch, rows, rooms, strict=True):
            yield self._draw(request, row[:room], how)

    def _draw(self, request: Request, row: list[int], how: Sampling) -> Draw:
        """Cut a row at its first end token or stop text; what follows is padding of the batch."""
        for n in range(1, len(row) + 1):
            if self._ends(row[:n], how):
                return Draw(request.key, row[:n], "stop")
        return Draw(request.key, row, "length")

    def _ends(self, row: list[int], how: Sampling) -> bool:
        """Whether the last token of a row is an end token or completes a stop text."""
        if row[-1] in self._ends_at:
            return True
        # no stop text has more tokens than characters
        window = max((len(stop) for stop in how.stop), default=0)
        tail = self.tokenizer.decode(row[-window:], skip_special_tokens=False)
        return any(stop in tail for stop in how.stop)


class _SeededNoise:
    """Logits processor: temperature, top-k, top-p, then Gumbel noise from each row's generator.

    The largest of logits plus Gumbel noise is a draw from their softmax (Gumbel-max trick), which
    gives every row of a batch its own seed; `generate` alone cannot do that.
    """

    def __init__(self, batch: list[Request], how: Sampling) -> None:
        import torch

        self._how = how
        self._generators = [torch.Generator().manual_seed(r.seed) for r in batch]

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        if self._how.temperature == 0:
            return scores
        logits = _filtered(scores.float() / self._how.temperature, self._how)
        noise = torch.stack(
            [torch.empty(logits.shape[1]).exponential_(generator=g) for g in self._generators]
        )
        return logits - noise.to(logits.device).log()


def _filtered(logits: Any, how: Sampling) -> Any:
    import torch

    if how.top_k > 0:
        kth = logits.topk(min(how.top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if how.top_p < 1:
        ordered, order = logits.sort(descending=True)
        probs = ordered.softmax(-1)
        beyond = probs.cumsum(-1) - probs >= how.top_p
        ordered = ordered.masked_fill(beyond, -torch.inf)
        logits = torch.empty_like(logits).scatter_(1, order, ordered)
    return logits
