"""Fine-tune a model on weighted rows and write it as a Hugging Face checkpoint.

python -m stages.finetune --settings S --rows R --base DIR --out DIR
accelerate launch --multi_gpu --num_processes N -m stages.finetune ...   (N GPUs; nodes alike)

The settings' `role` selects the section: initial, posterior or final. Checkpoints of
unfinished work are in `<out>.partial`; run the same command to continue, also after SIGTERM or
Ctrl-C. A finished model of the same recipe is adopted, one of another recipe never overwritten.
Several nodes need `--out` on a file system that all of them see. A launcher kills what has
not ended 30 s after SIGTERM; with TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600 large models have the time.
"""

import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from stages.artifacts import store, tables
from stages.artifacts.models import UnfinishedModel
from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.experiments.settings import Finetune, Machine, StepSettings
from stages.running import command, origin_of

if TYPE_CHECKING:
    from stages.lm.plan import TrainingRows, TrainingSettings
    from stages.lm.trainer import Trainer

NOT_COPIED = (".safetensors", ".bin", ".pt", ".parquet", ".index.json")
SAME_REQUEST_SECONDS = 5
OWN_FILES = ("config.json", "generation_config.json", "provenance.json")


def main(argv: list[str] | None = None) -> None:
    """Read rows and base model, train, write the model with its log and provenance."""
    parser = command.parser(__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="table of training rows")
    parser.add_argument("--base", type=Path, required=True, help="model to start from")
    parser.add_argument("--out", type=Path, required=True, help="directory of the new model")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings
    how: Finetune = getattr(settings, settings.role)

    base = command.model_directory(args.base)
    rows = store.read_table(args.rows, tables.ROWS, ["token_ids", "n_prompt_tokens", "weight"])
    mean = mean_response(rows)
    training, held_back, counts = split_rows(rows, how, settings.seed, args.rows)

    origin = origin_of.output(
        "finetune", settings, {"rows": args.rows, "base": base}, settings.role
    )

    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    main_process = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    work = UnfinishedModel(args.out, origin.recipe)
    with work if main_process else nullcontext():
        if not broadcast_object_list([work.is_finished])[0]:
            from stages.lm.model import load, use_threads
            from stages.lm.trainer import Trainer

            plan = training_settings(how, args.machine, settings, mean, len(training))
            model = load(base, "auto")
            use_threads(model, args.machine.threads)
            check_tokens(training, model.checkpoint.config.vocab_size, args.rows)
            trainer = Trainer(model, training, held_back, plan, work.folder)
            train(trainer, work, 60 * args.machine.checkpoint_minutes)
            figures = {"mean_response_tokens": mean, **counts}
            save(trainer, work, base, stop_tokens(base, training), origin, settings, figures)
        if main_process:
            with stop_signals():  # what asks it to stop now lets it end: the model is complete
                work.discard()


def train(trainer: "Trainer", work: UnfinishedModel, checkpoint_seconds: float) -> None:
    """Train to the end, showing progress on the main process; exit when asked to stop."""
    from stages.lm.trainer import Interrupted

    with stop_signals() as stop:
        trainer.resume()
        tokens = trainer.log[-1]["tokens"] if trainer.log else 0
        progress = command.Progress("steps", trainer.settings.steps, trainer.step)
        try:
            for line in trainer.run(lambda: bool(stop), checkpoint_seconds):
                if trainer.state.is_main_process:
                    work.check(look=False)
                    progress.add(1, line["tokens"] - tokens)
                tokens = line["tokens"]
        except Interrupted as interrupted:
            print(f"{interrupted}; run the same command to continue", file=sys.stderr)
            sys.exit(128 + stop[0] if stop else 1)


def save(
    trainer: "Trainer",
    work: UnfinishedModel,
    base: Path,
    stop: list[int],
    origin: origin_of.Origin,
    settings: StepSettings,
    figures: dict[str, Any],
) -> None:
    """Write the model with its tokenizer, log and provenance; all processes take part."""
    is_main, last = trainer.state.is_main_process, trainer.log[-1]
    with store.atomic(work.output) if is_main else nullcontext(work.output) as directory:
        trainer.save_model(directory, stop, str(base))
        if is_main:
            provenance = command.provenance(
                origin,
                settings,
                seconds=last["seconds"],
                device=command.device_name(),
                processes=trainer.state.num_processes,
                tokens=last["tokens"],
                **figures,
            )
            complete(directory, base, trainer.log, provenance)
            work.keep(directory)


def mean_response(rows: pa.Table) -> float:
    """L̄: mean response tokens of the table's rows, too long and held-back ones included."""
    lengths = rows["token_ids"].combine_chunks().value_lengths().to_numpy()
    return float(np.mean(lengths - rows["n_prompt_tokens"].to_numpy()))


