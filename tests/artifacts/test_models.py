"""A finished model survives its step's last seconds; another training never overwrites it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from stages.artifacts.digests import digest
from stages.artifacts.models import UnfinishedModel
from stages.common.errors import UserError

RECIPE = {"models/initial": {"step": "finetune", "settings": {"learning_rate": 0.1}}}
OTHER = {"models/initial": {"step": "finetune", "settings": {"learning_rate": 0.2}}}


def write_model(directory: Path, recipe: dict = RECIPE) -> Path:
    (directory / "adapter").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    (directory / "adapter" / "adapter_model.safetensors").write_bytes(b"adapter")
    provenance = {"identity": digest(recipe), "recipe": recipe}
    (directory / "provenance.json").write_text(json.dumps(provenance))
    return directory


def files(directory: Path) -> dict[str, bytes]:
    names = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in names}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "model"


def finish(out: Path) -> None:
    """Keep a model that is then lost, as when its step is killed before it ends."""
    model = write_model(out.with_name("written"))
    with UnfinishedModel(out, RECIPE) as work:
        work.keep(model)
    shutil.rmtree(model)


def test_nothing_is_left_of_work_that_never_began(out: Path) -> None:
    with UnfinishedModel(out, RECIPE) as work:
        assert not work.is_finished
        work.discard()
    assert not out.exists() and not work.folder.exists()


def test_a_finished_output_counts_as_done(out: Path) -> None:
    write_model(out)
    with UnfinishedModel(out, RECIPE) as work:
        assert work.is_finished


@pytest.mark.parametrize("links", [True, False])
def test_a_lost_output_is_put_back(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, links: bool
) -> None:
    if not links:

        def no_links(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "link", no_links)
    finish(out)
    with UnfinishedModel(out, RECIPE) as work:
        assert work.is_finished
        assert "already trained; adopting the finished model" in capsys.readouterr().err
        work.discard()
    assert files(out) == files(write_model(out.with_name("reference")))
    assert not work.folder.exists()


def test_the_second_names_take_no_space(out: Path) -> None:
    model = write_model(out.with_name("written"))
    with UnfinishedModel(out, RECIPE) as work:
        work.keep(model)
        kept = work.folder / "_finished" / "model.safetensors"
        assert kept.samefile(model / "model.safetensors")


def test_the_finished_model_is_removed_last(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while checkpoints are removed, the model is still there."""
    finish(out)
    removed = []
    with UnfinishedModel(out, RECIPE) as work:
        (work.folder / "step-9").mkdir()
        monkeypatch.setattr("stages.artifacts.store.remove", lambda p: removed.append(p.name))
        work.discard()
        monkeypatch.undo()
    assert "step-9" in removed and removed[-1] == "_finished"


@pytest.mark.parametrize("lost", [True, False])
def test_a_finished_model_of_another_recipe_is_an_error(out: Path, lost: bool) -> None:
    finish(out) if lost else write_model(out)
    place = out.with_name("model.partial") / "_finished" if lost else out
    before = files(place)
    message = r"finished with other settings(.|\n)*settings\.learning_rate: 0\.1 -> 0\.2"
    with pytest.raises(UserError, match=message), UnfinishedModel(out, OTHER):
        pass
    assert files(place) == before


def test_somebody_elses_files_are_not_overwritten(out: Path) -> None:
    out.mkdir()
    with UnfinishedModel(out, RECIPE) as work:  # an empty directory is nobody's
        assert not work.is_finished
    (out / "thesis.tex").write_text("ten years of work")
    with pytest.raises(UserError, match="is not a model"), UnfinishedModel(out, RECIPE):
        pass
    (out / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no provenance"), UnfinishedModel(out, RECIPE):
        pass
    assert (out / "thesis.tex").exists()


def test_checkpoints_of_another_recipe_are_discarded(
    out: Path, capsys: pytest.CaptureFixture
) -> None:
    with UnfinishedModel(out, RECIPE) as work:
        (work.folder / "step-3").mkdir()
    with UnfinishedModel(out, RECIPE):
        assert (work.folder / "step-3").exists()
    with UnfinishedModel(out, OTHER):
        assert not (work.folder / "step-3").exists()
    assert "learning_rate: 0.1 -> 0.2); discarding 1 checkpoints" in capsys.readouterr().err


def test_two_processes_refuse_each_other(out: Path) -> None:
    with (
        UnfinishedModel(out, RECIPE),
        pytest.raises(UserError, match="another process is writing this output"),
        UnfinishedModel(out, RECIPE),
    ):
        pass
