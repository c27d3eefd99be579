"""The shapes that walk through the house. Checked at run time under test only (tests/conftest.py)."""

from collections.abc import Iterable

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

RawImages = UInt8[Tensor, "batch channels height width"]
"""Images as they are stored: 0..255."""

Images = Float[Tensor, "batch channels height width"]
"""Images as every network, shift and augmentation sees them: float in [0, 1]."""

ImageBatches = Iterable[Float[Tensor, "_ channels height width"]]
"""Batches of images, not all of one length; may be iterated more than once."""

Labels = Int64[Tensor, " batch"]
"""Class or shift indices."""

Latents = Float[Tensor, "batch latent"]
"""Draws from N(0, I)."""

Embeddings = Float[Tensor, "batch embedding"]
"""Outputs of F's projection head, not normalised."""

ShiftedEmbeddings = Float[Tensor, "batch shifts embedding"]
"""The embeddings of one image under each of the K shifts, side by side."""

BankRows = Float[Tensor, "rows shifts embedding"]
"""The same of the normal images, each of length one: what is compared with."""

ShiftLogits = Float[Tensor, "batch shifts"]
"""Per image and shift k: the shift head's logit for k on the image shifted by k."""

Logits = Float[Tensor, " batch"]
"""Of D or D', one for each input; positive: real."""

Scores = Float[Tensor, " batch"]
"""Anomaly scores: higher is more anomalous, everywhere."""

ScoreMaps = Float[Tensor, "batch height width"]
"""How anomalous each place of an image is, in the units of its score."""

PlaceFeatures = Float[Tensor, "batch rows columns feature"]
"""What a network says of each place of an image, on a grid."""

Scalar = Float[Tensor, ""]
"""A loss term."""
