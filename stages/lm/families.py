"""What a checkpoint's configuration says about its family: the place to add or refuse one.

Every causal language model of transformers that attends through `AttentionInterface` can be packed.
What differs between families enters in three ways: arguments of the attention function (window,
soft cap, scale), the transform of the logits, and features that packing cannot reproduce. The last
are refused here by name; whatever a configuration does not tell, `stages/lm/probe.py` measures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.errors import UserError

ATTENTION_TYPES = {"full_attention", "sliding_attention"}
SINKS = ("gpt_oss",)  # families with learned attention sinks; their configuration has no field
# fields of configurations with state-space, convolution or linear-attention layers
RECURRENT = (
    "state_size",
    "mamba_d_state",
    "mamba_expand",
    "ssm_state_size",
    "linear_num_value_heads",
    "conv_L_cache",
    "lru_width",
    "attention_hidden_size",
)
MODALITIES = (
    "vision_config",
    "audio_config",
    "speech_config",
    "image_token_id",
    "image_token_index",
)
DROPOUTS = ("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout")


@dataclass(frozen=True)
class LogitTransform:
    """From the head's product to the logits: `softcap · tanh(scale · product / softcap)`.

    Attributes
    ----------
    scale : float
        Factor of the product; 1 for most families.
    softcap : float or None
        Bound of the logits' size (Gemma 2); None for no bound.
    """

    scale: float = 1.0
    softcap: float | None = None


def logit_transform(config: Any) -> LogitTransform:
    """The transform that a family applies: Granite divides, Cohere multiplies, Gemma 2 caps."""
    scale = (getattr(config, "logit_scale", None) or 1.0) / (
        getattr(config, "logits_scaling", None) or 1.0
    )
    return LogitTransform(scale, getattr(config, "final_logit_softcapping", None))


def read_config(path: str | Path, **options: Any) -> Any:
    """Configuration of a checkpoint that can be packed, dropout off.

    Parameters
    ----------
    path : str or Path
        Directory of the checkpoint.
    **options
        For `AutoConfig.from_pretrained`, for instance `gguf_file`.

    Raises
    ------
    UserError
        The family has a feature that packed attention does not reproduce, or is unknown.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, **options)
    except (ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a model that transformers knows ({reason})") from None
    feature = unsupported_feature(config)
    if feature:
        raise UserError(
            f"{path}: {config.model_type} models have {feature}, which packed training and scoring "
            "do not support; use a decoder-only text model with full or sliding-window attention"
        )
    for name in DROPOUTS:
        if getattr(config, name, None):
            setattr(config, name, 0.0)
    return config


def unsupported_feature(config: Any) -> str | None:
    """Name of the first feature that rules out packing, or None."""
    values = config.to_dict()
    if config.is_encoder_decoder:
        return "an encoder and a decoder"
    if any(values.get(name) is not None for name in MODALITIES):
        return "inputs other than text"
    if config.model_type in SINKS or any("sink" in name and values[name] for name in values):
        return "attention sinks"
    kinds = set(values.get("layer_types") or ()) - ATTENTION_TYPES
    if kinds:
        return f"layers of type {', '.join(sorted(kinds))}"
    if any(values.get(name) is not None for name in RECURRENT):
        return "state-space or linear-attention layers"
    if values.get("use_bidirectional_attention"):
        return "bidirectional attention"
    return None
