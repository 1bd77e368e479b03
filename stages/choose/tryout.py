"""The trials of one method: what they share, opened once; they run as often as the grid grows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from stages.choose.splits import Split, splits_of
from stages.choose.trials import Judge, Scored, Trial
from stages.files.paths import ENCODERS, LABELS, RECIPES
from stages.tasks.chosen import recipes_file
from stages.tasks.draws import CHOOSING, Budget, usable_budgets
from stages.tasks.trainer import Job
from stages.tasks.training_stage import VALIDATION, TrainingStage
from stages.training.checkpoint import CHECKPOINTS
from stages.views.augment import random_views

STAGE = "choose"
# Left out of the key of a trial's checkpoint: other budgets, candidates and labels. The key has recipe,
# schedule, labels and encoder of the trial itself.
NOT_IN_KEY = (
    *("finetune.budgets", "finetune.schedule", "finetune.recipe.default", "choose.encoder_learning_rates"),
    *("choose.length", "choose.validation", "choose.folds"),
    *(str(ENCODERS), str(LABELS), *VALIDATION),
)


@dataclass(frozen=True)
class Tryout:
    """The stage, what its workers are told, and the splits of every budget.

    Attributes:
        budgets: those that have enough labels, the smallest first.
    """

    stage: TrainingStage
    job: Job
    budgets: list[Budget]
    splits: list[Split]

    @staticmethod
    def open(method: str, draws: Sequence[int] = (CHOOSING,), name: str = STAGE) -> "Tryout":
        """Read parameters and labels, and cut the labels into splits.

        Args:
            draws: the numbers of the draws.
            name: of the work in messages and of the folder of its checkpoints.
        """
        stage = TrainingStage.open(STAGE, method, recipes_file(method))
        settings, labelled = stage.settings, int((stage.labels >= 0).sum())
        budgets = usable_budgets(settings.finetune.budgets, labelled, len(stage.classes))
        budgets.sort(key=lambda budget: labels_of(budget, labelled))
        splits = splits_of(budgets, settings, stage.labels, len(stage.classes), draws)
        views = partial(random_views, strengths=settings.views.presets[settings.views.finetune])
        job = stage.job(views, RECIPES, (*NOT_IN_KEY, f"finetune.recipe.{method}"))
        job = replace(job, checkpoints=CHECKPOINTS / name / method)
        return Tryout(replace(stage, name=name), job, budgets, splits)

    @property
    def on_validation(self) -> bool:
        """Whether candidates are scored on labels of validation."""
        return any(split.fold is None for split in self.splits)

    def run(self, trials: Sequence[Trial], later: Collection[str] = ()) -> list[Scored]:
        """The result of each trial; those that are done are not done again.

        later: names of trials that may follow; what is done of them stays.
        """
        images = sum(trial.images for trial in trials)
        return self.stage.run(Judge, Judge.judge, self.job, trials, images, later)


def labels_of(budget: Budget, labelled: int) -> int:
    """How many labels a budget has, of so many in the pool."""
    return labelled if budget == "all" else int(budget)
