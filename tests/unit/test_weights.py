import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from stages.errors import InputError, reported
from stages.files import weights
from stages.networks.encoder import Encoder
from stages.tasks.classifier import Classifier, read_classifier
from tests.conftest import Bomb, impossible_shape, tiny_encoder


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
def test_encoder_comes_back(tmp_path: Path, name: str, floats: Tensor) -> None:
    encoder = tiny_encoder(name)
    encoder(floats[:64])  # so that the running statistics are not the initial ones
    weights.write_encoder(tmp_path / "a.safetensors", encoder)
    back = weights.read_encoder(tmp_path / "a.safetensors")
    assert back.declaration == encoder.declaration
    assert same_weights(back, encoder)
    assert torch.equal(back.eval()(floats[:8]), encoder.eval()(floats[:8]))


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        weights.write_encoder(tmp_path / name, tiny_encoder(seed=seed))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()
    weights.write_encoder(tmp_path / "a", weights.read_encoder(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def pack(encoder: Encoder, header: Any, **changes: Tensor | None) -> bytes:
    """The file of an encoder with some tensors replaced, added, or (None) left out."""
    state = {**encoder.state_dict(), **{k.replace("__", "."): v for k, v in changes.items()}}
    tensors = {k: v.contiguous() for k, v in state.items() if v is not None}
    if isinstance(header, dict):
        unsigned = {name: value for name, value in header.items() if name != "digest"}
        header = {"digest": weights.digest(unsigned, tensors)} | header
    metadata = {weights.HEADER: json.dumps(header)} if header is not None else {"format": "pt"}
    return save(tensors, metadata)


def broken_weights() -> dict[str, tuple[bytes, str]]:
    """Kind of damage → the content of the file, and a word of the message."""
    encoder = tiny_encoder()
    declared = encoder.declaration.model_dump()
    header = {"encoder": declared}
    content = pack(encoder, header)
    digest = weights.digest(
        header, {name: value.contiguous() for name, value in encoder.state_dict().items()}
    )
    return {
        "empty": (b"", "safetensors"),
        "truncated in the header": (content[:100], "safetensors"),
        "truncated in the weights": (content[:-1], "safetensors"),
        "longer than declared": (content + b"\0", "safetensors"),
        "not safetensors": (b"not weights at all, but a text", "safetensors"),
        "pickle": (pickle.dumps(encoder.state_dict()), "safetensors"),
        "written by another program": (pack(encoder, None), "Headstart"),
        "header is not a mapping": (pack(encoder, [1]), "Headstart"),
        "header is empty": (pack(encoder, {}), "encoder"),
        "unknown encoder": (pack(encoder, {"encoder": declared | {"name": "resnet"}}), "name"),
        "unknown key": (pack(encoder, {"encoder": declared | {"depth": 3}}), "depth"),
        "larger than any memory": (
            pack(encoder, {"encoder": declared | {"name": "cnn", "width": 1024, "image_size": 1024}}),
            "does not fit",
        ),
        "another width": (pack(encoder, {"encoder": declared | {"width": 16}}), "does not fit"),
        "missing tensor": (pack(encoder, header, norm__bias=None), "norm.bias"),
        "extra tensor": (pack(encoder, header, extra=torch.ones(1)), "extra"),
        "wrong shape": (pack(encoder, header, norm__bias=torch.ones(5)), "norm.bias"),
        "broadcastable shape": (pack(encoder, header, norm__bias=torch.ones(1)), "norm.bias"),
        "wrong dtype": (pack(encoder, header, norm__bias=torch.ones(4).half()), "norm.bias"),
        "a changed weight": (pack(encoder, header | {"digest": "0" * 32}), "damaged"),
        "a changed declaration": (
            pack(encoder, {"encoder": declared | {"image_size": 29}, "digest": digest}),
            "damaged",
        ),
        "a weight that is NaN": (
            pack(
                encoder, header, stem__weight=torch.full_like(encoder.state_dict()["stem.weight"], torch.nan)
            ),
            "infinite or NaN: stem.weight",
        ),
        "an infinite statistic": (
            pack(encoder, header, mean=torch.tensor([torch.inf])),
            "infinite or NaN: mean",
        ),
        "two channels": (
            pack(encoder, {"encoder": declared | {"channels": 2}}),
            "channels: Input should be 1",
        ),
        "deeper than any header": (
            save({"a": torch.ones(1)}, {weights.HEADER: "[" * 100_000}),
            "safetensors",
        ),
        "a side of 2 to the power of 63": (impossible_shape(), "safetensors"),
        "no digest": (pack(encoder, header | {"digest": None}), "damaged"),
        "wrong dtype of a counter": (
            pack(encoder, header, norm__num_batches_tracked=torch.tensor(0, dtype=torch.int32)),
            "norm.num_batches_tracked",
        ),
    }


def test_an_undamaged_file_of_the_test_is_readable(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    (tmp_path / "a").write_bytes(pack(encoder, {"encoder": encoder.declaration.model_dump()}))
    assert same_weights(weights.read_encoder(tmp_path / "a"), encoder)


@pytest.mark.parametrize("kind", broken_weights())
def test_broken_weights_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    content, word = broken_weights()[kind]
    path = tmp_path / "simclr.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        weights.read_encoder(path)
    (message,) = caught.value.args
    assert message.startswith(f"{path}: ")
    assert word in message.removeprefix(f"{path}: ")
    assert "\n" not in message


def test_pickled_weights_run_no_code(tmp_path: Path) -> None:
    path = tmp_path / "simclr.safetensors"
    torch.save({"stem.weight": Bomb(tmp_path / "boom")}, path)
    with pytest.raises(InputError, match=str(path)):
        weights.read_encoder(path)
    assert not (tmp_path / "boom").exists()


def test_an_encoder_is_not_a_classifier(tmp_path: Path) -> None:
    path = tmp_path / "a"
    weights.write_encoder(path, tiny_encoder())
    with pytest.raises(InputError, match=f"{path}: .*classes"):
        read_classifier(path)


@pytest.mark.parametrize(
    "classes", [["a", "b"], "abc", [1, 2, 3], None, [], ["a", "b", ""], ["a", "b", "a"], ["a", "b", "\ud800"]]
)
def test_classes_must_fit_the_head(tmp_path: Path, classes: object) -> None:
    classifier = Classifier(tiny_encoder(), 3)
    header = {"encoder": classifier.encoder.declaration.model_dump(), "classes": classes}
    weights.write(tmp_path / "a", classifier, header)
    with pytest.raises(InputError, match=str(tmp_path / "a")):
        read_classifier(tmp_path / "a")


def test_weights_have_one_header_key(tmp_path: Path) -> None:
    weights.write_encoder(tmp_path / "a", tiny_encoder())
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert file.metadata().keys() == {weights.HEADER}  # safetensors writes several in no fixed order


def test_missing_file_is_reported_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "missing"
    with pytest.raises(SystemExit, match="2"), reported():
        weights.read_encoder(path)
    assert capsys.readouterr().err == f"error: {path}: No such file or directory\n"
