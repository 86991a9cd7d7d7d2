"""Rows of JSONL, JSON, CSV and Parquet files, each also with `.gz`, and of datasets on the hub."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import UserError
from stages.experiments.sources import Questions


def read_rows(file: Path) -> list[Any]:
    """Rows of a file, by the ending of its name.

    Raises
    ------
    UserError
        The file is missing, of an unknown kind, or not what its name says.
    """
    suffixes = [suffix.lower() for suffix in file.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if zipped else suffixes[-1:])
    if suffix not in READERS:
        raise UserError(
            f"{file}: unknown kind of file; the name must end in {', '.join(READERS)} "
            "(optionally followed by .gz)"
        )
    try:
        content = gzip.decompress(file.read_bytes()) if zipped else file.read_bytes()
        return READERS[suffix](content, file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file (setting questions.file)") from None
    except (pa.ArrowException, OSError, EOFError, ValueError, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: not valid {suffix[1:].upper()}: {reason}") from None


def _jsonl(content: bytes, file: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(_text(content).split("\n"), start=1):  # not other line breaks
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{file}: line {number} is not valid JSON: {error}") from None
    return rows


def _json(content: bytes, file: Path) -> list[Any]:
    rows = json.loads(_text(content))
    if not isinstance(rows, list):
        raise UserError(f"{file}: holds a single JSON {type(rows).__name__}; give a list of rows")
    return rows


def _csv(content: bytes, file: Path) -> list[Any]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(_text(content), newline=""), strict=True)
    header = next(reader, [])
    rows = []
    for number, cells in enumerate(reader, start=1):
        if cells and len(cells) != len(header):
            raise UserError(
                f"{file}: row {number} has {len(cells)} cells, the header has {len(header)}; "
                "put texts that hold commas or line breaks in double quotes"
            )
        if cells:
            rows.append({name: cell or None for name, cell in zip(header, cells, strict=True)})
    return rows


def _parquet(content: bytes, file: Path) -> list[Any]:
    return pq.read_table(pa.BufferReader(content)).to_pylist()


def _text(content: bytes) -> str:
    return content.decode("utf-8-sig")  # a byte-order mark is no text


READERS: dict[str, Callable[[bytes, Path], list[Any]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
SUFFIXES = tuple(READERS) + tuple(f"{suffix}.gz" for suffix in READERS)


def fetch(source: Questions) -> tuple[list[Path], str]:
    """Download the data files of a hub dataset's split to its cache; return files and commit.

    Raises
    ------
    UserError
        The hub cannot be reached, or no file belongs to the split.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    dataset = str(source.dataset)
    try:
        info = HfApi().dataset_info(dataset, revision=source.revision)
        names = [f.rfilename for f in info.siblings or [] if f.rfilename.endswith(SUFFIXES)]
        of_split = [name for name in names if source.split in name]
        if source.split == "train" and len(names) == 1:
            of_split = names  # the only file of a dataset need not name its split
        files = [
            hf_hub_download(dataset, name, repo_type="dataset", revision=info.sha)
            for name in sorted(of_split)
        ]
    except (HfHubHTTPError, RepositoryNotFoundError, OSError) as error:
        raise UserError(
            f"dataset {dataset}: cannot be fetched from the hub ({type(error).__name__}); check "
            "questions.dataset and the network, or download it and set questions.file"
        ) from None
    if not files:
        raise UserError(
            f"dataset {dataset}: no data file has {source.split!r} in its name (questions.split); "
            f"its files are {', '.join(names) or 'none'}"
        )
    return [Path(file) for file in files], str(info.sha)
