"""Random params.yaml files: valid ones load, invalid ones are refused with the key's name."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.errors import InputError
from stages.settings import load
from tests.conftest import demonstration, put

BASE = demonstration()

OPTIONAL = ("views.presets.", "finetune.recipe.simclr.")  # keys that may be left out
positive = st.floats(1e-9, 1e9)
fraction = st.floats(0, 1)
pair = st.lists(st.floats(0.01, 1), min_size=2, max_size=2).map(sorted)
VALID: dict[str, st.SearchStrategy[Any]] = {
    "seeds.split": st.integers(0, 2**31 - 1),
    "seeds.draws": st.integers(0, 2**31 - 1),
    "seeds.training": st.integers(0, 2**31 - 1),
    "pretrain.runs": st.integers(1, 100),
    "methods": st.lists(
        st.sampled_from(["scratch", "autoencoder", "simclr", "gan", "vicreg"]), min_size=1, unique=True
    ),
    "runtime.device": st.sampled_from(["auto", "cpu", "cuda"]),
    "runtime.precision": st.sampled_from(["auto", "fp32", "bf16"]),
    "runtime.threads.pretrain": st.integers(1, 1024),
    "runtime.threads.finetune": st.integers(1, 1024),
    "runtime.threads.evaluate": st.integers(1, 1024),
    "data.source": st.sampled_from(["mnist", "fashion-mnist"]),
    "data.validation": st.integers(20, 10_000),
    "data.test_limit": st.none() | st.integers(1, 10_000),
    "encoder.name": st.sampled_from(["cnn", "residual", "vit"]),
    "finetune.schedule.class_weights": st.sampled_from(["equal", "balanced"]),
    "data.folder.test": st.floats(0.01, 0.5),
    "data.channels": st.sampled_from(["auto", 1, 3]),
    "data.folder.twins": st.none() | st.floats(0.5, 1),
    "encoder.width": st.integers(8, 1024),
    "views.pretrain": st.sampled_from(list(BASE["views"]["presets"])),
    "views.presets.digits.crop": pair,
    "views.presets.digits.rotate": st.floats(0, 180),
    "views.presets.digits.flip": fraction,
    "views.presets.digits.hue": st.floats(0, 0.5),
    "pretrain.simclr.images": st.integers(1, 10**6),
    "pretrain.simclr.batch_size": st.integers(16, 10_000),
    "pretrain.simclr.learning_rate": fraction,
    "pretrain.simclr.temperature": positive,
    "pretrain.simclr.warmup": fraction,
    "pretrain.vicreg.variance": positive,
    "finetune.budgets": st.lists(st.just("all") | st.integers(10, 40_000), min_size=1, unique=True),
    "finetune.draws": st.integers(1, 100),
    "finetune.schedule.steps": st.integers(1, 10**6),
    "choose.encoder_learning_rates": st.lists(fraction, min_size=1, unique=True),
    "choose.length": st.floats(0.01, 1),
    "choose.folds": st.integers(2, 20),
    "distil.few": st.integers(1, 10**6),
    "distil.images": st.integers(1, 10**6),
    "finetune.recipe.simclr.weight_decay": fraction,
    "probe.l2": positive,
    "knn.k": st.integers(1, 1000),
    "knn.temperature": positive,
    "health.on_collapse": st.sampled_from(["warn", "stop"]),
}  # fmt: skip

# Values that none of these keys allows.
nonsense = st.one_of(
    st.floats(max_value=-1e-6, allow_nan=False), st.just(float("nan")), st.just(float("inf")),
    st.text(min_size=1).filter(lambda word: word not in {"auto", "cpu", "cuda", "fp32", "bf16"}),
    st.booleans(), st.just([]), st.just({}), st.just([1, "x", None]), st.just({"a": 1}),
)  # fmt: skip
quick = settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@quick
@given(st.fixed_dictionaries({}, optional=VALID))
def test_random_valid_files_load_as_they_are_written(values: dict[str, Any]) -> None:
    raw = deepcopy(BASE)
    for key, value in values.items():
        put(raw, key, value)
    loaded = load.validated(raw)
    for key, value in values.items():
        part: Any = loaded
        for name in key.split("."):
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        assert part == (tuple(value) if isinstance(value, list) else value), key


@quick
@given(key=st.sampled_from(list(VALID)), value=nonsense)
def test_a_random_invalid_value_is_refused_by_its_key(key: str, value: Any) -> None:
    raw = deepcopy(BASE)
    put(raw, key, value)
    with pytest.raises(InputError) as caught:
        load.validated(raw)
    assert any(line.startswith(f"params.yaml: {key}") for line in caught.value.args), caught.value.args
    assert all("\n" not in line for line in caught.value.args)


@quick
@given(
    key=st.sampled_from(
        ["runtime", "pretrain.simclr", *(key for key in VALID if not key.startswith(OPTIONAL))]
    )
)
def test_a_missing_key_is_named(key: str) -> None:
    raw = deepcopy(BASE)
    *parents, last = key.split(".")
    section = raw
    for parent in parents:
        section = section[parent]
    del section[last]
    with pytest.raises(InputError) as caught:
        load.validated(raw)
    assert any(key in line and "missing" in line for line in caught.value.args), caught.value.args


@quick
@given(
    where=st.sampled_from(
        ["", "seeds", "runtime", "data", "encoder", "views.presets.digits", "pretrain.simclr", "knn"]
    ),
    name=st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
)
def test_an_unknown_key_is_named(where: str, name: str) -> None:
    raw = deepcopy(BASE)
    section = raw
    for part in filter(None, where.split(".")):
        section = section[part]
    if name in section:
        return
    section[name] = 1
    with pytest.raises(InputError) as caught:
        load.validated(raw)
    assert any(name in line and "unknown" in line for line in caught.value.args), caught.value.args
