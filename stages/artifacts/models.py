"""Unfinished models: a finished training is kept until its step has ended, checkpoints till then.

The folder `<output>.partial` holds checkpoints, the recipe that they belong to, and from the moment
when a model is finished `_finished`, its files under second names. Snakemake removes the output of
a job that dies, even in the last seconds of its step, and before it runs a job again; the step
therefore owns its finished work and puts it back.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.artifacts import digests, store
from stages.artifacts.lease import Lease
from stages.common.errors import UserError


class UnfinishedModel:
    """The right to write one model, and what earlier runs left of it; a context manager.

    A finished model of the same recipe is adopted. Checkpoints of another recipe are discarded; a
    finished model of another recipe is an error.

    Parameters
    ----------
    output : Path
        Directory of the model.
    recipe : mapping
        All that the model depends on, as JSON values.

    Attributes
    ----------
    folder : Path
        `<output>.partial`, for checkpoints.
    is_finished : bool
        Whether the output was found complete, or has been put back, on entering.

    Raises
    ------
    UserError
        Another process is writing the model, or the output holds something else.
    """

    def __init__(self, output: Path, recipe: Mapping[str, Any]) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".partial")
        self.recipe: dict[str, Any] = json.loads(json.dumps(recipe))
        self.is_finished = False
        self._lease = Lease(self.folder, output)

    def __enter__(self) -> "UnfinishedModel":
        self._lease.__enter__()
        try:
            self.is_finished = self._adopt()
            if not self.is_finished:
                self._discard_other_checkpoints()
        except BaseException:
            self._lease.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lease.__exit__()

    def check(self, look: bool = True) -> None:
        """Stop this process if another one has taken over, as `Lease.check` does."""
        self._lease.check(look)

    def keep(self, directory: Path) -> None:
        """Give the files of a finished model second names, before the model takes its own name."""
        self.check()
        _copy(directory, self._finished)

    def discard(self) -> None:
        """Remove checkpoints, and the second names of the finished model last."""
        for path in self.folder.iterdir():
            if not path.name.startswith("_"):
                store.remove(path)
        store.remove(self._finished)

    @property
    def _finished(self) -> Path:
        return self.folder / "_finished"

    def _adopt(self) -> bool:
        for path in (self.output, self._finished):
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                if not store.is_model(path):
                    raise UserError(
                        f"{path}: exists, is not a model and is not overwritten; choose another "
                        "output path, or delete it"
                    )
                digests.check_recipe(path, self.recipe)
        if not store.is_model(self.output):
            if not store.is_model(self._finished):
                return False
            _copy(self._finished, self.output)
        print(f"{self.output}: already trained; adopting the finished model", file=sys.stderr)
        return True

    def _discard_other_checkpoints(self) -> None:
        header = self.folder / "recipe.json"
        before = json.loads(header.read_text()) if header.exists() else {}
        if before == self.recipe:
            return
        checkpoints = list(self.folder.glob("step-*"))
        if checkpoints:
            changes = "; ".join(digests.differences(before, self.recipe))
            print(
                f"{self.folder}: settings or inputs changed ({changes}); "
                f"discarding {len(checkpoints)} checkpoints",
                file=sys.stderr,
            )
        for checkpoint in checkpoints:
            store.remove(checkpoint)
        store.write_json(header, self.recipe)


def _copy(model: Path, name: Path) -> None:
    """Give a directory a second name, all of it or nothing; its files are linked where possible."""
    with store.atomic(name) as unfinished:
        shutil.copytree(
            model, unfinished, copy_function=lambda file, to: store.link(Path(file), Path(to))
        )
