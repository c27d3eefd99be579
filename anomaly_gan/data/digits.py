"""Handwritten digits that ship inside scikit-learn: nothing to fetch."""

from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anomaly_gan.data.decode import to_tensor
from anomaly_gan.data.image_set import ImageSet, in_memory
from anomaly_gan.data.module import OneClassData
from anomaly_gan.types import Labels, RawImages

SPLIT_SEED = 0
"""Of the train/test split, which stays the same whatever the seed of a run."""


class Digits(OneClassData):
    """1,797 grey 8x8 images of 10 digits, resized to 16x16; 60 % of each digit to train on."""

    name = "digits"
    image_size = 16
    channels = 1
    class_names = tuple("0123456789")

    def load_train(self, normal_index: int) -> ImageSet:
        """The training images of one digit."""
        images, labels, rows, _ = _digits()
        rows = rows[labels[rows] == normal_index]
        return in_memory(images[rows], labels[rows], "train", rows)

    def load_test(self) -> ImageSet:
        """The test images of all digits."""
        images, labels, _, rows = _digits()
        return in_memory(images[rows], labels[rows], "test", rows)


@cache
def _digits() -> tuple[RawImages, Labels, Tensor, Tensor]:
    """Images and labels in scikit-learn's order, and the rows of the training and of the test part."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    grey = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = torch.stack([to_tensor(Image.fromarray(image), 16, 1, "stretch") for image in grey])
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.4, stratify=labels, random_state=SPLIT_SEED
    )
    return (
        images,
        torch.from_numpy(labels).long(),
        torch.from_numpy(np.sort(train)),
        torch.from_numpy(np.sort(test)),
    )
