"""Low-rank adapters (LoRA) on a model's matrices, by peft, for the same packed trainer.

A frozen matrix `W` is used as `W + (alpha / rank) · B A`, and only `A` and `B` are learned: arXiv
2106.09685. The frozen model stays in the computing dtype, adapters in the optimizer's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages.common.errors import UserError

ADAPTER = "default"


@dataclass(frozen=True)
class Lora:
    """Shape of the adapters.

    Attributes
    ----------
    rank : int
    alpha : float
    targets : tuple of str or "all-linear"
        Names of the modules that get one, as of peft's `target_modules`; all-linear are all linear
        layers but the head.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] | str = "all-linear"


def add_adapters(
    checkpoint: torch.nn.Module,
    lora: Lora,
    seed: int,
    dtype: torch.dtype,
    master_dtype: torch.dtype,
) -> None:
    """Freeze a checkpoint in `dtype` and add trainable adapters in `master_dtype`.

    Raises
    ------
    UserError
        The checkpoint has none of the targets.
    """
    from peft import inject_adapter_in_model

    for p in checkpoint.parameters():  # buffers stay: rotary angles need float32
        p.data = p.data.to(dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config_of(lora), checkpoint, ADAPTER)
        except ValueError as error:
            raise UserError(f"lora.targets: {error}") from None
    for p in checkpoint.parameters():
        if p.requires_grad:
            p.data = p.data.to(master_dtype)


def config_of(lora: Lora) -> Any:
    """The adapters' configuration for peft."""
    from peft import LoraConfig

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    scale: Any = lora.alpha  # peft declares an int
    return LoraConfig(
        r=lora.rank,
        lora_alpha=scale,
        target_modules=targets,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def merged_weights(checkpoint: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights of the plain model that the adapted one is, summed in float32, on the CPU."""
    from peft.tuners.lora import LoraLayer

    weights = {}
    for name, p in checkpoint.named_parameters():
        if ".lora_" not in name:
            weights[_plain(name)] = p.detach().to("cpu", dtype, copy=True)
    for name, module in checkpoint.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module  # peft declares these methods on subclasses only
            learned = getattr(layer, "parameter_name", "weight")  # experts have others
            whole = getattr(layer.get_base_layer(), learned).float()
            whole = whole + layer.get_delta_weight(ADAPTER).float()
            weights[_plain(f"{name}.{learned}")] = whole.detach().to("cpu", dtype).contiguous()
    return weights


def _plain(name: str) -> str:
    """Name of a parameter in the checkpoint without adapters."""
    return name.replace("base_layer.", "")


def save_adapter(checkpoint: torch.nn.Module, lora: Lora, base: str, directory: Path) -> None:
    """Write the adapters alone, as `peft.PeftModel.from_pretrained` reads them.

    Parameters
    ----------
    base : str
        Name or path of the model that they belong to.
    """
    from safetensors.torch import save_file

    directory.mkdir()
    config = config_of(lora)
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(directory)
    adapters = {
        "base_model.model." + name.replace(f".{ADAPTER}.", "."): p.detach().cpu().contiguous()
        for name, p in checkpoint.named_parameters()
        if ".lora_" in name
    }
    save_file(adapters, directory / "adapter_model.safetensors", {"format": "pt"})