def split_rows(
    rows: pa.Table, how: Finetune, seed: int, path: Path
) -> tuple["TrainingRows", "TrainingRows", dict[str, int]]:
    """Rows to learn and rows held back for the evaluation loss; too long ones are in neither.

    Whole questions are held back, so that no trace of one is learned and evaluated on.

    Raises
    ------
    UserError
        A row has no prompt, no response or an impossible weight, or none is left to train on.
    """
    lengths = rows["token_ids"].combine_chunks().value_lengths().to_numpy()
    n_prompt, weights = rows["n_prompt_tokens"].to_numpy(), rows["weight"].to_numpy()
    for wrong, what in (
        ((n_prompt < 1) | (n_prompt >= lengths), "needs at least one prompt and response token"),
        (~(np.isfinite(weights) & (weights >= 0)), "needs a finite weight of at least 0"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(
                f"{path}: row {row} (question_id {rows['question_id'][row].as_py()!r}) {what}"
            )
    fits = lengths <= how.max_tokens
    names = rows["question_id"].to_numpy()
    questions = np.unique(names[fits])
    order = np.random.default_rng(derive_seed(seed, "held back")).permutation(len(questions))
    held = np.isin(names, questions[order[: round(how.holdout_fraction * len(questions))]])
    if not (fits & ~held).any():
        raise UserError(
            f"{path}: no rows left to train on: {int((~fits).sum())} of {len(rows)} are longer "
            f"than max_tokens = {how.max_tokens}, {int(held.sum())} are held back"
        )
    counts = {
        "rows": int((fits & ~held).sum()),
        "held_back_rows": int((fits & held).sum()),
        "too_long_rows": int((~fits).sum()),
    }
    return _as_arrays(rows, fits & ~held), _as_arrays(rows, fits & held), counts


def _as_arrays(rows: pa.Table, chosen: np.ndarray) -> "TrainingRows":
    from stages.lm.plan import TrainingRows

    kept = rows.filter(pa.array(chosen))
    ids = kept["token_ids"].combine_chunks()
    return TrainingRows(
        token_ids=ids.flatten().to_numpy(),
        offsets=np.concatenate([[0], np.cumsum(ids.value_lengths().to_numpy(), dtype=np.int64)]),
        n_context=kept["n_prompt_tokens"].to_numpy(),
        weights=kept["weight"].to_numpy(),
    )


def check_tokens(rows: "TrainingRows", vocabulary: int, path: Path) -> None:
    """Refuse token ids that the model does not have."""
    low, high = int(rows.token_ids.min()), int(rows.token_ids.max())
    if low < 0 or high >= vocabulary:
        raise UserError(
            f"{path}: token ids range from {low} to {high}, the base model's vocabulary from 0 to "
            f"{vocabulary - 1}; tokenize the rows with the base model's tokenizer"
        )


def training_settings(
    how: Finetune, machine: Machine, settings: StepSettings, mean: float, n_rows: int
) -> "TrainingSettings":
    """What the trainer is told, from the settings and the number of rows."""
    import torch

    from stages.lm.lora import Lora
    from stages.lm.plan import TrainingSettings

    n_draws = how.steps * how.batch_size if how.steps else max(1, round(how.epochs * n_rows))
    return TrainingSettings(
        mean_response_tokens=mean,
        steps=math.ceil(n_draws / how.batch_size),
        n_draws=n_draws,
        batch_size=how.batch_size,
        learning_rate=how.learning_rate,
        warmup_fraction=how.warmup_fraction,
        weight_decay=how.weight_decay,
        betas=how.betas,
        max_grad_norm=how.max_grad_norm,
        seed=derive_seed(settings.seed, "finetune", settings.role, settings.round),
        dtype=getattr(torch, how.dtype),
        master_dtype=getattr(torch, how.master_dtype),
        tokens_per_micro_batch=machine.tokens_per_micro_batch,
        recompute_every=machine.recompute_every if how.activation_checkpointing else 0,
        lora=None if how.lora is None else Lora(**how.lora.model_dump()),
    )


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Note SIGTERM and SIGINT in a list instead of dying of them; a later one kills as ever.

    What comes within moments of the first is the same request: a launcher and a scheduler may each
    pass it on.
    """
    received: list[int] = []
    first = 0.0

    def note(number: int, _: object) -> None:
        nonlocal first
        first = first or time.monotonic()
        received.append(number)
        if time.monotonic() - first > SAME_REQUEST_SECONDS:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_tokens(base: Path, rows: "TrainingRows") -> list[int]:
    """Tokens at which the new model stops: the base model's, and the one that rows end with.

    A base model was never taught to end a turn; its generation settings do not know that token. A
    last token that is no special token (a piece of a marker) could occur anywhere and is left out.
    """
    from transformers import GenerationConfig

    tokenizer = command.load_tokenizer(base)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    last = set(rows.token_ids[rows.offsets[1:] - 1].tolist()) & special
    if (base / "generation_config.json").exists():
        own = GenerationConfig.from_pretrained(base).eos_token_id
        last |= {own} if isinstance(own, int) else set(own or ())
    if tokenizer.eos_token_id is not None:
        last.add(tokenizer.eos_token_id)
    return sorted(last)


def complete(directory: Path, base: Path, log: list[dict], provenance: dict[str, Any]) -> None:
    """Put the base model's tokenizer, the training log and the provenance beside the weights."""
    for file in base.iterdir():
        copied = not file.name.endswith(NOT_COPIED) and file.name not in OWN_FILES
        if file.is_file() and copied and not file.name.startswith("."):
            shutil.copyfile(file, directory / file.name)
    data = pa.Table.from_pylist(log, schema=tables.TRAINING_LOG.schema)
    store.write_table(directory / "training_log.parquet", tables.TRAINING_LOG, data, provenance)
    store.write_json(directory / "provenance.json", provenance)


if __name__ == "__main__":
    command.run(main)
