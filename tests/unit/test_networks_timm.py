"""timm's networks as encoders: tiny ones of each family, the stems of real ones, weights from elsewhere."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.errors import InputError
from stages.files import weights
from stages.networks import imagenet
from stages.networks.build import build, build_on_meta
from stages.networks.encoder import Declaration
from stages.networks.timm import TimmEncoder, create
from stages.pretrain import foreign
from stages.pretrain.start import fresh_encoder, given_encoder, imported_encoder
from stages.settings import load
from stages.settings.network_names import timm_names
from stages.settings.schema import Start
from stages.training.machine import Machine
from stages.training.randomness import Stream
from tests.conftest import Bomb, impossible_shape

# One of each family, made by timm for tests; the last has tables that it does not save, and dropout.
FAMILIES = ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "test_vit_relpos"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_a: object) -> None:
        raise AssertionError("something asks for a network connection")

    monkeypatch.setattr(socket.socket, "connect", refused)


def declared(name: str, **changes: Any) -> Declaration:
    return Declaration(**{"name": f"timm/{name}", "width": 8, "channels": 3, "image_size": 32} | changes)


def encoder(name: str, seed: int = 0, **changes: Any) -> TimmEncoder:
    built = build(declared(name, **changes), Stream.of(seed, "timm").generator())
    assert isinstance(built, TimmEncoder)
    return built.eval()


def maps(name: str, size: int) -> tuple[int, ...]:
    """Height and width of a network's last feature map, or its number of tokens."""
    with torch.device("meta"):
        network = create(declared(name, image_size=size)).eval()
        shape = network.forward_features(torch.zeros(1, 3, size, size)).shape
    return tuple(shape[2:]) if len(shape) == 4 else (shape[1],)


# --- the contract of an encoder


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 64), (3, 96)])
def test_images_become_features(name: str, channels: int, size: int) -> None:
    if name == "test_vit_relpos" and size == 96:
        pytest.skip("a third size shows nothing new")
    ours = encoder(name, channels=channels, image_size=size)
    images = torch.rand(3, channels, size, size)
    features = ours(images)
    assert features.shape == (3, ours.features)
    assert features.dtype == torch.float32
    assert features.std(0).max() > 0  # different images, different features
    ours.set_statistics(torch.full((channels,), 0.2), torch.full((channels,), 0.5))
    assert not torch.equal(ours(images), features)  # a forward pass normalises


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_depend_only_on_the_generator(name: str) -> None:
    torch.manual_seed(1)
    first = encoder(name).state_dict()
    before = torch.get_rng_state()
    torch.manual_seed(2)
    same, other = encoder(name).state_dict(), encoder(name, seed=1).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    drawn = [key for key in first if key.endswith("weight") and first[key].dim() > 1]
    assert drawn
    assert all(not torch.equal(first[key], other[key]) for key in drawn)
    torch.manual_seed(1)
    encoder(name)
    assert torch.equal(torch.get_rng_state(), before)  # PyTorch's global generator stays as it was


@pytest.mark.parametrize("name", [*FAMILIES, "swin_tiny_patch4_window7_224"])
def test_an_encoder_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    ours, images = encoder(name), torch.rand(2, 3, 32, 32)
    weights.write_encoder(tmp_path / "a.safetensors", ours)
    assert torch.equal(weights.read_encoder(tmp_path / "a.safetensors").eval()(images), ours(images))
    assert build_on_meta(ours.declaration).state_dict().keys() == ours.state_dict().keys()
    # So it does as the start of a method.
    start = Start(
        file=str(tmp_path / "a.safetensors"), digest=weights.read_digest(tmp_path / "a.safetensors")
    )
    given = imported_encoder("simclr", start, ours.declaration)
    assert torch.equal(given.eval()(images), ours(images))


@pytest.mark.parametrize("name", ["test_vit_relpos", "swin_tiny_patch4_window7_224", "tiny_vit_5m_224"])
def test_training_draws_nothing_from_pytorchs_global_generator(name: str) -> None:
    ours = encoder(name).train()
    before = torch.get_rng_state()
    ours(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_bf16_gives_the_features_of_fp32_within_its_precision() -> None:
    ours, images = encoder("test_resnet"), torch.rand(4, 3, 32, 32)
    with Machine(torch.device("cpu"), "bf16").autocast():
        features = ours(images)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, ours(images), rtol=0.05, atol=0.05)


