"""Weighted fine-tuning: the objective of docs/method.md, for one process or many, CPU or GPU.

    loss of one optimizer step = 1 / (B · L̄) · Σ_i w_i Σ_t −log p(token_{i,t})

The gradient of a step depends on its rows only, not on packing, micro-batches or the number of
processes. Parameters are stored in `master_dtype` (what AdamW updates) and computed with in
`dtype`. Where the two differ or several processes take part, torch's `fully_shard` (FSDP2) shards
and casts; one process with one dtype needs neither. Adapters are replicated instead of sharded.
"""

import json
import math
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stages.common.seeds import derive_seed
from stages.lm.lora import add_adapters, merged_weights, save_adapter
from stages.lm.model import LanguageModel
from stages.lm.optimizer import RoundingAdamW
from stages.lm.plan import (
    TrainingRows,
    TrainingSettings,
    learning_rate,
    micro_batches,
    rows_of_step,
    weighted_bin,
)

if TYPE_CHECKING:
    from accelerate import PartialState


class Interrupted(Exception):
    """Training was asked to stop; what is done so far is in its checkpoint."""


def keep_in(dtype: torch.dtype, module: torch.nn.Module, device: torch.device) -> None:
    """Convert a module's parameters on the device; buffers stay: rotary angles need float32."""
    for p in module.parameters():
        if p.dtype != dtype:
            p.data = p.data.to(device).to(dtype)


def shard(
    model: LanguageModel, dtype: torch.dtype, master_dtype: torch.dtype, state: "PartialState"
) -> LanguageModel:
    """Shard parameters over all processes; compute in `dtype`, reduce gradients in float32.

    The same call serves one process, where it only keeps master weights apart from computing ones.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "nccl" if state.device.type == "cuda" else "gloo",
            store=torch.distributed.HashStore(),
            rank=0,
            world_size=1,
        )
    mesh = init_device_mesh(state.device.type, (state.num_processes,))
    # Inputs are left as they are: the loss's coefficients are float32 and have to stay it.
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    # One layer at a time, so that no process ever holds all master weights at once.
    for module in (*model.checkpoint.base_model.layers, model):
        keep_in(master_dtype, module, state.device)
        fully_shard(module, mesh=mesh, mp_policy=policy)
    return model


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """Keep torch from warning that a checkpoint is one process's own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


