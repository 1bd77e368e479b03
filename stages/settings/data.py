"""The section `data` of `params.yaml`: which images, and how they are split."""

from typing import Annotated, Literal

from pydantic import Field

from stages.settings.values import Channels, Count, PlainPath, Section, SourceName


class Folder(Section):
    """How a folder of the user's own images is split, and what of it is left out."""

    test: Annotated[float, Field(gt=0, le=0.5)]
    validation: Annotated[float, Field(gt=0, le=0.5)]
    on_bad_image: Literal["error", "skip"]
    twins: Annotated[float, Field(gt=0, le=1)] | None
    detail: Literal[1, 2, 4]


class Data(Section):
    """Which images, and how they are split."""

    source: SourceName
    path: PlainPath
    validation: Annotated[int, Field(ge=20)]
    train_limit: Count | None
    test_limit: Count | None
    image_size: Annotated[int, Field(ge=8, le=1024)]
    channels: Channels
    fit: Literal["crop", "pad", "stretch"]
    folder: Folder
