"""Sampling with vLLM, on GPUs or a CPU."""

import gc
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stages.engines import Draw, Request
from stages.experiments.settings import Engine as EngineSettings
from stages.experiments.settings import Machine

# An engine in a separate process would outlive a killed step; usage reports need the network.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

PREFILL_TOKENS = 8192


class VllmEngine:
    """One vLLM engine over all visible devices."""

    def __init__(
        self, model: Path, settings: EngineSettings, machine: Machine, longest: int
    ) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(machine.cpu_cache_gib))
        import torch
        from vllm import LLM

        on_gpu = torch.cuda.is_available()
        self._at_once = machine.max_requests
        self._longest = min(longest, _positions(model))
        self._llm = LLM(
            model=str(model.resolve()),
            dtype=settings.dtype,
            max_model_len=self._longest,
            max_num_seqs=machine.max_requests,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            seed=0,
            **(_on_gpu(machine) if on_gpu else _on_cpu(self._longest)),
        )
        self.tokenizer = self._llm.get_tokenizer()

    def __enter__(self) -> "VllmEngine":
        return self

    def __exit__(self, *_: object) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()

    def sample(self, requests: Iterable[Request]) -> Iterator[Draw]:
        """Yield draws as they finish; at most twice `max_requests` are queued."""
        from vllm import RequestOutput, TokensPrompt

        engine = self._llm.llm_engine
        waiting: dict[str, Request] = {}
        source = iter(requests)
        more = True
        while more or waiting:
            while more and len(waiting) < 2 * self._at_once:
                request = next(source, None)
                if request is None:
                    more = False
                elif len(request.prompt_token_ids) >= self._longest:
                    yield Draw(request.key, [], "length")
                else:
                    name = "/".join(str(part) for part in request.key)
                    waiting[name] = request
                    prompt = TokensPrompt(prompt_token_ids=request.prompt_token_ids)
                    engine.add_request(name, prompt, _parameters(request))
            for output in engine.step() if waiting else ():
                if isinstance(output, RequestOutput) and output.finished:
                    drawn = output.outputs[0]
                    request = waiting.pop(output.request_id)
                    reason = "length" if drawn.finish_reason == "length" else "stop"
                    yield Draw(request.key, list(drawn.token_ids), reason)


def _on_gpu(machine: Machine) -> dict[str, Any]:
    import torch

    return {
        "tensor_parallel_size": torch.cuda.device_count(),
        "gpu_memory_utilization": machine.gpu_memory_fraction,
    }


def _on_cpu(longest: int) -> dict[str, Any]:
    # A chunked prompt makes vLLM rewind the request's generator, which works on GPUs only.
    return {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(longest, PREFILL_TOKENS),
    }


def _parameters(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    how = request.sampling
    return SamplingParams(
        temperature=how.temperature,
        top_p=how.top_p,
        top_k=how.top_k,
        max_tokens=how.max_tokens,
        seed=request.seed,
        stop=list(how.stop),
        include_stop_str_in_output=True,
        skip_special_tokens=False,  # markers may be special tokens, and the stops are markers
        spaces_between_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _positions(model: Path) -> int:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model).max_position_embeddings
