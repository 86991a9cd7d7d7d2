"""Digests of files and models, and the differences between two recipes."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.artifacts.store import is_model, read_provenance
from stages.common.errors import UserError

DIGITS = 16


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Readable differences between two nested mappings, one line per value that changed.

    A line reads ``traces.temperature: 0.7 -> 1.0``. A key that one side lacks is shown as
    ``default``, as recipes leave out settings at their defaults.
    """
    return list(_differences(before, after, ""))


def _differences(before: Any, after: Any, key: str) -> Iterator[str]:
    old, new = ({} if side is _DEFAULT else side for side in (before, after))
    if isinstance(old, Mapping) and isinstance(new, Mapping) and (old or new):
        for name in {**old, **new}:
            inner = f"{key}.{name}".lstrip(".")
            yield from _differences(old.get(name, _DEFAULT), new.get(name, _DEFAULT), inner)
    elif before != after:
        yield f"{key}: {_shown(before)} -> {_shown(after)}"


_DEFAULT = object()


def _shown(value: Any) -> str:
    text = "default" if value is _DEFAULT else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def file_digest(path: Path) -> str:
    """First 16 hex digits of the file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def content(path: Path) -> str:
    """Digest of what an artifact from elsewhere contains: a model, a file, or a folder of files."""
    if is_model(path):
        return model_digest(path)
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        return digest([[str(file.relative_to(path)), file_digest(file)] for file in files])
    return file_digest(path)


MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def model_digest(model: Path) -> str:
    """Digest of a model: its configuration whole, its weights by size, first and last MiB."""
    parts = []
    for file in sorted(model.glob("*")):
        if file.suffix == ".safetensors":
            size, edge = file.stat().st_size, 1 << 20
            with file.open("rb") as weights:
                head = weights.read(edge)
                weights.seek(max(0, size - edge))
                ends = hashlib.sha256(head + weights.read(edge)).hexdigest()
            parts.append([file.name, size, ends])
        elif file.name in MODEL_FILES:
            parts.append([file.name, file_digest(file)])
    return digest(parts)


def tokenizer_digest(model: Path) -> str:
    """Digest of a model's tokenizer; tokenizers with equal digests encode text alike."""
    for name in ("tokenizer.json", "vocab.json", "tokenizer.model"):
        if (model / name).exists():
            return file_digest(model / name)
    raise UserError(
        f"{model}: tokenizer.json is missing; save the tokenizer into this directory with "
        "transformers' save_pretrained"
    )


def same_tokenizer(traces: Path, model: Path) -> None:
    """Refuse a model whose tokenizer differs from that of the model that wrote the traces."""
    wrote = read_provenance(traces).get("tokenizer")
    if wrote is not None and wrote != tokenizer_digest(model):
        raise UserError(
            f"{model}: its tokenizer differs from that of the model that wrote {traces}; token ids "
            "mean different texts to them. Prior and posterior must come from one base model"
        )


def check_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    """Refuse to overwrite a finished artifact that a recipe would not have made.

    Raises
    ------
    UserError
        It has another recipe, or none, as somebody else made it.
    """
    earlier = read_provenance(path)
    if earlier.get("identity") == digest(recipe):
        return
    if not earlier:
        raise UserError(
            f"{path}: was not written by this pipeline (it has no provenance) and is not "
            "overwritten; choose another output path, or move it away"
        )
    before = earlier.get("recipe")
    changes = differences(before, recipe) if before else ["written by an earlier version"]
    raise UserError(
        f"{path}: finished with other settings or inputs and not overwritten:\n"
        + "".join(f"  {change}\n" for change in changes)
        + "Set them back, or choose another output path (another experiment), or delete it to "
        "have it computed again"
    )