def test_timm_is_imported_only_for_its_networks() -> None:
    code = """
import sys, torch
from stages.files import weights
from stages.networks.build import build
from stages.networks.encoder import Declaration
from stages.pretrain import start
from stages.settings import load
raw = load.read(load.PARAMS)
raw["encoder"]["name"] = "timm/resnet18"
load.validated(raw)
build(Declaration(name="residual", width=8, channels=1, image_size=28), torch.Generator())
assert "timm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- small images


@pytest.mark.parametrize(
    ("name", "at_32", "at_64", "at_96"),
    [
        ("resnet18", (4, 4), (8, 8), (3, 3)),
        ("resnet50d", (4, 4), (8, 8), (3, 3)),
        ("resnetv2_50", (4, 4), (8, 8), (3, 3)),
        ("densenet121", (4, 4), (8, 8), (3, 3)),
        ("mobilenetv2_100", (2, 2), (4, 4), (3, 3)),
        ("mobilenetv3_small_100", (2, 2), (4, 4), (3, 3)),
        ("efficientnet_b0", (2, 2), (4, 4), (3, 3)),
        ("convnext_atto", (2, 2), (4, 4), (3, 3)),
        ("vit_tiny_patch16_224", (64 + 1,), (64 + 1,), (36 + 1,)),
    ],
)
def test_small_images_keep_their_resolution(
    name: str, at_32: tuple[int, ...], at_64: tuple[int, ...], at_96: tuple[int, ...]
) -> None:
    assert (maps(name, 32), maps(name, 64), maps(name, 96)) == (at_32, at_64, at_96)


def test_the_small_stem_of_a_resnet_is_that_of_cifar() -> None:
    with torch.device("meta"):
        network = create(declared("resnet18", channels=1))
    assert (network.conv1.kernel_size, network.conv1.stride) == ((3, 3), (1, 1))
    assert network.conv1.weight.shape == (64, 1, 3, 3)
    assert isinstance(network.maxpool, nn.Identity)


def test_images_are_enlarged_inside_the_encoder() -> None:
    small = encoder("test_resnet", image_size=32, input_size=96)
    large = encoder("test_resnet", image_size=96)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), large.parameters(), strict=True))
    images = torch.rand(2, 3, 32, 32)
    enlarged = nn.functional.interpolate(images, (96, 96), mode="bilinear")
    torch.testing.assert_close(small(images), large(enlarged))


# --- what is refused


def test_the_names_are_those_of_timm() -> None:
    assert timm_names() == tuple(sorted(timm.list_models()))


@pytest.mark.parametrize(
    ("name", "hint"), [("timm/resnet19", "timm/resnet18"), ("resnet18", "timm/resnet18"), ("vits", "vit")]
)
def test_an_unknown_name_is_refused_with_near_ones(name: str, hint: str, raw: dict[str, Any]) -> None:
    raw["encoder"]["name"] = name
    with pytest.raises(InputError) as caught:
        load.validated(raw)
    (line,) = caught.value.args
    assert f"encoder.name: unknown name {name!r} (did you mean " in line
    assert hint in line.partition(")")[0]
    assert len(line) < 400


@pytest.mark.parametrize("name", ["timm/hf-hub:timm/resnet18", "timm/resnet18.a1_in1k", "resnet18"])
def test_a_file_cannot_declare_what_timm_would_fetch(name: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        Declaration(name=name, width=8, channels=3, image_size=32)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "timm/vit_tiny_patch16_224",
            100,
            r"patches have 16 pixels, images 100; try .*input_size: 112",
        ),
        ("timm/inception_v3", 32, "timm does not build it for 32 × 32 pixels .*Kernel size"),
    ],
)
def test_images_that_do_not_fit_are_refused(name: str, size: int, message: str, raw: dict[str, Any]) -> None:
    raw["encoder"]["name"] = name
    pool = np.zeros((4, 3, size, size), np.uint8)
    with pytest.raises(InputError, match=rf"^params\.yaml: encoder\.name is '{name}': .*{message}"):
        fresh_encoder(load.validated(raw), pool, Stream.of(1, "a"))


def test_only_timms_networks_enlarge_and_never_shrink(raw: dict[str, Any]) -> None:
    raw["encoder"]["input_size"] = 96
    with pytest.raises(InputError, match=r"encoder\.input_size is 96; allowed: null"):
        load.validated(raw)
    raw["encoder"]["name"] = "timm/test_resnet"
    settings = load.validated(raw)
    with pytest.raises(InputError, match=r"smaller than the images \(128\)"):
        fresh_encoder(settings, np.zeros((4, 1, 128, 128), np.uint8), Stream.of(1, "a"))
    made = fresh_encoder(settings, np.zeros((4, 1, 28, 28), np.uint8), Stream.of(1, "a"))
    assert made.declaration.input_size == 96


# --- weights that another program wrote


def trained(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network as timm makes it, with its last layer, as if it had been trained."""
    torch.manual_seed(7)
    network = (
        timm.create_model(name, pretrained=False, img_size=160) if "vit" in name else timm.create_model(name)
    )
    return network.eval(), network.state_dict()


