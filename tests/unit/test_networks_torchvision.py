import copy
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models

from stages.errors import InputError
from stages.files import weights
from stages.networks.build import build, build_on_meta
from stages.networks.encoder import Declaration
from stages.networks.torchvision import TorchvisionEncoder
from stages.pretrain.start import fresh_encoder, given_encoder
from stages.settings.schema import Start
from stages.training.randomness import Stream

FEATURES = TorchvisionEncoder.FEATURES


def encoder(name: str, seed: int = 0, channels: int = 3, image_size: int = 64) -> TorchvisionEncoder:
    declaration = Declaration.model_validate(
        {"name": name, "width": 4, "channels": channels, "image_size": image_size}
    )
    built = build(declaration, Stream.of(seed, "torchvision").generator())
    assert isinstance(built, TorchvisionEncoder)
    return built.eval()


def shallow_vit(weights: None = None, image_size: int = 224) -> models.VisionTransformer:
    """ViT-B/16 with two of its twelve equal layers: the names, shapes and draws of the others are theirs."""
    return models.VisionTransformer(
        image_size, patch_size=16, num_layers=2, num_heads=12, hidden_dim=768, mlp_dim=3072
    )


@pytest.fixture
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "vit_b_16", shallow_vit)


@pytest.fixture(scope="module", params=FEATURES)
def shared(request: pytest.FixtureRequest) -> TorchvisionEncoder:
    """An encoder of each kind for colour images, in evaluation mode. Not to be written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "vit_b_16", shallow_vit)
        torch.manual_seed(1)  # which the weights must not depend on
        return encoder(request.param)


def test_features_are_those_of_torchvision(shared: TorchvisionEncoder) -> None:
    name, images = shared.declaration.name, torch.rand(2, 3, 64, 64)
    assert shared(images).shape == (2, FEATURES[name])
    with torch.device("meta"):  # its weights come from the state
        reference = shallow_vit(image_size=64) if name == "vit_b_16" else models.get_model(name, weights=None)
    reference.load_state_dict(shared.network.state_dict(), strict=False, assign=True)
    setattr(reference, "heads" if name == "vit_b_16" else "fc", torch.nn.Identity())
    assert torch.equal(reference.eval()(shared.normalise(images)), shared(images))


@pytest.mark.usefixtures("_shallow")
def test_weights_depend_only_on_the_generator(shared: TorchvisionEncoder) -> None:
    first, name = shared.state_dict(), shared.declaration.name
    torch.manual_seed(2)
    again, other = encoder(name).state_dict(), encoder(name, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if first[key].dim() > 1 and not key.endswith("class_token")]
    assert all(not torch.equal(first[key], other[key]) for key in drawn)


@pytest.mark.usefixtures("_shallow")
def test_an_encoder_comes_back_from_its_file(shared: TorchvisionEncoder, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 64, 64)
    weights.write_encoder(tmp_path / "a.safetensors", shared)
    assert torch.equal(weights.read_encoder(tmp_path / "a.safetensors").eval()(images), shared(images))
    assert build_on_meta(shared.declaration).state_dict().keys() == shared.state_dict().keys()


def test_images_of_vit_b_16_must_divide_into_patches(raw: dict[str, Any]) -> None:
    from stages.settings import load

    raw["encoder"]["name"] = "vit_b_16"
    settings = load.validated(raw)
    pool = torch.zeros(4, 1, 28, 28, dtype=torch.uint8).numpy()
    with pytest.raises(InputError, match=r"encoder\.name is 'vit_b_16': .*a multiple of 16, not 28"):
        fresh_encoder(settings, pool, Stream.of(1, "a"))


@pytest.fixture(scope="module", params=FEATURES)
def published(request: pytest.FixtureRequest) -> tuple[str, torch.nn.Module, dict[str, Tensor]]:
    """A whole network of torchvision, all layers, as if its weights were published: name, trunk, state."""
    network = models.get_model(request.param, weights=None).eval()
    state = copy.deepcopy(network.state_dict())
    setattr(network, "heads" if request.param == "vit_b_16" else "fc", torch.nn.Identity())
    return request.param, network, state


@pytest.mark.parametrize("channels", [1, 3])
def test_published_weights_are_loaded(
    published: tuple[str, torch.nn.Module, dict[str, Tensor]], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, network, state = published
    monkeypatch.setattr(models._api.WeightsEnum, "get_state_dict", lambda *_a, **_k: dict(state))
    size = 224 if name == "vit_b_16" else 64
    ours = encoder(name, channels=channels, image_size=size)
    ours.load_published()
    grey = torch.rand(1, 1, size, size)
    # For the first layer, a grey image is the same image in three channels.
    mean, std = ours.mean[:, None, None], ours.std[:, None, None]
    expected = network(((grey - mean) / std).expand(1, 3, size, size)) if channels == 1 else network(
        (grey.expand(1, 3, size, size) - mean) / std
    )  # fmt: skip
    torch.testing.assert_close(ours(grey.expand(1, channels, size, size)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("_shallow")
def test_a_smaller_transformer_gets_interpolated_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    state = shallow_vit().state_dict()
    monkeypatch.setattr(models._api.WeightsEnum, "get_state_dict", lambda *_a, **_k: dict(state))
    ours = encoder("vit_b_16", image_size=64)
    ours.load_published()
    assert ours.network.encoder.pos_embedding.shape == (1, 17, 768)
    assert torch.equal(ours.network.encoder.pos_embedding[:, 0], state["encoder.pos_embedding"][:, 0])


def test_weights_that_cannot_be_downloaded_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_a: object, **_k: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(models._api.WeightsEnum, "get_state_dict", refused)
    with pytest.raises(InputError, match="publishes, but those of resnet18 cannot be"):
        encoder("resnet18").load_published()


def test_small_encoders_have_no_published_weights(raw: dict[str, Any]) -> None:
    from stages.settings import load

    published = {"file": "torchvision", "digest": None}
    raw["methods"] = ["scratch", "simclr", "imported"]
    raw["pretrain"]["simclr"]["start"] = raw["pretrain"]["imported"]["start"] = published
    with pytest.raises(InputError) as caught:
        load.validated(raw)
    for method in ("simclr", "imported"):
        assert (
            f"pretrain.{method}.start.file is 'torchvision'; allowed: the path of a file (torchvision "
            "publishes no weights for encoder.name residual)"
        ) in str(caught.value)
    raw["encoder"]["name"] = "resnet18"
    assert load.validated(raw).pretrain["imported"].start.file == "torchvision"


def test_a_method_starts_from_published_weights_and_scratch_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    state = models.resnet18().state_dict()
    monkeypatch.setattr(models._api.WeightsEnum, "get_state_dict", lambda *_a, **_k: dict(state))
    fresh = encoder("resnet18")
    assert not torch.equal(fresh.network.conv1.weight, state["conv1.weight"])
    given = given_encoder("simclr", Start(file="torchvision", digest=None), fresh)
    assert torch.equal(given.network.conv1.weight, state["conv1.weight"])
    torch.testing.assert_close(given.mean, torch.tensor([0.485, 0.456, 0.406]))
