"""Run by test_trainer.py in two processes at once: gradients, and the rest of a training.

Arguments: the folder to write to, a checkpoint of each architecture.
"""

import sys
from pathlib import Path

import test_trainer
import torch

from stages.lm import plan
from stages.lm.lora import Lora

LORA = Lora(rank=4, alpha=8.0)


def main(folder: Path, checkpoints: dict[str, Path]) -> None:
    torch.set_num_threads(1)
    for name, checkpoint in checkpoints.items():
        trained = test_trainer.trainer(checkpoint, folder / "none", tokens_per_micro_batch=128)
        objective = trained.gradient(test_trainer.EVERYTHING)
        gradient = {
            n.removeprefix("checkpoint."): p.grad.full_tensor()
            for n, p in trained._parameters.items()
        }
        if trained.state.is_main_process:
            torch.save({"objective": objective, "gradient": gradient}, folder / f"{name}.pt")
    rank = trained.state.process_index
    bins = plan.micro_batches(
        trained.rows,
        test_trainer.EVERYTHING[trained.rows.weights > 0],
        128,
        1e-4,
        trained.state.num_processes,
    )[rank]
    (folder / f"rows-{rank}").write_text(" ".join(str(i) for rows in bins for i in rows))

    resumed = test_trainer.trainer(checkpoints["qwen2"], folder / "partial")
    resumed.resume()
    assert resumed.step == 3
    list(resumed.run())
    resumed.save_model(folder / "model", [0])

    adapted = test_trainer.trainer(checkpoints["qwen2"], folder / "none", lora=LORA, steps=3)
    list(adapted.run())
    if rank == 0:
        torch.save(adapted._parameters, folder / "adapters.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"qwen2": Path(sys.argv[2]), "qwen3": Path(sys.argv[3])})