@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint.pth"])
def test_a_file_with_timms_names_is_loaded(form: str, tmp_path: Path) -> None:
    network, state = trained("test_efficientnet")
    file = tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state, "epoch": 3} if "checkpoint" in form else state, file)
    start = Start(file=str(file), digest=foreign.sha256(file))
    ours = given_encoder("simclr", start, encoder("test_efficientnet", image_size=96)).eval()
    torch.testing.assert_close(ours.mean, torch.tensor([0.485, 0.456, 0.406]))
    network.reset_classifier(0)
    images = torch.rand(2, 3, 96, 96)
    torch.testing.assert_close(ours(images), network(ours.normalise(images)))


def test_for_grey_images_the_first_layer_takes_the_sum_over_the_channels() -> None:
    network, state = trained("test_resnet")
    network.reset_classifier(0)
    ours = encoder("test_resnet", channels=1, image_size=96)
    ours.load_trained(state)
    grey = torch.rand(2, 1, 96, 96)
    expected = network(((grey - ours.mean) / ours.std).expand(2, 3, 96, 96))
    torch.testing.assert_close(ours(grey), expected, rtol=1e-4, atol=1e-4)


def test_position_embeddings_are_resampled_to_the_image_size() -> None:
    _, state = trained("test_vit")
    ours = encoder("test_vit", image_size=96)
    ours.load_trained(state)
    assert ours.network.pos_embed.shape[1] < state["pos_embed"].shape[1]
    assert torch.equal(ours.network.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": "blocks.0.0.bn1.weight"}, "missing or not known: blocks.0.0.bn1.weight"),
        ({"add": "blocks.9.9.weight"}, "missing or not known: blocks.9.9.weight"),
        ({"resize": "conv_head.weight"}, "size mismatch for conv_head.weight"),
    ],
)
def test_weights_of_another_network_are_refused(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    state = dict(trained("test_efficientnet")[1])
    state.pop(changes.get("drop", ""), None)
    if "add" in changes:
        state[changes["add"]] = torch.zeros(2)
    if "resize" in changes:
        state[changes["resize"]] = torch.zeros(3, 3, 1, 1)
    save_file(state, tmp_path / "w.safetensors")
    start = Start(file=str(tmp_path / "w.safetensors"), digest=foreign.sha256(tmp_path / "w.safetensors"))
    with pytest.raises(InputError, match=message) as caught:
        given_encoder("simclr", start, encoder("test_efficientnet", image_size=96))
    assert "does not fit encoder.name timm/test_efficientnet" in caught.value.args[0]


def test_weights_for_larger_images_do_not_fit_the_small_stem() -> None:
    state = timm.create_model("resnet18").state_dict()
    with pytest.raises(InputError, match=r"conv1\.weight.*try encoder\.input_size: 96"):
        encoder("resnet18", image_size=32).load_trained(state)
    ours = encoder("resnet18", image_size=32, input_size=96)
    ours.load_trained(state)
    assert torch.equal(ours.network.conv1.weight, state["conv1.weight"])


def test_a_wrong_digest_is_named_with_the_right_one(tmp_path: Path) -> None:
    save_file(trained("test_efficientnet")[1], tmp_path / "w.safetensors")
    digest = foreign.sha256(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=rf"pretrain\.simclr\.start\.digest is null; allowed: {digest}"):
        given_encoder(
            "simclr", Start(file=str(tmp_path / "w.safetensors"), digest=None), encoder("test_efficientnet")
        )


def test_a_file_that_runs_code_is_refused_and_does_not_run_it(tmp_path: Path) -> None:
    torch.save({"weight": Bomb(tmp_path / "exploded")}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="nor a PyTorch file of tensors alone"):
        foreign.read_state(tmp_path / "w.pth")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "has no weights by name"), ({"a": torch.tensor([1.0, torch.nan])}, "infinite or NaN: a")],
)
def test_a_file_without_usable_weights_is_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        foreign.read_state(tmp_path / "w.pth")
    for content in (b"no", impossible_shape()):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=r"is not a readable safetensors file \(.*\)$"):
            foreign.read_state(tmp_path / "w.safetensors")


