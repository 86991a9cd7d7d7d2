"""Peak memory of a job on one device, by part, in bytes."""

from stages.planning.shapes import Shape

LOGITS = 2 << 30  # a chunk of the head: `CHUNK_BYTES` of stages/lm/logprobs.py
ITEMSIZE = {"float32": 4, "bfloat16": 2, "auto": 2}


def numbers_of_a_layer(shape: Shape) -> int:
    """Activations of one layer a token, kept for its backward pass."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return 4 * shape.hidden + 3 * q + 3 * kv + 4 * shape.intermediate


def training(
    shape: Shape,
    *,
    devices: int,
    dtype: str,
    master_dtype: str,
    tokens: int,
    recomputed: float,
    rank: int | None = None,
    logits: int = LOGITS,
) -> dict[str, int]:
    """Memory of an optimizer step.

    Parameters
    ----------
    tokens : int
        Tokens of the largest packed bin.
    recomputed : float
        Share of layers whose activations are recomputed.
    rank : int, optional
        Of adapters; the model itself is then frozen.
    """
    size, master = ITEMSIZE[dtype], ITEMSIZE[master_dtype]
    outer, layer = shape.outer_parameters, shape.layer_parameters
    parts = {"weights": master * shape.parameters // devices}
    learned = master * shape.parameters // devices
    temporary = size * shape.head_parameters  # a bin's gradient of the head, before it is added
    if rank is not None:
        learned = master * rank * shape.linear_widths
        parts["weights"] = size * shape.parameters + learned
        temporary = 0
    elif devices > 1 or dtype != master_dtype:
        # gathered embedding, head and two layers, their gradients, and these in float32 to reduce
        temporary = outer * (2 * size + 4) + layer * (3 * size + 4)
    parts |= {"gradients": learned, "optimizer": 2 * learned, "gathered": temporary}
    whole_layers = 1 + (1 - recomputed) * (shape.layers - 1)
    kept = recomputed * shape.layers * shape.hidden + whole_layers * numbers_of_a_layer(shape)
    parts["activations"] = int(size * tokens * (kept + 2 * shape.hidden))
    parts["logits"] = min(logits, 4 * tokens * shape.vocabulary) * (4 + size % 4) // 4
    return {name: value for name, value in parts.items() if value}


def scoring(shape: Shape, *, dtype: str, tokens: int, logits: int = LOGITS) -> dict[str, int]:
    """Memory of a bin of `tokens` without gradient."""
    size = ITEMSIZE[dtype]
    working = 3 * shape.hidden + 3 * shape.intermediate + 2 * shape.heads * shape.head_dim
    return {
        "weights": size * shape.parameters,
        "activations": size * tokens * working,
        "logits": min(logits, 4 * tokens * shape.vocabulary),
    }


def sampling(
    shape: Shape, *, devices: int, dtype: str, longest: int, memory: float
) -> dict[str, int]:
    """Memory of a sampling engine: weights, working memory, and all the rest as cache.

    The cache has to hold one sequence of the longest length; `memory` is what the engine may take.
    """
    size = ITEMSIZE[dtype]
    weights = size * shape.parameters // devices
    working = size * 8192 * (2 * shape.hidden + 3 * shape.intermediate // devices)
    least = shape.cache_bytes(size) * longest // devices
    cache = max(least, int(memory) - weights - working)
    return {"weights": weights, "activations": working, "cache": cache}
