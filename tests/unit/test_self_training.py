import math

import pytest
import torch
from torch import Tensor

from stages.encoders import Classifier
from stages.finetune.self_training import CHUNK, predict, pseudo_labelled
from stages.finetune.train import Labelled
from stages.probe import encode
from stages.runtime import Machine
from tests.conftest import tiny_encoder

Digits = tuple[Tensor, Tensor]


@pytest.fixture
def classifier() -> Classifier:
    classifier = Classifier(tiny_encoder(), 10)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(classifier.head.weight, std=0.3, generator=generator)
    return classifier


def test_prediction_is_the_largest_probability_chunk_by_chunk(
    classifier: Classifier, digits: Digits, cpu: Machine
) -> None:
    pool = digits[0].repeat(9, 1, 1, 1)
    assert len(pool) > CHUNK
    confidence, labels = predict(classifier, pool.numpy(), cpu)
    expected = classifier.head(encode(classifier.encoder, pool, cpu)).softmax(1).max(1)
    torch.testing.assert_close(confidence, expected.values, rtol=1e-4, atol=1e-5)
    assert torch.equal(labels, expected.indices)


def test_the_surest_part_is_taken_and_the_known_keep_their_labels(
    classifier: Classifier, digits: Digits, cpu: Machine
) -> None:
    pool = digits[0].numpy()
    confidence, guessed = predict(classifier, pool, cpu)
    unsure = confidence.argsort()[:20].sort().values  # known, though the classifier is least sure of them
    known = Labelled(pool, unsure, (guessed[unsure] + 1) % 10)  # and wrong
    taken = pseudo_labelled(classifier, pool, known, 0.25, cpu)
    labels = dict(zip(taken.rows.tolist(), taken.labels.tolist(), strict=True))
    assert all(
        labels[row] == label for row, label in zip(unsure.tolist(), known.labels.tolist(), strict=True)
    )
    others = torch.tensor([row for row in labels if row not in set(unsure.tolist())])
    assert all(labels[row] == guessed[row] for row in others.tolist())
    now = guessed.clone()
    now[unsure] = known.labels
    for label in now.unique().tolist():
        members = (now == label).nonzero()[:, 0]
        inside = torch.isin(members, taken.rows)
        sure = ~torch.isin(members, unsure)
        assert inside.sum() == max(math.ceil(0.25 * len(members)), int((~sure).sum()))
        if (inside & sure).any() and not inside.all():
            assert confidence[members[inside & sure]].min() >= confidence[members[~inside]].max()


def test_all_labelled_images_are_taken_even_where_they_are_more_than_the_part(
    classifier: Classifier, digits: Digits, cpu: Machine
) -> None:
    known = Labelled(digits[0].numpy(), torch.arange(200), digits[1][:200])
    taken = pseudo_labelled(classifier, known.pack, known, 0.01, cpu)
    assert torch.equal(taken.rows, known.rows)
    assert torch.equal(taken.labels, known.labels)