@pytest.mark.parametrize("legacy", [True, False])
def test_a_damaged_file_of_weights_is_refused_in_words(legacy: bool, tmp_path: Path) -> None:
    file, rng = tmp_path / "w.pth", np.random.default_rng(0)
    weights = {f"layer{number}.weight": torch.zeros(3, 3) for number in range(5)}
    torch.save(weights, file, _use_new_zipfile_serialization=not legacy)
    content = np.frombuffer(file.read_bytes(), np.uint8)
    refused = 0
    for _ in range(150):
        damaged = content.copy()
        damaged[rng.integers(len(damaged), size=rng.integers(1, 8))] = rng.integers(256)
        file.write_bytes(damaged.tobytes())
        with contextlib.suppress(InputError):  # every other error fails
            foreign.read_state(file)
            continue
        refused += 1
    assert refused > 15


def test_tensors_that_are_no_plain_weights_are_refused(tmp_path: Path) -> None:
    ones = torch.ones(2, 2)
    for value, message in (
        (ones.to_sparse(), "sparse or without values: a"),
        (torch.ones(2, 2, device="meta"), "sparse or without values: a"),
        (
            torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8),
            "weights of type qint8; allowed: floating point",
        ),
        (ones.to(torch.complex64), "weights of type complex64"),
        (torch.zeros(1).expand(10**15), "repeat few values, as `expand` makes: a"),
    ):
        torch.save({"a": value}, tmp_path / "w.pth")
        with pytest.raises(InputError, match=message):
            foreign.read_state(tmp_path / "w.pth")


# --- ImageNet's weights


def test_mobilenet_has_the_features_of_torchvisions_imagenet_weights() -> None:
    from torchvision import models

    reference = models.mobilenet_v2(weights=None)
    reference.classifier = nn.Identity()
    state = torch.load(imagenet._file(), weights_only=True)
    reference.load_state_dict({k: v for k, v in state.items() if not k.startswith("classifier.")})
    fresh = encoder("mobilenetv2_100", image_size=96)
    ours = given_encoder("simclr", Start(file="imagenet", digest=None), fresh).eval()
    torch.testing.assert_close(ours.mean, torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(ours.std, torch.tensor([0.229, 0.224, 0.225]))
    images = torch.rand(2, 3, 96, 96)
    expected = reference.eval()(ours.normalise(images))
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)


def test_the_package_of_the_weights_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGE", "no-such-package")
    with pytest.raises(InputError, match=r"not installed; install it: .* --no-deps no-such-package==1\.0\.1"):
        encoder("mobilenetv2_100").load_imagenet()


def test_another_file_than_the_published_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "SHA256", "0")
    with pytest.raises(InputError, match="is not the file that torchvision publishes"):
        encoder("mobilenetv2_100").load_imagenet()


def test_imagenets_weights_are_there_for_one_network(raw: dict[str, Any]) -> None:
    raw["methods"] = ["scratch", "simclr", "imported"]
    start = {"file": "imagenet", "digest": None}
    raw["pretrain"]["simclr"]["start"] = raw["pretrain"]["imported"]["start"] = start
    with pytest.raises(InputError) as caught:
        load.validated(raw)
    for method in ("simclr", "imported"):
        assert (
            f"pretrain.{method}.start.file is 'imagenet'; allowed: the path of a file (imagenet has weights "
            "for timm/mobilenetv2_100 only, encoder.name is residual)"
        ) in str(caught.value)
    raw["encoder"]["name"] = "timm/mobilenetv2_100"
    assert load.validated(raw).pretrain["imported"].start.file == "imagenet"
