"""The encoder that pretraining starts from: random weights, or weights from a file."""

import json
import tracemalloc
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from stages.errors import InputError
from stages.files import weights
from stages.files.packs import PART, write_array
from stages.files.paths import IMAGES, encoder_file
from stages.files.tables import write_table
from stages.networks.encoder import Encoder
from stages.pretrain import __main__ as stage
from stages.pretrain import foreign
from stages.pretrain.start import fresh_encoder, imported_encoder
from stages.settings.schema import EncoderParams, Start
from stages.training.randomness import Stream
from tests.conftest import ROOT, seal, tiny_encoder
from tests.pipeline.conftest import SMALL, change

Labelled = tuple[Tensor, Tensor]
STREAM = Stream.of(1, "run")


# --- random weights


def settings(**changes: Any) -> Any:
    encoder = {"name": "residual", "width": 8} | changes
    return types.SimpleNamespace(encoder=EncoderParams(**encoder))


def test_a_fresh_encoder_is_normalised_for_the_pool(digits: Labelled) -> None:
    pool = digits[0].repeat(10, 3, 1, 1).numpy()
    pool[:, 1] //= 2
    pool[5000:, 2] = 9
    encoder = fresh_encoder(settings(), pool, STREAM)
    assert encoder.declaration.model_dump(exclude_defaults=True) == {
        "name": "residual", "width": 8, "channels": 3, "image_size": 28,
    }  # fmt: skip
    scaled = pool.astype(np.float64) / 255
    np.testing.assert_allclose(encoder.mean.numpy(), scaled.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(encoder.std.numpy(), scaled.std((0, 2, 3)), rtol=1e-5)


def test_statistics_of_large_images_take_no_more_memory_than_those_of_small_ones() -> None:
    pool = np.full((40, 3, 512, 512), 51, np.uint8)  # 252 MB in double precision
    tracemalloc.start()
    encoder = fresh_encoder(settings(), pool, STREAM)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * PART
    torch.testing.assert_close(encoder.mean, torch.full((3,), 0.2))


def test_a_fresh_encoder_depends_only_on_its_stream(digits: Labelled) -> None:
    pool = digits[0][:64].numpy()
    first = fresh_encoder(settings(), pool, STREAM).state_dict()
    torch.manual_seed(5)
    same = fresh_encoder(settings(), pool, Stream.of(1, "run")).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    other = fresh_encoder(settings(), pool, Stream.of(2, "run"))
    assert not torch.equal(first["stem.weight"], other.stem.weight)


@pytest.mark.parametrize("value", [0, 255, 7, 100])
def test_a_constant_channel_gives_finite_features(value: int) -> None:
    # For example an alpha channel that is the same everywhere.
    pool = np.full((300, 1, 28, 28), value, np.uint8)
    encoder = fresh_encoder(settings(), pool, STREAM)
    assert encoder.std.isfinite().all()
    assert encoder(torch.from_numpy(pool[:2]).float() / 255).isfinite().all()


# --- weights from a file


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Encoder]:
    """A file with an encoder for 28 × 28 digits, and this encoder."""
    encoder = tiny_encoder(seed=5)
    encoder.set_statistics(torch.tensor([0.25]), torch.tensor([0.5]))
    path = tmp_path / "other.safetensors"
    weights.write_encoder(path, encoder)
    return path, encoder


def start_from(path: Path, digest: str | None = None) -> Start:
    return Start(file=str(path), digest=digest or weights.read_digest(path))


def refusal(start: Start, expected: Encoder, method: str = "simclr") -> str:
    with pytest.raises(InputError) as caught:
        imported_encoder(method, start, expected.declaration)
    (line,) = caught.value.args
    assert "\n" not in line
    return str(line)


@pytest.mark.parametrize("size", [28, 32])  # no weight of this network depends on the image size
def test_weights_and_normalisation_are_those_of_the_file(size: int, saved: tuple[Path, Encoder]) -> None:
    path, encoder = saved
    expected = tiny_encoder(image_size=size)
    loaded = imported_encoder("simclr", start_from(path), expected.declaration)
    assert loaded.declaration == expected.declaration
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert loaded.mean.item() == 0.25
    assert loaded(torch.zeros(2, 1, size, size)).shape == (2, encoder.features)


def test_a_missing_file_is_named_with_the_parameter(saved: tuple[Path, Encoder]) -> None:
    path, encoder = saved
    missing = path.with_name("missing.safetensors")
    assert refusal(start_from(missing, "00"), encoder).startswith(
        f"params.yaml: pretrain.simclr.start.file is {str(missing)!r}, which does not exist; get it"
    )


@pytest.mark.parametrize("digest", [None, "0123"])
def test_a_wrong_digest_is_named_with_the_right_one(digest: str | None, saved: tuple[Path, Encoder]) -> None:
    path, encoder = saved
    line = refusal(Start(file=str(path), digest=digest), encoder, "byol")
    assert line == (
        f"params.yaml: pretrain.byol.start.digest is {digest or 'null'}; "
        f"allowed: {weights.read_digest(path)}, the digest of {path}"
    )


