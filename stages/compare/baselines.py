"""The baselines beside the methods: the best simple one, public weights, and each method's gain over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from stages.compare.figures import excludes_zero, mean_and_ci, measurable, named
from stages.compare.measured import Evaluations, Measured
from stages.compare.predictions import read_baselines
from stages.compare.statistics import Design, Estimate
from stages.compare.verdict import Format, is_one_sided, unmarked
from stages.compare.written import BaselineChoice
from stages.errors import InputError
from stages.files.paths import METRICS
from stages.files.records import read_record
from stages.settings.values import BASELINE, BASELINES, MAJORITY, PUBLIC

GAIN, OVER_PUBLIC = "gain_over_baseline", "gain_over_imagenet"  # in the summary
SHOWN = ("accuracy", "recall_macro", "precision_macro", "f1_macro")  # the others are of probabilities
FIGURES = METRICS / "baselines.json"


@dataclass(frozen=True)
class SimpleBaselines:
    """What the baselines reach on the test split.

    Attributes:
        measured: name → budget → its models.
        validation: budget → name → accuracy on validation; empty where it has too few labels.
    """

    measured: Mapping[str, Mapping[str, Measured]] = field(default_factory=dict)
    validation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @staticmethod
    def read(
        names: Sequence[str], budgets: Sequence[str], labelled: Sequence[int], method: str
    ) -> "SimpleBaselines":
        """Read what the stage `baselines` wrote; arguments and exceptions as for `read_baselines`."""
        measured = read_baselines(names, budgets, labelled, method)
        validation = read_record(FIGURES, BaselineChoice)["validation"]
        for budget in budgets if validation else []:
            if missing := [name for name in measured if name not in validation.get(budget, {})]:
                raise InputError(f"{FIGURES}: validation has no {budget}.{missing[0]}; run `dvc repro`")
        return SimpleBaselines(measured, validation)

    def best(self, budget: str) -> str | None:
        """The name of the best simple one at a budget; None: there are none.

        It is chosen on validation. Where validation has too few labels, it is the best one on the test
        split: a description, which is never in favour of a method. `majority` is taken only where there is
        no other: it knows from all labels of the pool how common each class is, which no draw tells.
        """
        simple = [name for name in self.measured if name != PUBLIC]
        names = [name for name in simple if name != MAJORITY] or simple
        scores = self.validation.get(budget) or {name: self._accuracy(name, budget) for name in names}
        return max(names, key=lambda name: scores[name], default=None)

    def _accuracy(self, name: str, budget: str) -> float:
        return self.measured[name][budget].replicates("accuracy").estimate().mean

    def figures(self) -> dict[str, Any]:
        """Every figure with its interval, as in the details: name → budget → `baseline` → metric."""
        return {
            name: {
                budget: {
                    BASELINE: {
                        metric: mean_and_ci(measured.replicates(metric).estimate()) for metric in SHOWN
                    }
                }
                for budget, measured in budgets.items()
            }
            for name, budgets in self.measured.items()
        }

    def efficiency(self, labels: Mapping[str, int]) -> pd.DataFrame:
        """Accuracy with its interval, as rows of the label-efficiency table; labels: of each budget."""
        rows = [
            {"protocol": BASELINE, "method": name, "labels": labels[budget]}
            | named("accuracy", measured.replicates("accuracy").estimate())
            | {"draws": len(measured.runs), "runs": 1}
            for name, budgets in self.measured.items()
            for budget, measured in budgets.items()
        ]
        return pd.DataFrame(rows)

    def gains(self, evaluations: Evaluations) -> dict[str, dict[str, dict[str, float]]]:
        """Method → budget → the paired gains of its finetuned models.

        One is over the best simple baseline, the other over public weights.
        """
        gains: dict[str, dict[str, dict[str, float]]] = {}
        for method, budget, key, gain in self._gains(evaluations, "accuracy"):
            row = gains.setdefault(method, {}).setdefault(budget, {})
            row |= named(key, gain)
        return gains

    def recall_gains(self, evaluations: Evaluations) -> dict[str, dict[str, dict[str, Any]]]:
        """The same gains in macro recall, as the details have them."""
        gains: dict[str, dict[str, dict[str, Any]]] = {}
        for method, budget, key, gain in self._gains(evaluations, "recall_macro"):
            row = gains.setdefault(method, {}).setdefault(budget, {})
            row[f"recall_macro_{key}"] = mean_and_ci(gain)
        return gains

    def _gains(self, evaluations: Evaluations, metric: str) -> Iterator[tuple[str, str, str, Estimate]]:
        """Method, budget, name of the gain, and the gain."""
        public = PUBLIC if PUBLIC in self.measured else None
        for method, budgets in evaluations.items():
            for budget, protocols in budgets.items():
                finetuned = protocols["finetuned"].replicates(metric)
                for key, base in ((GAIN, self.best(budget)), (OVER_PUBLIC, public)):
                    if base is not None:
                        of_base = self.measured[base][budget].replicates(metric)
                        yield method, budget, key, finetuned.over(of_base).estimate()

    def sentence(
        self, row: Mapping[str, float], method: str, budget: str, design: Design, number: Format = unmarked
    ) -> str:
        """How a method stands beside the best simple baseline; "" where there is none.

        Args:
            row: of the method and budget in the summary.
            design: what each mean is over.
            number: formats each number of the summary.
        """
        best = self.best(budget)
        if best is None or GAIN not in row:
            return ""
        by = "" if self.validation.get(budget) else " on the test (validation has too few labels to choose)"
        reached = f"{100 * self._accuracy(best, budget):.2f} %"
        gain = number(f"{100 * row[GAIN]:+.2f}", f"{method}.{budget}.{GAIN}", "")
        beside = f"the best simple baseline{by}, {BASELINES[best]} ({reached})"
        if f"{GAIN}_ci95" not in row:
            text = f"Beside {beside}: {gain} points; {design.why_no_interval()}."
        else:
            half = number(f"{100 * row[f'{GAIN}_ci95']:.2f}", f"{method}.{budget}.{GAIN}_ci95", "")
            if not measurable(row, GAIN):
                text = f"It is not measurably better or worse than {beside}: {gain} ± {half} points."
            else:
                text = f"It is {'above' if row[GAIN] > 0 else 'below'} {beside}: {gain} ± {half} points."
        return " ".join(filter(None, [text, self._caution(row, budget)]))

    def public_sentence(
        self, row: Mapping[str, float], method: str, budget: str, design: Design, number: Format = unmarked
    ) -> str:
        """How a method stands beside public weights; "" where they were not tried; arguments as above."""
        if OVER_PUBLIC not in row:
            return ""
        gain = number(f"{100 * row[OVER_PUBLIC]:+.2f}", f"{method}.{budget}.{OVER_PUBLIC}", "")
        beside = f"public weights, {BASELINES[PUBLIC]} ({100 * self._accuracy(PUBLIC, budget):.2f} %)"
        if f"{OVER_PUBLIC}_ci95" not in row:
            return f"Beside {beside}: {gain} points; {design.why_no_interval()}."
        half = number(f"{100 * row[f'{OVER_PUBLIC}_ci95']:.2f}", f"{method}.{budget}.{OVER_PUBLIC}_ci95", "")
        if not measurable(row, OVER_PUBLIC):
            return f"It is not measurably better or worse than {beside}: {gain} ± {half} points."
        return f"It is {'above' if row[OVER_PUBLIC] > 0 else 'below'} {beside}: {gain} ± {half} points."

    def recall_sentence(self, of: Mapping[str, Any], tested: Sequence[int]) -> str:
        """How a method stands beside them in macro recall; "" where classes are about equal.

        Args:
            of: the finetuned models of the method and budget in the details.
            tested: how many test images each class has.
        """
        gains = []
        for key, name in ((GAIN, "the best simple baseline"), (OVER_PUBLIC, "public weights")):
            if gain := of.get(f"recall_macro_{key}"):
                mean, half = gain["mean"], gain.get("ci95")
                interval = "" if half is None else f" ± {100 * half:.2f}"
                doubt = "" if excludes_zero(mean, half) else ", which is not measurable"
                gains.append(f"{100 * mean:+.2f}{interval} points over {name}{doubt}")
        return f"By macro recall: {'; '.join(gains)}." if gains and is_one_sided(tested) else ""

    def _caution(self, row: Mapping[str, float], budget: str) -> str:
        """Where always answering the commonest class is right more often than a method."""
        if MAJORITY not in self.measured or self.best(budget) == MAJORITY:
            return ""
        always = self._accuracy(MAJORITY, budget)
        if always <= row["accuracy"]:
            return ""
        return (
            f"Always answering the commonest class is right more often ({100 * always:.2f} %): draws are "
            "balanced, so no model knows how common each class is; look at macro recall."
        )


NONE = SimpleBaselines()
