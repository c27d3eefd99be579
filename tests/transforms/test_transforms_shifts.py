import numpy as np
import pytest
import torch

from anomaly_gan.transforms.shifts import Rotations


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_rotations_are_numpys_quarter_turns_in_shift_major_order(memory_format):
    images = torch.rand(3, 2, 5, 5).contiguous(memory_format=memory_format)
    shifted = Rotations()(images)
    expected = np.concatenate([np.rot90(images.numpy(), k, axes=(2, 3)) for k in range(4)])
    np.testing.assert_array_equal(shifted.numpy(), expected)


def test_shift_labels_name_the_turn_that_undoes_each_row():
    shifts, images = Rotations(), torch.rand(3, 1, 4, 4)
    labels = shifts.labels(3, "cpu")
    assert labels.dtype == torch.int64
    for row, (view, label) in enumerate(zip(shifts(images), labels.tolist(), strict=True)):
        assert torch.equal(view.rot90(-label, (1, 2)), images[row % 3])
