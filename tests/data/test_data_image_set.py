from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly_gan.data.decode import decode
from anomaly_gan.data.image_set import FileReader, ImageSet, MemoryReader, in_memory
from anomaly_gan.data.sampling import IterationBatches


@pytest.fixture(params=["memory", "files"])
def image_set(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 5, 3), dtype=np.uint8)
    labels = torch.arange(7) % 3
    names = [f"{i}.png" for i in range(7)]
    if request.param == "memory":
        return ImageSet(MemoryReader(torch.from_numpy(pixels).permute(0, 3, 1, 2)), labels, names)
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    reader = FileReader([tmp_path / name for name in names], lambda path: decode(path, 5, 3, "stretch"))
    return ImageSet(reader, labels, names)


def test_a_batch_holds_the_images_asked_for_in_that_order(image_set: ImageSet) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 5, 3), dtype=np.uint8)
    batch = image_set[[4, 0, 4]]
    assert torch.equal(batch.images, torch.from_numpy(pixels[[4, 0, 4]]).permute(0, 3, 1, 2))
    assert batch.labels.tolist() == [1, 0, 1]
    assert batch.index.tolist() == [4, 0, 4]


def test_a_subset_of_a_subset_keeps_images_labels_and_names_together(image_set: ImageSet) -> None:
    nested = image_set.subset([6, 2, 3, 1]).subset(torch.tensor([3, 0]))
    assert len(nested) == 2
    assert nested.names == ["1.png", "6.png"]
    batch = nested[[0, 1]]
    assert torch.equal(batch.images, image_set[[1, 6]].images)
    assert torch.equal(batch.labels, image_set.labels[[1, 6]])
    assert batch.index.tolist() == [0, 1]


def test_an_empty_subset_has_no_length(image_set: ImageSet) -> None:
    empty = image_set.subset([])
    assert len(empty) == 0
    assert empty.names == []


def test_images_in_memory_are_named_by_split_and_row() -> None:
    images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    assert in_memory(images, torch.tensor([0, 1]), "train", torch.tensor([12, 40000])).names == [
        "train/00012",
        "train/40000",
    ]


runs = st.integers(1, 30).flatmap(
    lambda size: st.tuples(
        st.just(size), st.integers(1, size), st.integers(0, 40), st.integers(0, 45), st.integers(0, 3)
    )
)


@settings(deadline=None, max_examples=60)
@given(runs)
def test_a_resumed_run_sees_what_the_uninterrupted_one_would(run: tuple[int, int, int, int, int]) -> None:
    size, batch_size, iterations, start, seed = run
    whole = list(IterationBatches(size, batch_size, iterations, seed))
    resumed = IterationBatches(size, batch_size, iterations, seed, start=start)
    assert len(whole) == iterations == len(resumed)
    assert list(resumed) == whole[start:]


@settings(deadline=None, max_examples=60)
@given(runs)
def test_an_epoch_never_repeats_an_image(run: tuple[int, int, int, int, int]) -> None:
    size, batch_size, iterations, _, seed = run
    batches = list(IterationBatches(size, batch_size, iterations, seed))
    assert all(len(batch) == batch_size for batch in batches)
    per_epoch = size // batch_size
    for first in range(0, iterations, per_epoch):
        seen = Counter(i for batch in batches[first : first + per_epoch] for i in batch)
        assert set(seen) <= set(range(size))
        assert all(count == 1 for count in seen.values())


def test_batches_depend_on_the_seed_and_the_epoch_but_not_on_the_length_of_the_run() -> None:
    first, second = ([*IterationBatches(64, 32, 4, seed)] for seed in (0, 1))
    assert first != second
    assert first[:2] != first[2:]
    assert [*IterationBatches(64, 32, 9, 0)][:4] == first


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_the_shards_of_all_processes_in_order_are_the_whole_batch(processes: int) -> None:
    alone = list(IterationBatches(50, 8, 13, 3))
    several = [IterationBatches(50, 8, 13, 3, process=i, processes=processes) for i in range(processes)]
    together = [[i for part in shards for i in part] for shards in zip(*several, strict=True)]
    assert together == alone
    for shards in zip(*several, strict=True):
        assert {len(shard) for shard in shards} <= {8 // processes, 8 // processes + 1}


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(IterationBatches(10, 2, 20, 0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("size", "batch_size", "processes"), [(4, 5, 1), (4, 0, 1), (8, 3, 4)])
def test_impossible_batches_are_refused(size: int, batch_size: int, processes: int) -> None:
    with pytest.raises(ValueError, match=f"batches of {batch_size}"):
        IterationBatches(size, batch_size, 1, 0, processes=processes)
