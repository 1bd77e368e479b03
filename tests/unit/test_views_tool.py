"""`stages.tools.views` on a few digits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import Tensor

from stages.errors import InputError
from stages.files.paths import IMAGES, LABELS
from stages.files.tables import write_table
from stages.settings import load
from stages.settings.schema import ViewPresets
from stages.tools import preset_trial, views
from stages.tools.preset_trial import LabelledImages, Measured
from stages.training import checkpoint, loop
from stages.training.randomness import Stream
from tests.conftest import ROOT, seal
from tests.pipeline.conftest import change


@pytest.mark.usefixtures("small")
def test_the_chosen_preset_is_written_and_the_table_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    before = load.PARAMS.read_text()
    views.main(["photos", "clothes_mild", "--steps", "4", "--csv", "views.csv", "--write"])
    table = pd.read_csv("views.csv")
    assert set(table["preset"]) == {"photos", "clothes_mild", views.UNTRAINED}
    assert set(table["method"]) == {"simclr"}
    uses = table["chosen_for"].fillna("")
    pretrain, finetune = (table.loc[uses.str.contains(use), "preset"].item() for use in views.USES)
    settings = load.validated(load.read(load.PARAMS))
    assert (settings.views.pretrain, settings.views.finetune) == (pretrain, finetune)
    after = load.PARAMS.read_text()
    assert len(before.splitlines()) == len(after.splitlines())
    assert f"pretrain: {pretrain} # the preset for pretraining" in after
    printed = capsys.readouterr().out
    assert "200 labelled images of pool and validation" in printed
    assert "views: chosen: " in printed or f"chosen: {pretrain} for pretraining" in printed


@pytest.mark.usefixtures("small")
def test_a_run_that_was_killed_resumes_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["photos_mild", "clothes_mild", "--steps", "6", "--csv"]
    views.main([*command, "whole.csv"])
    for file in preset_trial.FOLDER.iterdir():
        file.unlink()
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    learn, steps = loop.optimisation.batch_indices, []

    def killed(step: int, *arguments: object) -> Tensor:
        steps.append(step)
        if len(steps) == 10:  # in the middle of the second preset
            raise KeyboardInterrupt
        return learn(step, *arguments)

    monkeypatch.setattr(loop.optimisation, "batch_indices", killed)
    with pytest.raises(KeyboardInterrupt):
        views.main([*command, "resumed.csv"])
    assert not Path("resumed.csv").exists()
    capsys.readouterr()
    views.main([*command, "resumed.csv"])
    assert steps == [*range(6), *range(4), *range(3, 6)]
    assert "views clothes_mild: resumed at step 3 of 6" in capsys.readouterr().out
    assert Path("resumed.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.usefixtures("small")
def test_a_change_of_another_preset_or_of_the_choice_trains_nothing_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    views.main(["photos", "--steps", "2", "--write"])
    change(load.PARAMS, {"views.presets.clothes.flip": 0.25})
    capsys.readouterr()
    views.main(["photos", "--steps", "2"])
    assert "views photos: resumed at step 2 of 2" in capsys.readouterr().out
    change(load.PARAMS, {"views.presets.photos.flip": 0.25})
    views.main(["photos", "--steps", "2"])
    assert "resumed" not in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_dry_run_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    views.main(["--dry-run"])
    assert "simclr, 300 steps with each of digits, clothes" in capsys.readouterr().out
    assert not preset_trial.FOLDER.exists()


@pytest.mark.usefixtures("small")
def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"PRESET: unknown name 'photo' \(did you mean photos\?\)"):
        views.main(["photo"])
    with pytest.raises(InputError, match="--steps is 0; allowed: 1 or more"):
        views.main(["--steps", "0"])
    change(load.PARAMS, {"methods": ["scratch", "autoencoder"]})
    with pytest.raises(InputError, match="methods has none that compares views"):
        views.main([])


def test_colour_images_are_not_tried_with_presets_for_grey_ones_unless_named() -> None:
    settings = load.validated(load.read(ROOT / load.PARAMS))
    assert views.chosen_presets([], settings, channels=1) == list(settings.views.presets)
    colour = views.chosen_presets([], settings, channels=3)
    assert colour == [name for name in settings.views.presets if name not in views.FOR_GREY]
    assert {"photos", "photos_no_colour", "from_above"} <= set(colour)
    assert views.chosen_presets(["digits", "digits"], settings, channels=3) == ["digits"]


# --- the images that it measures on


@pytest.mark.usefixtures("small")
def test_groups_of_pool_and_validation_are_units_of_their_own() -> None:
    table = pd.read_csv(IMAGES / "pool.csv", dtype=str)
    write_table(IMAGES / "pool.csv", table.assign(group=[f"g{row // 30}" for row in range(300)]))
    seal()
    labelled = LabelledImages.read(Stream.of(1))
    assert len(labelled.labels) == len(labelled.images) == 200
    assert len(np.unique(labelled.units[:100])) == 10  # 100 labelled images of the pool
    assert len(np.unique(labelled.units)) == 110


@pytest.mark.usefixtures("small")
def test_of_more_labels_than_needed_equally_many_of_each_class_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = LabelledImages.read(Stream.of(1))
    monkeypatch.setattr(preset_trial, "MOST_LABELS", 50)
    some = LabelledImages.read(Stream.of(1))
    assert len(some.labels) == len(np.unique(some.units)) == 50
    assert some.labels.bincount().tolist() == [5] * 10
    pixels = {
        image.tobytes(): label for image, label in zip(every.images, every.labels.tolist(), strict=True)
    }
    assert [pixels[image.tobytes()] for image in some.images] == some.labels.tolist()


@pytest.mark.usefixtures("small")
def test_too_few_labels_are_an_error() -> None:
    table = pd.read_csv(LABELS / "pool.csv", dtype=str)
    write_table(LABELS / "pool.csv", table.assign(label=""))
    known = pd.read_csv(IMAGES / "validation.csv", dtype=str)["label"]
    write_table(IMAGES / "validation.csv", pd.DataFrame({"label": known.where(known.index < 9, "")}))
    seal()
    with pytest.raises(InputError, match=r"9 labelled images in 9 groups.*allowed: 10 groups"):
        views.main(["--dry-run"])


# --- the choice


def measured(seed: int, share: float, change: float) -> Measured:
    drawn = np.random.default_rng(seed).random(200) < share
    return Measured(drawn.astype(float), change)


def named(pretrain: str, finetune: str) -> ViewPresets:
    """What params.yaml names."""
    presets = {name: {} for name in ("photos", "strong", "mild", "one", "two")}
    return ViewPresets.model_validate({"pretrain": pretrain, "finetune": finetune, "presets": presets})


def test_the_best_is_chosen_where_the_difference_is_clear() -> None:
    results = {
        views.UNTRAINED: measured(0, 0.4, 0),
        "strong": measured(1, 0.9, 0.3),
        "mild": measured(2, 0.5, 0.1),
    }
    units = np.arange(200)
    choice = views.choose(results, units, named("mild", "mild"))
    assert choice == views.Choice("strong", pretrain="strong", finetune="strong")
    lines = views.verdict(results, units, choice, named("mild", "mild"))
    assert lines[0] == "views: chosen: strong; it is the most accurate"
    assert not any("warning" in line for line in lines)
    table = views.as_table(results, units, choice)
    assert table.set_index("preset")["chosen_for"].to_dict() == {
        "strong": "pretrain and finetune", "mild": "", views.UNTRAINED: "",
    }  # fmt: skip


@pytest.mark.parametrize(("first", "second"), [(0.3, 0.1), (0.1, 0.3)])
def test_within_noise_the_strongest_is_for_pretraining_and_the_mildest_for_finetuning(
    first: float, second: float
) -> None:
    best = measured(1, 0.8, first)
    other = best.right.copy()
    other[:5] = 1 - other[:5]  # differs in five images
    other[np.flatnonzero(best.right)[-1]] = 0
    results = {
        views.UNTRAINED: measured(0, 0.4, 0),
        "one": best,
        "two": Measured(other, second),
        "worse": measured(3, 0.5, 0.5),
    }
    choice = views.choose(results, np.arange(200), named("mild", "photos"))
    strong, mild = ("one", "two") if first > second else ("two", "one")
    assert (choice.pretrain, choice.finetune) == (strong, mild)
    line = views.verdict(results, np.arange(200), choice, named("mild", "photos"))[0]
    assert "as good within noise: " in line
    assert (
        f"chosen: {strong} for pretraining, which changes the images most, and {mild} for finetuning, which "
        "changes them least"
    ) in line
    # Within noise, what params.yaml names stays.
    kept = named(mild, strong)
    choice = views.choose(results, np.arange(200), kept)
    assert (choice.pretrain, choice.finetune) == (mild, strong)
    line, said = views.verdict(results, np.arange(200), choice, kept)[0], "as params.yaml says already"
    assert f"chosen: {mild} for pretraining, {said}, and {strong} for finetuning, {said}" in line


def test_no_better_than_untrained_is_said() -> None:
    same = measured(1, 0.5, 0.2)
    results = {views.UNTRAINED: same, "photos": same}
    choice = views.Choice("photos", "photos", "photos")
    lines = views.verdict(results, np.arange(200), choice, named("photos", "photos"))
    assert any("not better than the untrained encoder beyond noise" in line for line in lines)
