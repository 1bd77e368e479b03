import math

import pytest
import torch
from torch import nn

from stages.errors import InputError
from stages.networks.build import build_on_meta
from stages.networks.encoder import Declaration
from stages.tasks.classifier import Classifier
from stages.training import optimisation
from stages.training.randomness import Stream
from tests.conftest import tiny_encoder

ORDER = Stream.of(1, "order")


@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
def test_biases_and_norms_do_not_decay(name: str) -> None:
    model = Classifier(tiny_encoder(name), 10)
    decayed, rest = optimisation.decayed_groups(model, 0.01, 0.05)
    assert decayed["weight_decay"] == 0.05
    assert rest["weight_decay"] == 0
    names = {id(p): key for key, p in model.named_parameters()}
    decayed_names = {names[id(p)] for p in decayed["params"]}
    rest_names = {names[id(p)] for p in rest["params"]}
    kinds = nn.BatchNorm2d | nn.LayerNorm
    norms = {key for key, module in model.named_modules() if isinstance(module, kinds)}
    assert rest_names == {n for n in names.values() if n.endswith("bias") or n.rpartition(".")[0] in norms}
    assert decayed_names == set(names.values()) - rest_names
    known = {"encoder.fc.weight", "encoder.blocks.0.conv1.weight", "encoder.blocks.0.attention.weight"}
    assert known & decayed_names


def test_class_token_and_position_embedding_of_timms_vit_do_not_decay() -> None:
    encoder = build_on_meta(
        Declaration(name="timm/vit_tiny_patch16_224", width=8, channels=3, image_size=224)
    )
    decayed, others = optimisation.decayed_groups(encoder, 0.01, 0.05)
    parameters = dict(encoder.named_parameters())
    names = {id(parameter): name for name, parameter in parameters.items()}
    with_decay, without_decay = ([names[id(p)] for p in group["params"]] for group in (decayed, others))
    assert sorted(with_decay + without_decay) == sorted(parameters)  # each parameter is in exactly one group
    assert {"network.cls_token", "network.pos_embed"} < set(without_decay)
    norms = [name for name, module in encoder.named_modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 25
    assert {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")} < set(without_decay)
    assert {name for name in parameters if name.endswith("bias")} < set(without_decay)
    weights = ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight")
    layer = "network.blocks.0"
    assert {"network.patch_embed.proj.weight", *(f"{layer}.{name}" for name in weights)} < set(with_decay)
    assert len(with_decay) == 1 + 4 * 12


def test_decay_is_decoupled_and_reaches_weights_only() -> None:
    layer = nn.Linear(3, 2)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimiser = optimisation.adamw(optimisation.decayed_groups(layer, 0.1, 0.5))
    optimisation.set_rates(optimiser, 0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    torch.testing.assert_close(layer.weight, weight * (1 - 0.1 * 0.5 * 0.5))
    assert torch.equal(layer.bias, bias)


def test_rates_are_scaled_from_each_groups_own_peak() -> None:
    groups = [
        *optimisation.decayed_groups(nn.Linear(2, 2), 0.1, 0.0),
        *optimisation.decayed_groups(nn.Linear(2, 2), 0.3, 0.0),
    ]
    optimiser = optimisation.adamw(groups)
    for scale in (0.5, 0.01, 1.0):  # from the peak, not from the previous rate
        optimisation.set_rates(optimiser, scale)
        rates = [group["lr"] for group in optimiser.param_groups]
        assert rates == pytest.approx([0.1 * scale, 0.1 * scale, 0.3 * scale, 0.3 * scale])


def test_schedule_rises_linearly_and_falls_as_a_cosine() -> None:
    factors = [optimisation.warmup_cosine(step, 100, 0.2) for step in range(100)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[20] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[20:] == pytest.approx([(1 + math.cos(math.pi * step / 80)) / 2 for step in range(80)])
    assert 0 < factors[99] < 0.001


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_the_rate_of_a_schedule_of_any_length_is_never_zero(steps: int, warmup: float) -> None:
    factors = [optimisation.warmup_cosine(step, steps, warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


@pytest.mark.parametrize(("n", "batch_size"), [(100, 20), (100, 30), (10, 64), (7, 7), (8, 20)])
def test_each_item_is_used_once_before_any_is_used_again(n: int, batch_size: int) -> None:
    batches = [optimisation.batch_indices(step, batch_size, n, ORDER) for step in range(40)]
    assert all(batch.shape == (batch_size,) and batch.dtype == torch.int64 for batch in batches)
    chain = torch.cat(batches)
    epochs = [epoch for epoch in chain.split(n) if len(epoch) == n]
    assert len(epochs) == 40 * batch_size // n
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(n))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == len(
        epochs
    )  # no two epochs have the same order


def test_a_batch_depends_only_on_its_step_and_stream() -> None:
    late = optimisation.batch_indices(1000, 16, 50, ORDER)
    torch.manual_seed(5)
    optimisation.batch_indices(3, 16, 50, ORDER)
    assert torch.equal(optimisation.batch_indices(1000, 16, 50, Stream.of(1, "order")), late)
    assert not torch.equal(optimisation.batch_indices(1000, 16, 50, Stream.of(2, "order")), late)


# --- losses and weights that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_not_finite_is_named(bad: float) -> None:
    good = [torch.tensor(value) for value in (1.0, 2.0, 3.0)]
    assert optimisation.finite_mean("title", good, 10, "step 7") == 2.0
    with pytest.raises(InputError) as caught:
        optimisation.finite_mean("title", [good[0], torch.tensor(bad), torch.tensor(math.nan)], 10, "step 7")
    message = f"title: the loss is {bad} at step 9; last good figures: step 7; try a lower learning rate; no"
    assert str(caught.value).startswith(message)


def test_the_first_weight_that_is_not_finite_is_named() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimisation.require_finite("title", module)
    nn.init.constant_(module[1].bias, math.inf)
    with pytest.raises(InputError, match=r"^title: the last step made 1\.bias infinite or NaN; try a lower"):
        optimisation.require_finite("title", module)
