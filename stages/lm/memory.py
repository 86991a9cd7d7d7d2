"""GPU memory of a training, by the model's shape: what docs/memory.md shows.

python -m stages.lm.memory      prints the table

Parameters, gradients and optimizer states are counted exactly; activations are an estimate.
"""

from dataclasses import dataclass
from typing import Any

import torch

from stages.lm.logprobs import CHUNK_BYTES

GIB = 2**30
TOKENS = 8192  # of a packed bin: the default of machine.tokens_per_micro_batch
RANK = 16

QWEN3: dict[str, Any] = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
SHAPES: dict[str, dict[str, Any]] = {
    "Qwen3-4B": QWEN3
    | {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": True,
    },
    "Qwen2.5-7B": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
    "Qwen3-8B": QWEN3
    | {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "intermediate_size": 12_288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
    "Qwen3-32B": QWEN3
    | {
        "model_type": "qwen3",
        "hidden_size": 5120,
        "intermediate_size": 25_600,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True)
class Training:
    """What decides the memory of a training.

    Attributes
    ----------
    rank : int or None
        Of the adapters; None where the whole model is trained.
    dtype, master_dtype : torch.dtype
        Of computing, and of what the optimizer updates.
    processes : int
        GPUs over which a whole model's states are sharded; adapters are not.
    """

    rank: int | None = None
    dtype: torch.dtype = torch.bfloat16
    master_dtype: torch.dtype = torch.float32
    processes: int = 1


def state_bytes(model: Any, training: Training) -> int:
    """Parameters, gradients and both moments of Adam on one GPU.

    Parameters
    ----------
    model
        A causal language model of transformers; the meta device will do.
    """
    master, computing = training.master_dtype.itemsize, training.dtype.itemsize
    n = sum(p.numel() for p in model.parameters())
    if training.rank is None:
        return 4 * master * n // training.processes
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    adapters = training.rank * sum(m.in_features + m.out_features for m in linear)
    return computing * n + 4 * master * adapters


def working_bytes(model: Any, training: Training, n_tokens: int) -> int:
    """Estimate of what comes and goes in a step with every layer recomputed, for one bin.

    Gathered parameters of two layers and of embeddings and head, where they are sharded or cast;
    each layer's input; one layer's activations; the head's logits and their slope in chunks.
    """
    computing, config = training.dtype.itemsize, model.config
    layers = model.base_model.layers
    in_layer = sum(p.numel() for p in layers[0].parameters())
    outside = sum(p.numel() for p in model.parameters()) - len(layers) * in_layer
    sharded = training.rank is None and (
        training.processes > 1 or training.dtype != training.master_dtype
    )
    gathered = 2 * computing * (2 * in_layer + outside) if sharded else 0  # and their gradients
    attention = config.num_attention_heads * config.head_dim
    of_a_layer = 8 * config.hidden_size + 4 * attention + 5 * config.intermediate_size
    kept = (len(layers) * config.hidden_size + of_a_layer) * n_tokens * computing
    logits = CHUNK_BYTES["cuda"] * (4 + computing) // 4
    return gathered + kept + logits


def make_shape(values: dict[str, Any]) -> Any:
    """A model of this shape without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**values)
    if getattr(config, "head_dim", None) is None:
        config.head_dim = config.hidden_size // config.num_attention_heads
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def table() -> str:
    """Memory by shape as Markdown."""
    half = torch.bfloat16
    trainings = {
        "whole, float32 master": Training(),
        "whole, bfloat16 master": Training(master_dtype=half),
        f"adapters of rank {RANK}": Training(rank=RANK),
        "whole, float32 master, 8 GPUs": Training(processes=8),
        "whole, bfloat16 master, 8 GPUs": Training(master_dtype=half, processes=8),
    }
    lines = [
        "| model | trained | states | working memory, about | together | fits 80 GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, values in SHAPES.items():
        model = make_shape(values)
        for what, training in trainings.items():
            states = state_bytes(model, training) / GIB
            working = working_bytes(model, training, TOKENS) / GIB
            fits = "yes" if states + working < 0.95 * 80e9 / GIB else "no"
            lines.append(
                f"| {name} | {what} | {states:.1f} GiB | {working:.1f} GiB | "
                f"{states + working:.0f} GiB | {fits} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
