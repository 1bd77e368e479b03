from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from stages.settings.schema import Neighbours
from stages.tasks import probe
from stages.tasks.features import encode
from stages.training.machine import Machine
from tests.conftest import tiny_encoder

Labelled = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def features(digits: Labelled) -> Tensor:
    """Features of real digits from an untrained encoder."""
    return encode(tiny_encoder(), digits[0], Machine(torch.device("cpu"), "fp32"))


def random_set(n: int, seed: int = 0) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 8, generator=generator), torch.randint(5, (n,), generator=generator)


# --- encode


def test_encode_is_the_encoder_in_evaluation_mode(digits: Labelled, floats: Tensor, cpu: Machine) -> None:
    encoder = tiny_encoder().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = encode(encoder, digits[0][:200], cpu)  # 200 is not a multiple of a chunk
    assert not features.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    torch.testing.assert_close(features, encoder.eval()(floats[:200]).detach())


def test_encode_gives_fp32_features_in_bf16(digits: Labelled) -> None:
    encoder = tiny_encoder()
    exact = encode(encoder, digits[0][:64], Machine(torch.device("cpu"), "fp32"))
    mixed = encode(encoder, digits[0][:64], Machine(torch.device("cpu"), "bf16"))
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, exact)
    torch.testing.assert_close(mixed, exact, rtol=0.05, atol=0.05 * exact.abs().max().item())


# --- the linear probe


@pytest.mark.parametrize("l2", [0.01, 0.1, 10.0])
@pytest.mark.parametrize("n", [20, 300])
def test_linear_probe_is_scikit_learns_optimum(features: Tensor, digits: Labelled, n: int, l2: float) -> None:
    x, labels = features[:n], digits[1][:n]
    assert len(labels.unique()) == 10
    head = probe.fit_linear(x, labels, 10, l2)
    ours = head(features).softmax(1).detach().numpy()

    centre = x.double().mean(0)
    scale = (x - centre).norm(dim=1).mean()
    # scikit-learn minimises C · Σ cross-entropy + ½‖W‖²: the same with C = 1 / l2.
    reference = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=20_000)
    reference.fit(((x - centre) / scale).numpy(), labels.numpy())
    expected = reference.predict_proba(((features - centre) / scale).numpy())
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_linear_probe_gives_a_class_without_labels_almost_no_probability(
    features: Tensor, digits: Labelled
) -> None:
    seen = digits[1] < 5
    head = probe.fit_linear(features[seen][:100], digits[1][seen][:100], 10, 0.1)
    probabilities = head(features).softmax(1)
    assert probabilities.isfinite().all()
    assert probabilities[:, 5:].max() < 0.01


def test_linear_probe_does_not_depend_on_scale_and_mean_of_the_features(
    features: Tensor, digits: Labelled
) -> None:
    labels = digits[1][:200]
    one = probe.fit_linear(features[:200], labels, 10, 0.1)(features).softmax(1)
    moved = 100 * features + 7
    two = probe.fit_linear(moved[:200], labels, 10, 0.1)(moved).softmax(1)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-3)


def test_a_larger_penalty_gives_smaller_weights(features: Tensor, digits: Labelled) -> None:
    norms = [
        probe.fit_linear(features[:200], digits[1][:200], 10, l2).weight.norm().item()
        for l2 in (0.01, 0.1, 1.0, 10.0)
    ]
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 3 * norms[-1]


def test_linear_probe_of_equal_features_learns_the_class_frequencies() -> None:
    head = probe.fit_linear(torch.ones(6, 3), torch.tensor([0, 0, 0, 0, 1, 2]), 3, 0.1)
    frequencies = head(torch.ones(1, 3)).softmax(1)[0]
    torch.testing.assert_close(frequencies, torch.tensor([4 / 6, 1 / 6, 1 / 6]), rtol=0, atol=1e-3)


# --- nearest neighbours


def by_hand(query: np.ndarray, bank: np.ndarray, labels: np.ndarray, k: int, t: float) -> np.ndarray:
    """One query's votes, in plain numpy."""
    similarity = bank @ query / (np.linalg.norm(bank, axis=1) * np.linalg.norm(query))
    near = np.argsort(-similarity)[:k]
    votes = np.zeros(5)
    for index in near:
        votes[labels[index]] += np.exp(similarity[index] / t)
    return votes / votes.sum()


@pytest.mark.parametrize("k", [1, 7, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_knn_is_brute_force(k: int, temperature: float) -> None:
    bank, labels = random_set(120)
    queries, _ = random_set(50, seed=1)
    settings = Neighbours(k=k, temperature=temperature)
    ours = probe.knn_probabilities(queries, bank, labels, 5, settings, chunk=16)
    expected = [
        by_hand(query, bank.double().numpy(), labels.numpy(), k, temperature)
        for query in queries.double().numpy()
    ]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_leave_one_out_accuracy_is_brute_force(k: int) -> None:
    x, labels = random_set(150)
    x[:, 0] += 2 * labels  # so that neighbours are better than chance
    correct = 0
    for i in range(150):
        others = np.arange(150) != i
        votes = by_hand(x[i].double().numpy(), x[others].double().numpy(), labels[others].numpy(), k, 0.5)
        correct += int(votes.argmax() == labels[i])
    assert 0.2 < correct / 150 < 1
    settings = Neighbours(k=k, temperature=0.5)
    assert probe.knn_accuracy(x, labels, settings) == correct / 150
    assert probe.knn_accuracy(x, labels, settings, chunk=32) == correct / 150
    far_apart = 20_000_000 * labels  # a vote for each number up to these would take 12 GB
    assert probe.knn_accuracy(x, far_apart, settings) == correct / 150


@pytest.mark.parametrize("changes", [{"k": 1}, {"k": 20}, {"k": 20, "chunk": 7}])
def test_an_image_does_not_vote_for_itself(changes: dict[str, Any]) -> None:
    x, _ = random_set(60)
    settings = Neighbours(k=changes.pop("k"), temperature=0.07)
    # If each image is a class, only the image itself could vote for its class.
    assert probe.knn_accuracy(x, torch.arange(60), settings, **changes) == 0
    # If each image has a duplicate, the nearest other image has the right class.
    twins = probe.knn_accuracy(x.repeat(2, 1), torch.arange(60).repeat(2), settings, **changes)
    assert twins > 0.95


def test_untrained_features_of_digits_beat_chance(features: Tensor, digits: Labelled) -> None:
    assert 0.25 < probe.knn_accuracy(features, digits[1], Neighbours(k=10, temperature=0.1)) < 1
