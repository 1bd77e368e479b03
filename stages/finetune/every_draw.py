"""What finetune@METHOD does: an encoder and labels become classifiers, one for each budget and draw."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from stages.files.digests import write_digests
from stages.files.paths import CLASSIFIERS, ENCODERS, LABELS, encoder_file
from stages.files.whole import whole_folder
from stages.finetune.trainings import Draw, Finetuner
from stages.settings.recipes import Recipe
from stages.settings.schema import Params
from stages.tasks.chosen import read_recipes, recipes_file, write_used
from stages.tasks.confirmation import Confirmation, confirmations, print_confirmations
from stages.tasks.draws import budget_name, draw_labelled, usable_budgets
from stages.tasks.model_index import Model, write_index
from stages.tasks.training_stage import VALIDATION, TrainingStage
from stages.training.randomness import Stream
from stages.views.augment import random_views

NEW_AND_OLD = "trained", "frozen"  # the models whose encoder was trained, and their linear probes


def main(method: str) -> None:
    """Finetune a method's encoders on each draw of each budget; write the classifiers and their index."""
    stage = TrainingStage.open("finetune", method, CLASSIFIERS / method)
    settings = stage.settings
    # All draws are made before the first training, so that an invalid budget fails at once.
    draws = make_draws(method, settings, stage.labels, len(stage.classes))
    images = sum(draw.images(settings.finetune.schedule) for draw in draws)
    views = partial(random_views, strengths=settings.views.presets[settings.views.finetune])
    # A classifier depends on the labels of its own draw, the encoder of its own run and the recipe of its own
    # budget, not on others, so its checkpoint remains valid when a budget, a draw or a run is added.
    others = ("pretrain.runs", "finetune.budgets", "finetune.draws", str(ENCODERS), str(LABELS))
    not_in_key = (*others, str(recipes_file(method)), *VALIDATION)
    with whole_folder(CLASSIFIERS / method) as folder:
        job = stage.job(views, folder, not_in_key)
        results = stage.run(Finetuner, Finetuner.finetune, job, draws, images)
        confirmed = confirmations([draw.budget for draw in draws], [result.compared for result in results])
        print_confirmations(stage.title, confirmed, *NEW_AND_OLD)
        write_used(folder, settle(folder, draws, confirmed))
        write_index(folder, [indexed(draw, encoder_file(method, draw.run)) for draw in draws])
        write_digests(folder, CLASSIFIERS / method)
        made_from = stage.made_from()
    figures = {budget: confirmation.figures(*NEW_AND_OLD) for budget, confirmation in confirmed.items()}
    stage.write_metrics(made_from, results, images, confirmation=figures)


def settle(folder: Path, draws: Sequence[Draw], confirmed: Mapping[str, Confirmation]) -> dict[str, Recipe]:
    """Put the linear probes in the place of models that were not confirmed, and remove the other probes.

    Returns:
        Budget → the recipe of its models.
    """
    recipes = {draw.budget: draw.recipe for draw in draws}
    for draw in draws:
        if draw.budget in confirmed:
            if confirmed[draw.budget].holds:
                (folder / draw.probe_file).unlink()
            else:
                (folder / draw.probe_file).replace(folder / draw.file)
                recipes[draw.budget] = draw.recipe.model_copy(update={"encoder_learning_rate": 0.0})
    return recipes


def make_draws(method: str, settings: Params, labels: Tensor, classes: int) -> list[Draw]:
    """The draws of every budget that has enough labels."""
    budgets = usable_budgets(settings.finetune.budgets, int((labels >= 0).sum()), classes)
    draws, chosen = [], read_recipes(recipes_file(method), map(budget_name, budgets))
    for budget in budgets:
        name = budget_name(budget)
        for number in range(settings.finetune.draws):
            rows = draw_labelled(labels, classes, budget, number, settings.seeds.draws)
            stream = Stream.of(settings.seeds.training, "finetune", name, number)
            run = number % settings.pretrain.runs
            recipe = chosen.recipes[name]
            draws.append(Draw(name, number, run, rows.numpy(), recipe, chosen.or_frozen, stream))
    return draws


def indexed(draw: Draw, encoder: Path) -> Model:
    """The row of the index for the classifier of a draw."""
    return Model(draw.file, "finetuned", draw.budget, draw.number, draw.run, str(encoder))
