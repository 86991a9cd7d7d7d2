"""The identity of a step's output, from what its inputs record: computed at run time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.artifacts import digests, store
from stages.common.errors import UserError
from stages.experiments import recipes
from stages.experiments.layout import Artifact
from stages.experiments.recipes import Ancestry, Conflict
from stages.experiments.settings import StepSettings


@dataclass(frozen=True)
class Origin:
    """Where an output comes from.

    Attributes
    ----------
    step : str
        The step that makes it.
    ancestry : Ancestry
        Recipes of the output and of all its ancestors.
    inputs : dict of str to str
        Identity of each input by its path.
    """

    step: str
    ancestry: Ancestry
    inputs: dict[str, str]

    @property
    def recipe(self) -> dict[str, dict[str, Any]]:
        """What decides the rows of the output besides their keys, for its journal."""
        return self.ancestry.recipes

    def marks(self) -> dict[str, Any]:
        """What the output's provenance says about it."""
        return {
            "step": self.step,
            "artifact": self.ancestry.name,
            "identity": self.ancestry.identity,
            "recipe": self.ancestry.recipes,
            "extent": self.ancestry.extent,
            "inputs": self.inputs,
        }


def output(
    step: str,
    settings: StepSettings,
    inputs: Mapping[str, Path | None],
    role: str = "",
    sources: Iterable[Path] = (),
) -> Origin:
    """The origin of the artifact that a step is about to make.

    For inputs made by the pipeline, its ancestry equals `reuse.Workspace.ancestry`, which needs
    config.yaml alone. Any other input enters by its content.

    Parameters
    ----------
    step : str
        The step.
    settings : StepSettings
        The settings of the step.
    inputs : mapping of str to Path or None
        Its input artifacts by argument; None for an absent one.
    role : str
        As for `layout.Artifact`.
    sources : iterable of Path
        Outside files that it reads; recorded by content.

    Raises
    ------
    UserError
        Two inputs, or two shards of one, come from different versions of an artifact.
    """
    artifact = Artifact(step, settings.round, settings.rollouts, role)
    declared = recipes.RECIPES[step](settings, artifact).inputs
    present = {argument: path for argument, path in inputs.items() if path is not None}
    try:
        ancestries = {
            argument: input_(path, declared[argument].name if argument in declared else argument)
            for argument, path in present.items()
        }
        ancestry = recipes.derive(settings, artifact, ancestries)
    except Conflict as conflict:
        listed = "\n".join(f"  {change}" for change in conflict.changes)
        raise UserError(
            f"{present[conflict.argument]}: made from another version of {conflict.name} than the "
            f"other inputs:\n{listed}\nRerun the steps that make the inputs"
        ) from None
    paths = {str(path): ancestries[argument].identity for argument, path in present.items()}
    paths |= {str(path): digests.content(path) for path in sources}
    return Origin(step, ancestry, paths)


def input_(path: Path, name: str) -> Ancestry:
    """The ancestry that an input's step recorded; for a folder, that of all shards.

    `name` is the key of an input that was made outside the pipeline.
    """
    files = [path] if store.is_model(path) else store.shards(path)
    first: Ancestry | None = None
    for file in files:
        provenance = store.read_provenance(file)
        if "recipe" not in provenance:
            return Ancestry(name, {name: {"content": digests.content(path)}}, {})
        one = Ancestry(provenance["artifact"], provenance["recipe"], provenance.get("extent", {}))
        if first is not None and one != first:
            changes = digests.differences(first.recipes, one.recipes)
            changes += digests.differences(first.extent, one.extent)
            raise UserError(
                f"{file} does not belong to the same table as {files[0]}:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\nRerun the step that makes them, for all shards"
            )
        first = one
    assert first is not None
    return first
