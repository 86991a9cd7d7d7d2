"""AdamW for parameters stored in bfloat16 only."""

from collections.abc import Iterable
from typing import Any

import torch

from stages.common.seeds import derive_seed

# Numbers updated at a time: the float32 copies of an embedding whole would take many GiB.
SLICE = 1 << 24


class RoundingAdamW(torch.optim.Optimizer):
    """AdamW whose bfloat16 parameters are rounded up or down at random, right on average.

    A step at a learning rate of 1e-5 is far below bfloat16's spacing at usual weights: rounded to
    the nearest, nearly every update would be lost. Rounded at random with the odds that make the
    expectation exact, none is. All arithmetic is in float32; the moments are kept in bfloat16.

    Parameters
    ----------
    parameters : iterable of parameters or groups
        As of `torch.optim.AdamW`; sharded ones too.
    seed : int
        Of the rounding. Step and parameter enter it as well, so that nothing needs saving.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        seed: int,
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        self.seed = seed

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # takes no closure
        """One update of all parameters that have a gradient."""
        every = [(group, p) for group in self.param_groups for p in group["params"]]
        for number, (how, p) in enumerate(every):
            if p.grad is None:
                continue
            state, (beta1, beta2) = self.state[p], how["betas"]
            state["step"] += 1
            step = int(state["step"])
            generator = torch.Generator(local(p).device)
            generator.manual_seed(derive_seed(self.seed, "step", step, number))
            changed = (local(x).view(-1) for x in (p, state["exp_avg"], state["exp_avg_sq"]))
            flat = (x.split(SLICE) for x in (local(p.grad).reshape(-1), *changed))
            for gradient, value, first, second in zip(*flat, strict=True):
                gradient = gradient.float()
                mean = first.float().lerp_(gradient, 1 - beta1)
                square = second.float().mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                first.copy_(mean)
                second.copy_(square)
                new = value.float().mul_(1 - how["lr"] * how["weight_decay"])
                size = square.div_(1 - beta2**step).sqrt_().add_(1e-8)
                new.addcdiv_(mean, size, value=-how["lr"] / (1 - beta1**step))
                value.copy_(round_at_random(new, generator))


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a sharded tensor; any other as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def round_at_random(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Round float32 to one of the two nearest bfloat16 numbers, right on average.

    The 16 bits that bfloat16 lacks are a fraction of its spacing: adding a uniform number of 16
    bits carries into the bits that stay with just that probability.
    """
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(
        0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator
    )
    return (bits + noise).bitwise_and_(-(1 << 16)).view(torch.float32).to(torch.bfloat16)
