"""Parameters, FLOPs and cache of a decoder, from the values of its config.json alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The paper's base models and a small one: what their config.json on the hub says.
_QWEN3 = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-4B-Base": _QWEN3
    | {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-8B-Base": _QWEN3
    | {
        "hidden_size": 4096,
        "intermediate_size": 12_288,
        "num_hidden_layers": 36,
        "vocab_size": 151_936,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-7B-Instruct": {
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-32B-Instruct": {
        "hidden_size": 5120,
        "intermediate_size": 27_648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder with grouped-query attention and a gated feed-forward layer.

    Norms and biases are not counted: less than a thousandth of the parameters.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """The shape that a config.json describes."""
        heads = config["num_attention_heads"]
        return cls(
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer."""
        attention = self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.hidden * (attention + 3 * self.intermediate)

    @property
    def head_parameters(self) -> int:
        """Parameters of the head, which are the embedding's where the two are tied."""
        return self.vocabulary * self.hidden

    @property
    def outer_parameters(self) -> int:
        """Parameters of embedding and head together."""
        return self.head_parameters * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.layers * self.layer_parameters + self.outer_parameters

    @property
    def linear_widths(self) -> int:
        """Inputs plus outputs of all linear layers: parameters of adapters of rank 1."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * (self.hidden + q) + 2 * (self.hidden + kv)
        return self.layers * (attention + 3 * (self.hidden + self.intermediate))

    def forward_flops(self, context: float) -> float:
        """FLOPs of a token that attends to `context` earlier ones: 2 a parameter and attention."""
        matrices = 2 * (self.layers * self.layer_parameters + self.head_parameters)
        return matrices + 4 * context * self.layers * self.heads * self.head_dim

    def training_flops(self, context: float, recomputed: float) -> float:
        """FLOPs of a token forward and backward (3 x forward), plus recomputed layers' share."""
        forward = self.forward_flops(context)
        return 3 * forward + recomputed * (forward - 2 * self.head_parameters)

    def cache_bytes(self, itemsize: int) -> int:
        """Bytes of the key-value cache a token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * itemsize