@pytest.mark.parametrize(
    ("other", "described"),
    [({"width": 16}, "width 16"), ({"channels": 3}, "channels 3"), ({"name": "cnn"}, "name cnn")],
)
def test_another_network_is_refused(
    other: dict[str, Any], described: str, saved: tuple[Path, Encoder]
) -> None:
    path, _ = saved
    line = refusal(start_from(path), tiny_encoder(**other), "imported")
    assert line.startswith(
        f"params.yaml: pretrain.imported.start.file is {str(path)!r}, which holds an encoder"
    )
    file_has, _, asked_for = line.partition("; params.yaml and the images ask for ")
    assert described in asked_for
    assert described not in file_has


def test_another_image_size_is_refused_if_weights_depend_on_it(tmp_path: Path) -> None:
    path = tmp_path / "cnn.safetensors"
    weights.write_encoder(path, tiny_encoder("cnn"))
    line = refusal(start_from(path), tiny_encoder("cnn", image_size=32))
    assert "image_size 28" in line
    assert line.endswith("image_size 32")


def test_a_damaged_file_is_named(saved: tuple[Path, Encoder]) -> None:
    path, encoder = saved
    start = start_from(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert str(path) in refusal(start, encoder)


# --- the stage


@pytest.fixture
def project(in_copy: Path, digits: Labelled) -> Path:
    """A working directory with a pool of digits, and an encoder in `other.safetensors`."""
    (in_copy / "stages").symlink_to(ROOT / "stages")
    images, labels = (part.numpy() for part in digits)
    for name, rows in (("pool", slice(0, 128)), ("validation", slice(128, 256))):
        write_array(IMAGES / f"{name}.npy", images[rows])
        ids = [f"{name}-{number}" for number in range(128)]
        table = pd.DataFrame({"id": ids, "split": name, "source": "", "label": labels[rows]})
        write_table(IMAGES / f"{name}.csv", table)
    seal()
    weights.write_encoder(Path("other.safetensors"), tiny_encoder(width=SMALL["encoder.width"], seed=5))
    start = {"file": "other.safetensors", "digest": weights.read_digest(Path("other.safetensors"))}
    starts = {f"pretrain.{method}.start": start for method in ("simclr", "imported")}
    methods = ["scratch", "simclr", "imported"]
    change(in_copy / "params.yaml", SMALL | starts | {"methods": methods, "pretrain.simclr.steps": 7})
    return in_copy


def test_imported_trains_nothing(project: Path) -> None:
    stage.main("imported")
    assert encoder_file("imported", 0).read_bytes() == Path("other.safetensors").read_bytes()
    figures = json.loads(Path("metrics/pretrain/imported.json").read_text())
    assert figures["steps"] == 0
    assert figures["loss"] is None
    assert figures["shown"] == ["images of the pool"]
    assert len(Path("metrics/pretrain/imported.csv").read_text().splitlines()) == 2


def test_a_method_trains_from_the_weights_of_a_file(project: Path) -> None:
    change(project / "params.yaml", {"pretrain.simclr.learning_rate": 0.0})
    stage.main("simclr")
    result = weights.read_encoder(encoder_file("simclr", 0))
    imported = weights.read_encoder(Path("other.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(result.parameters(), imported.parameters(), strict=True))
    assert torch.equal(result.mean, imported.mean)
    assert json.loads(Path("metrics/pretrain/simclr.json").read_text())["steps"] > 0
    change(project / "params.yaml", {"pretrain.simclr.learning_rate": 0.01})
    stage.main("simclr")
    trained = weights.read_encoder(encoder_file("simclr", 0))
    assert not torch.equal(trained.stem.weight, imported.stem.weight)


def test_a_method_trains_from_a_file_of_timms_weights(project: Path) -> None:
    name = "test_efficientnet"
    encoder = {"encoder.name": f"timm/{name}", "encoder.input_size": 72}
    network = timm.create_model(name, pretrained=False)
    save_file(network.state_dict(), "timm.safetensors")
    start = {"file": "timm.safetensors", "digest": foreign.sha256(Path("timm.safetensors"))}
    starts = {f"pretrain.{method}.start": start for method in ("simclr", "imported")}
    change(project / "params.yaml", encoder | starts | {"pretrain.simclr.learning_rate": 0.0})
    for method in ("imported", "simclr"):
        stage.main(method)
        result = weights.read_encoder(encoder_file(method, 0))
        assert torch.equal(result.network.conv_head.weight, network.conv_head.weight)
        assert result.declaration.input_size == 72
        torch.testing.assert_close(result.mean, torch.tensor([0.449]), rtol=0, atol=1e-3)  # of grey images
    stage.main("scratch")
    scratch = weights.read_encoder(encoder_file("scratch", 0))
    assert not torch.equal(scratch.network.conv_head.weight, network.conv_head.weight)


def test_without_start_a_method_trains_from_random_weights(project: Path) -> None:
    change(project / "params.yaml", {"pretrain.simclr.learning_rate": 0.0, "pretrain.simclr.start": None})
    stage.main("simclr")
    stage.main("scratch")
    simclr, scratch = (weights.read_encoder(encoder_file(name, 0)) for name in ("simclr", "scratch"))
    assert all(torch.equal(a, b) for a, b in zip(simclr.parameters(), scratch.parameters(), strict=True))
