"""Which artifacts can be used as they are: a parent's, and finished ones of the same identity."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from stages.artifacts import digests, store
from stages.common.errors import UserError
from stages.experiments import layout, recipes
from stages.experiments.config import Config, lineage
from stages.experiments.layout import SHARDED, Artifact
from stages.experiments.recipes import Ancestry
from stages.experiments.settings import Experiment

# Finished work that is never computed again unless the user asks for it.
KEPT = ("questions", "base", "finetune", *SHARDED)
LISTED = 12  # changes in a message
Foreign = tuple[tuple[str, str], ...]


class Workspace:
    """The artifacts of all experiments of config.yaml, finished or not."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._ancestries: dict[tuple[str, Artifact, Foreign], Ancestry] = {}
        self._homes: dict[tuple[str, Artifact], str] = {}

    def ancestry(self, name: str, artifact: Artifact, foreign: Foreign = ()) -> Ancestry:
        """The ancestry of an artifact, from the settings of its experiment alone.

        `foreign` holds name and content digest of artifacts that the user put in place.
        """
        key = (name, artifact, foreign)
        if key not in self._ancestries:
            self._ancestries[key] = self._compute(name, artifact, foreign)
        return self._ancestries[key]

    def _compute(self, name: str, artifact: Artifact, foreign: Foreign) -> Ancestry:
        content = dict(foreign).get(artifact.name)
        if content is not None:
            return Ancestry(artifact.name, {artifact.name: {"content": content}}, {})
        experiment = self.config.experiments[name]
        parts = recipes.recipe_of(experiment, artifact).inputs
        inputs = {a: self.ancestry(name, part, foreign) for a, part in parts.items()}
        return recipes.derive(recipes.view(experiment, artifact), artifact, inputs)

    def home(self, name: str, artifact: Artifact) -> str:
        """The experiment whose folder holds an artifact: the oldest ancestor with the same one."""
        if (name, artifact) not in self._homes:
            config, mine, oldest = self.config, self.ancestry(name, artifact), name
            for ancestor in lineage(name, config.parents, config.experiments)[1:]:
                if artifact.round > config.experiments[ancestor].rounds:
                    break
                if self.ancestry(ancestor, artifact) != mine:
                    break
                oldest = ancestor
            self._homes[name, artifact] = oldest
        return self._homes[name, artifact]

    def path(self, name: str, artifact: Artifact, shard: str | None = None) -> str:
        """Where an artifact is, or one of its shards: in the folder of its home."""
        return artifact.file(self.home(name, artifact), shard)

    def inputs(
        self, name: str, artifact: Artifact, shard: str | None = None
    ) -> dict[str, str | list[str]]:
        """Input files of the job that makes an artifact, by the step's argument.

        A shard is made from the same shard of sharded inputs, any other artifact from all shards.
        """
        experiment = self.config.experiments[name]
        files: dict[str, str | list[str]] = {}
        for argument, part in recipes.recipe_of(experiment, artifact).inputs.items():
            if part.kind not in SHARDED or shard is not None:
                files[argument] = self.path(name, part, shard if part.kind in SHARDED else None)
            else:
                files[argument] = self.all_shards(name, part)
        return files

    def files(
        self, names: Iterable[str], listed: Callable[[Experiment], list[Artifact]]
    ) -> list[str]:
        """Files of the artifacts that a function of `layout` lists, each once; every shard."""
        files: list[str] = []
        for name in names:
            for artifact in listed(self.config.experiments[name]):
                sharded = artifact.kind in SHARDED
                files += self.all_shards(name, artifact) if sharded else [self.path(name, artifact)]
        return list(dict.fromkeys(files))

    def evaluations(self, names: Iterable[str]) -> dict[str, str]:
        """Label of each evaluated model of some experiments, by the file of its evaluation.

        A label is the model's name, with the experiment's before it where there are several. An
        evaluation that experiments share is listed once.
        """
        several = len(names := list(names)) > 1
        labels: dict[str, str] = {}
        for name in names:
            for artifact in layout.evaluations(self.config.experiments[name]):
                model = Path(artifact.name).name
                label = f"{name}/{model}" if several else model
                labels.setdefault(self.path(name, artifact), label)
        return labels

    def all_shards(self, name: str, artifact: Artifact) -> list[str]:
        """Files of a sharded artifact."""
        shards = layout.shards(self.config.experiments[name])
        return [self.path(name, artifact, shard) for shard in shards]

    def is_finished(self, name: str, artifact: Artifact, shard: str | None = None) -> bool:
        """Whether a kept artifact is complete; False if it is missing or has to grow.

        The modification time of a table that has to grow is set to 0, so that Snakemake plans it
        even if an earlier run that should have grown it failed.

        Raises
        ------
        UserError
            The artifact is stale, or belongs to an ancestor.
        """
        if artifact.kind not in KEPT:
            return False
        home = self.home(name, artifact)
        if home != name:
            raise UserError(
                f"{name} uses this artifact of {home}; request {artifact.file(home, shard)}"
            )
        file = Path(artifact.file(name, shard))
        if not file.exists():
            return False
        provenance = store.read_provenance(file)
        if "recipe" not in provenance:
            return True  # the user put it there
        foreign = self._foreign(name, artifact, provenance["recipe"], shard)
        now = self.ancestry(name, artifact, foreign)
        changes = digests.differences(provenance["recipe"], now.recipes)
        extent = provenance.get("extent", {})
        changes += [
            f"{part}.{setting}: {value} -> {now.extent[part][setting]}"
            for part, values in extent.items()
            for setting, value in values.items()
            if part in now.extent and value > now.extent[part][setting]
        ]
        if changes:
            raise UserError(self._stale(name, file, changes))
        if extent == now.extent:
            return True
        os.utime(file, (1, 1))  # a time of 0 counts as none
        return False

    def _foreign(
        self, name: str, artifact: Artifact, recipe: Mapping[str, object], shard: str | None
    ) -> Foreign:
        """Inputs recorded by their content, with the digest of the content that they have now."""
        parts = {artifact.name: artifact}
        experiment = self.config.experiments[name]
        waiting = [artifact]
        while waiting:
            for part in recipes.recipe_of(experiment, waiting.pop()).inputs.values():
                if part.name not in parts:
                    parts[part.name] = part
                    waiting.append(part)
        contents = []
        for part_name, line in recipe.items():
            if isinstance(line, Mapping) and "content" in line and part_name in parts:
                part = parts[part_name]
                same = shard if part.kind in SHARDED else None
                file = Path(self.path(name, part, same))
                contents.append((part_name, digests.content(file) if file.exists() else ""))
        return tuple(contents)

    @staticmethod
    def _stale(name: str, file: Path, changes: list[str]) -> str:
        listed = "\n".join(f"  {change}" for change in changes[:LISTED])
        if len(changes) > LISTED:
            listed += f"\n  and {len(changes) - LISTED} more"
        return (
            f"{file} is stale: it was made with other settings, prompts, code or inputs\n{listed}\n"
            "Set them back; or keep both, by giving the new settings to another experiment "
            f"(`inherits: {name}`); or delete {file} to rebuild it."
        )
