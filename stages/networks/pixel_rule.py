"""How the image files that an encoder was trained on became pixels."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Fit = Literal["crop", "pad", "stretch"]


class Decoding(BaseModel):
    """One rule for all images of a folder; new images are decoded in the same way.

    It is part of an encoder's declaration, because predicting needs it.

    Attributes:
        fit: how a picture that is not square becomes square.
        ground: what is behind transparent pixels.
        uint16, int32, float32: the value that is shown as white, by the type of the stored grey values;
            None: no image had this type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fit: Fit = "crop"
    ground: Literal["white", "black", "grey"] = "white"
    uint16: Literal[255, 1023, 4095, 16383, 65535] | None = None
    int32: Literal[255, 1023, 4095, 16383, 65535] | None = None
    float32: Literal[1, 255, 1023, 4095, 16383, 65535] | None = None

    def name(self) -> str:
        """A short name, different for each rule."""
        fit = "" if self.fit == "crop" else f"{self.fit}-"
        return f"{fit}{self.ground}-{self.uint16 or 0}-{self.int32 or 0}-{self.float32 or 0}"
