"""Small models of both architectures, and what they say computed one row at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_rows import VOCABULARY


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small products are slower on two threads than on one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A Qwen2 and a Qwen3 checkpoint with random weights: grouped heads, one of them tied."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "initializer_range": 0.3,  # attention that really depends on what is attended to
    }
    torch.manual_seed(0)
    models = {
        "qwen2": Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=True)),
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16, tie_word_embeddings=False)),
    }
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return {name: folder / name for name in models}


@pytest.fixture(scope="session")
def naive(checkpoints: dict[str, Path]) -> Callable[..., np.ndarray]:
    """Log-probs of one row by transformers alone: no packing, full logits, full log-softmax."""
    import torch
    from transformers import AutoModelForCausalLM

    models = {
        name: AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="sdpa"
        )
        for name, path in checkpoints.items()
    }

    def logprobs(name: str, row: np.ndarray, n_context: int, temperature: float = 1) -> np.ndarray:
        with torch.no_grad():
            ids = torch.from_numpy(row.astype(np.int64))
            logits = models[name](ids[None], use_cache=False).logits[0].float() / temperature
            found = torch.log_softmax(logits[:-1], -1).gather(1, ids[1:, None])[:, 0]
        return found[n_context - 1 :].numpy()

    return logprobs