class Trainer:
    """Model, optimizer and position in the training: everything a checkpoint holds.

    Parameters
    ----------
    model : LanguageModel
        As loaded, on the CPU.
    rows, held_back : TrainingRows
        What is learned, and what only the evaluation loss sees (may be empty).
    settings : TrainingSettings
    checkpoints : Path
        Directory for checkpoints, this training's own.
    """

    def __init__(
        self,
        model: LanguageModel,
        rows: TrainingRows,
        held_back: TrainingRows,
        settings: TrainingSettings,
        checkpoints: Path,
    ) -> None:
        from accelerate import PartialState

        self.state = PartialState(cpu=not torch.cuda.is_available())
        self.rows, self.held_back, self.settings = rows, held_back, settings
        self.checkpoints = checkpoints
        self.step = 0
        self.log: list[dict] = []
        self._attention_per_token = model.attention_per_token
        self._divisor = settings.batch_size * settings.mean_response_tokens
        self.model = self._prepare(model)
        # Taken once: while gathered, a sharded module shows its whole parameters instead.
        self._parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = self._make_optimizer()

    def _prepare(self, model: LanguageModel) -> LanguageModel:
        every = self.settings.recompute_every
        if every:
            model.checkpoint.gradient_checkpointing_enable(
                {"use_reentrant": False, "preserve_rng_state": False}
            )
            for number, layer in enumerate(model.checkpoint.base_model.layers):
                layer.gradient_checkpointing = number % every == 0
        dtype, master = self.settings.dtype, self.settings.master_dtype
        if self.settings.lora is not None:
            # Whole on every process: what is learned is small, and so are its gradients.
            seed = derive_seed(self.settings.seed, "lora")
            add_adapters(model.checkpoint, self.settings.lora, seed, dtype, master)
            return model.to(self.state.device)
        if self.state.num_processes > 1 or dtype != master:
            return shard(model, dtype, master, self.state)
        keep_in(master, model, self.state.device)
        return model.to(self.state.device)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        settings, parameters = self.settings, list(self._parameters.values())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim >= 2]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        usual: dict[str, Any] = {
            "lr": settings.learning_rate,
            "betas": settings.betas,
            "weight_decay": settings.weight_decay,
        }
        if settings.master_dtype == torch.bfloat16:
            rank = self.state.process_index
            seed = derive_seed(settings.seed, "rounding", rank)
            optimizer: torch.optim.Optimizer = RoundingAdamW(groups, **usual, seed=seed)
        else:
            optimizer = torch.optim.AdamW(groups, **usual, fused=True)
        for p in parameters:  # allocated now, so that a checkpoint can be read into them
            optimizer.state[p] = {
                "step": torch.zeros((), dtype=torch.float32, device=self.state.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
        return optimizer

    def _sum_over_processes(self, *values: float) -> list[float]:
        if self.state.num_processes == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.state.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def gradient(self, chosen: np.ndarray) -> float:
        """Add the gradient of the objective over `chosen` rows to `.grad`; return the objective.

        Rows of weight 0 are left out: they add nothing.
        """
        chosen = chosen[self.rows.weights[chosen] != 0]
        self.model.train()
        loss = self._over_bins(self.rows, chosen, self._divisor, backward=True)
        return self._sum_over_processes(loss)[0]

    def _over_bins(
        self, rows: TrainingRows, chosen: np.ndarray, divisor: float, backward: bool
    ) -> float:
        """This rank's part of the objective over `chosen`."""
        state, settings = self.state, self.settings
        bins = micro_batches(
            rows,
            chosen,
            settings.tokens_per_micro_batch,
            self._attention_per_token,
            state.num_processes,
        )[state.process_index]
        losses = []
        for members in bins:
            bin_, coefficients = weighted_bin(rows, members, divisor, state.device)
            loss = self.model(bin_, coefficients)
            if backward:
                # The ranks' gradients are averaged; the objective is their sum.
                (loss * state.num_processes).backward()
            losses.append(loss.detach())
        return float(torch.stack(losses).sum())

    def evaluation_loss(self) -> float | None:
        """Objective over the held-back rows, per row; None without any."""
        if len(self.held_back) == 0:
            return None
        divisor = len(self.held_back) * self.settings.mean_response_tokens
        self.model.eval()
        with torch.no_grad():
            loss = self._over_bins(
                self.held_back, np.arange(len(self.held_back)), divisor, backward=False
            )
        from torch.distributed.fsdp import FSDPModule

        if isinstance(self.model, FSDPModule):  # a backward pass would do it otherwise
            self.model.reshard()
        return self._sum_over_processes(loss)[0]

    def train_step(self) -> dict:
        """One optimizer step; returns its line of the log, without times."""
        chosen = rows_of_step(self.step, len(self.rows), self.settings)
        loss = self.gradient(chosen)
        if self.settings.lora is not None and self.state.num_processes > 1:
            for p in self._parameters.values():
                torch.distributed.all_reduce(p.grad, torch.distributed.ReduceOp.SUM)
                p.grad /= self.state.num_processes
        norm = torch.nn.utils.clip_grad_norm_(
            self._parameters.values(), self.settings.max_grad_norm
        )
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        rate = learning_rate(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        draws = min(self.step * self.settings.batch_size, self.settings.n_draws)
        return {
            "step": self.step,
            "epoch": draws / len(self.rows),
            "loss": loss,
            "eval_loss": None,
            "grad_norm": float(norm),
            "learning_rate": rate,
            "tokens": int(self.rows.lengths[chosen].sum()),
        }

    def run(
        self,
        stop_requested: Callable[[], bool] = lambda: False,
        checkpoint_seconds: float = math.inf,
    ) -> Iterator[dict]:
        """Train from the present step to the end; yield each step's log line.

        Raises
        ------
        Interrupted
            When `stop_requested()` is true on any rank after a step; a checkpoint has been written.
        """
        begin = time.monotonic() - (self.log[-1]["seconds"] if self.log else 0.0)
        saved = time.monotonic()
        tokens = self.log[-1]["tokens"] if self.log else 0
        while self.step < self.settings.steps:
            started = time.monotonic()
            line = self.train_step()
            took = time.monotonic() - started
            ended = self.step == self.settings.steps
            if ended or int(line["epoch"]) > int(line["epoch"] - self._epoch_of_a_step):
                line["eval_loss"] = self.evaluation_loss()
            now = time.monotonic()
            line |= {
                "tokens": tokens + line["tokens"],
                "tokens_per_second": line["tokens"] / took,
                "memory_mib": self._memory_mib(),
                "seconds": now - begin,
            }
            tokens = line["tokens"]
            self.log.append(line)
            stop, due = self._sum_over_processes(
                float(stop_requested()), float(now - saved > checkpoint_seconds)
            )
            if (stop or due) and not ended:
                self.save_checkpoint()
                saved = time.monotonic()
            yield line
            if stop and not ended:
                raise Interrupted(f"stopped after step {self.step} of {self.settings.steps}")

    @property
    def _epoch_of_a_step(self) -> float:
        return self.settings.batch_size / len(self.rows)

    def _memory_mib(self) -> float:
        if self.state.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Everything numeric that a checkpoint holds, by name."""
        tensors: dict[str, torch.Tensor] = {}
        for name, p in self._parameters.items():
            state = self.optimizer.state[p]
            tensors |= {
                f"parameter.{name}": p.detach(),
                f"exp_avg.{name}": state["exp_avg"],
                f"exp_avg_sq.{name}": state["exp_avg_sq"],
            }
        return tensors

    def save_checkpoint(self) -> None:
        """Write `checkpoints/step-N`, complete by rename, and remove older ones."""
        import torch.distributed.checkpoint as dcp

        final = self.checkpoints / f"step-{self.step}"
        unfinished = self.checkpoints / "unfinished"
        if self.state.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        self.state.wait_for_everyone()
        with _one_process_is_fine():
            dcp.save(self._tensors(), checkpoint_id=unfinished)
        if self.state.is_main_process:
            record = {"step": self.step, "log": self.log}
            (unfinished / "progress.json").write_text(json.dumps(record))
            unfinished.rename(final)
            for other in self.checkpoints.glob("step-*"):
                if other != final:
                    shutil.rmtree(other)
        self.state.wait_for_everyone()

    def resume(self) -> None:
        """Continue from the newest checkpoint, if any."""
        import torch.distributed.checkpoint as dcp

        saved = sorted(self.checkpoints.glob("step-*"), key=lambda p: int(p.name.split("-")[1]))
        if not saved:
            return
        with _one_process_is_fine():
            dcp.load(self._tensors(), checkpoint_id=saved[-1])
        progress = json.loads((saved[-1] / "progress.json").read_text())
        self.step, self.log = progress["step"], progress["log"]
        for state in self.optimizer.state.values():
            state["step"].fill_(self.step)

    def save_model(self, directory: Path, eos_token_ids: list[int], base: str = "") -> None:
        """Write a Hugging Face checkpoint in `settings.dtype`; every process must call this.

        Adapters are merged into it, and written to its folder `adapter` as well.

        Parameters
        ----------
        eos_token_ids : list of int
            Tokens at which generation stops.
        base : str
            Name of the base model, for the adapters' configuration.
        """
        weights = self._whole_weights()
        if self.state.is_main_process:
            checkpoint = self.model.checkpoint
            checkpoint.config.dtype = self.settings.dtype
            checkpoint.generation_config.eos_token_id = eos_token_ids
            checkpoint.generation_config._from_model_config = False
            checkpoint.save_pretrained(directory, state_dict=weights)
            if self.settings.lora is not None:
                save_adapter(checkpoint, self.settings.lora, base, directory / "adapter")
        self.state.wait_for_everyone()

    def _whole_weights(self) -> dict[str, torch.Tensor]:
        """The trained model's weights on the main process, in `settings.dtype`."""
        if self.settings.lora is not None:
            return merged_weights(self.model.checkpoint, self.settings.dtype)
        weights = {}
        for name, p in self._parameters.items():
            whole = p.detach()
            whole = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
            if self.state.is_main_process:
                weights[name.removeprefix("checkpoint.")] = whole.to(
                    "cpu", self.settings.dtype, copy=True
                ).contiguous()
        return weights
