"""What the methods are compared with: classifiers on descriptions of images that need no training here.

Each is fitted to the labelled images of a draw alone, as every method is. `majority` is no classifier: draws
are balanced and do not tell which class is the commonest, so it takes that from all labels of the pool.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.evaluate.baselines import descriptors, public
from stages.evaluate.baselines.descriptors import Describe
from stages.settings.values import PUBLIC

# Of the SVM. 0.01, 0.03 and 0.1 were tried on validation images of MNIST, emoji and satellite tiles.
C = 0.03
ITERATIONS = 5000  # of the SVM at most
TREES = 100


@dataclass(frozen=True)
class Baseline:
    """A description of images, and what is fitted to it.

    Attributes:
        describe: the description.
        make: a classifier, as scikit-learn has them, from a seed.
    """

    describe: Describe
    make: Callable[[int], Any]


# NOTE: scikit-learn takes seconds to import, so it is imported where it is used.
def nearest(seed: int) -> Any:
    """The class of the nearest image, by the sum of squared differences."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=1, algorithm="brute", n_jobs=1)


def svm(seed: int) -> Any:
    """Linear support vector machines, one for each class against all others."""
    from sklearn.svm import LinearSVC

    return LinearSVC(C=C, max_iter=ITERATIONS, random_state=seed)


def forest(seed: int) -> Any:
    """A random forest (L. Breiman, Machine Learning 45, 2001)."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(TREES, n_jobs=1, random_state=seed)


FITTED: Mapping[str, Baseline] = {
    "pixels_1nn": Baseline(descriptors.pixels, nearest),
    "hog_svm": Baseline(descriptors.shapes_and_colours, svm),
    "hog_forest": Baseline(descriptors.shapes_and_colours, forest),
    PUBLIC: Baseline(public.imagenet, lambda _seed: public.Probe()),
}


def fitted(make: Callable[[int], Any], described: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """A classifier that was fitted to the descriptions (n, D) and labels (n,) of a draw."""
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning

    # A user's folder may have one class so far, and an SVM needs two.
    classifier = make(seed) if len(np.unique(labels)) > 1 else DummyClassifier()
    with warnings.catch_warnings():
        # An SVM that is still a little off its optimum predicts as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(described, labels)


def probabilities(classifier: Any, described: np.ndarray, classes: int) -> np.ndarray:
    """What a classifier predicts for descriptions (N, D), as float32 (N, classes), each row with the sum 1.

    Those of a forest are the shares of its trees' votes. An SVM has none: they are the softmax of its
    margins, so that the class with the largest is the one that it predicts, and not calibrated.
    """
    if hasattr(classifier, "predict_proba"):
        known = classifier.predict_proba(described)
    else:
        margins = classifier.decision_function(described)
        if margins.ndim == 1:  # of two classes there is one margin
            margins = np.stack([-margins, margins], axis=1)
        odds = np.exp(margins - margins.max(1, keepdims=True))
        known = odds / odds.sum(1, keepdims=True)
    predicted = np.zeros((len(described), classes), dtype=np.float32)
    predicted[:, classifier.classes_] = known  # a class without labels in the draw is never predicted
    return predicted


def majority(labels: np.ndarray, classes: int, count: int) -> np.ndarray:
    """The prediction of `majority` for any images: the share of each class, float32 (count, classes).

    labels: (M,) integers, of all images of the pool; -1: none.
    """
    shares = np.bincount(labels[labels >= 0], minlength=classes) / max((labels >= 0).sum(), 1)
    return np.tile(shares.astype(np.float32), (count, 1))
