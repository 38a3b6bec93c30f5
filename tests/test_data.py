"""Images: what the data sets hold, how they are normalised and augmented, and how they are split."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rem_study.data import augment, batch_crop, batch_flip, load_dataset, report_half
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec import DataSpec


def test_digits_are_1437_training_and_360_test_images_of_16_pixels():
    digits = load_dataset(DataSpec())
    assert digits.train_images.shape == (1437, 1, 16, 16) and digits.test_images.shape == (360, 1, 16, 16)
    assert digits.train_images.dtype == digits.test_images.dtype == torch.uint8
    assert digits.train_labels.shape == (1437,) and digits.test_labels.shape == (360,)
    assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64
    assert set(digits.train_labels.tolist()) == set(range(10)) and digits.num_classes == 10


def test_training_and_test_digits_are_scikit_learns_each_once():
    from sklearn.datasets import load_digits

    digits = load_dataset(DataSpec(image_size=12))
    original = load_digits()
    sources = torch.from_numpy(np.round(original.images * (255 / 16)).astype(np.uint8))[:, None]
    resized = F.interpolate(sources.float(), size=(12, 12), mode="bilinear", antialias=True).round().byte()

    def rows(images, labels):
        return sorted((label, image.tobytes()) for image, label in zip(images.numpy(), labels, strict=True))

    both = torch.cat([digits.train_images, digits.test_images])
    labels = digits.train_labels.tolist() + digits.test_labels.tolist()
    assert rows(both, labels) == rows(resized, original.target.tolist())


@pytest.mark.parametrize("kept", [{"train_samples": 100}, {"train_samples": 1500, "test_samples": 200}])
def test_parts_of_the_digits_never_overlap(kept):
    digits = load_dataset(DataSpec(**kept))
    train = {image.tobytes() for image in digits.train_images.numpy()}
    assert len(digits.train_images) == kept["train_samples"]
    assert not any(image.tobytes() in train for image in digits.test_images.numpy())


def test_more_digits_than_there_are_is_an_input_error_that_names_the_field():
    with pytest.raises(InputError, match=r"^data\.train_samples: "):
        load_dataset(DataSpec(train_samples=1797))
    with pytest.raises(InputError, match=r"^data\.test_samples: digits have 1797 images"):
        load_dataset(DataSpec(test_samples=361))


def test_normalised_training_pixels_have_mean_0_and_deviation_1():
    digits = load_dataset(DataSpec())
    pixels = digits.normalise(digits.train_images)
    assert pixels.dtype == torch.float32
    assert abs(pixels.double().mean().item()) < 1e-5
    assert abs(pixels.double().std(correction=0).item() - 1) < 1e-5


def test_white_is_the_largest_value_that_normalising_can_give():
    digits = load_dataset(DataSpec())
    bright = digits.normalise(torch.full((1, 1, 16, 16), 255, dtype=torch.uint8))
    assert torch.allclose(bright, digits.white.expand_as(bright))


def test_normalising_leaves_the_stored_images_alone():
    digits = load_dataset(DataSpec())
    before = digits.train_images[:5].clone()
    digits.normalise(digits.train_images[:5]).zero_()
    assert torch.equal(digits.train_images[:5], before)


def test_the_fingerprint_depends_on_pixels_and_labels():
    digits = load_dataset(DataSpec(train_samples=50))
    image, label = digits.train_images.clone(), digits.train_labels.clone()
    image[0, 0, 0, 0] += 1
    label[0] = (label[0] + 1) % 10
    prints = {d.fingerprint for d in (digits, replace(digits, train_images=image), replace(digits, train_labels=label))}
    assert len(prints) == 3
    assert replace(digits, train_images=digits.train_images.clone()).fingerprint == digits.fingerprint


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_selection_and_report_halves_share_nothing_and_leave_nothing_out(count):
    report = report_half(count, 0, "test")
    assert report.shape == (count,) and report.dtype == torch.bool
    assert report.sum() == count // 2 and (~report).sum() == count - count // 2


def test_the_report_half_depends_on_the_study_seed_and_not_on_the_replicate(settings, spec, dataset):
    halves = [report_half(240, seed, "train") for seed in (0, 0, 1)]
    assert torch.equal(halves[0], halves[1]) and not torch.equal(halves[0], halves[2])
    # the same fixed half holds the odd positions of every replicate's corrupted samples
    for replicate in range(3):
        corruption = replace(settings["random_label"], replicate=replicate).draw()
        assert halves[0][corruption.ids].tolist() == [position % 2 == 1 for position in range(12)]


def test_batch_crop_shifts_each_image_as_a_loop_would():
    images = torch.rand(9, 2, 5, 6)
    cropped = batch_crop(images, 2, generator("crop"))
    shifts = torch.randint(0, 5, (2, 9), generator=generator("crop"))
    moved = 0
    for image, result, down, right in zip(images, cropped, *shifts.tolist(), strict=True):
        padded = torch.zeros(2, 9, 10)
        padded[:, 2:7, 2:8] = image
        assert torch.equal(result, padded[:, down : down + 5, right : right + 6])
        moved += (down, right) != (2, 2)
    assert moved > 0


def test_batch_flip_mirrors_each_image_as_a_loop_would():
    images = torch.rand(40, 2, 5, 6)
    flipped = batch_flip(images, generator("flip"))
    coins = (torch.rand(40, generator=generator("flip")) < 0.5).tolist()
    for image, result, coin in zip(images, flipped, coins, strict=True):
        expected = torch.stack([image[:, :, 5 - column] for column in range(6)], dim=-1) if coin else image
        assert torch.equal(result, expected)
    assert 0 < sum(coins) < 40


def test_augmentation_uses_its_generator_and_not_the_global_state():
    augmentation = load_dataset(DataSpec(augment=True)).augmentation
    assert augmentation is not None
    images = torch.rand(8, 1, 16, 16)
    state = torch.get_rng_state()
    first, second, third = (augment(images, augmentation, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), state)


def test_digits_are_augmented_only_when_asked():
    assert load_dataset(DataSpec()).augmentation is None
    assert load_dataset(DataSpec(augment=True)).augmentation is not None
    assert not load_dataset(DataSpec(augment=True)).augmentation.flip  # a mirrored digit is another sign


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of the official MNIST files: magic number (uint8, rank), sizes, bytes."""
    path.write_bytes(struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes())


@pytest.fixture(scope="module")
def tiny_fashion(tmp_path_factory):
    root = tmp_path_factory.mktemp("fashion")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 30), ("t10k", 20)):
        arrays[part] = (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            np.arange(count, dtype=np.uint8) % 10,
        )
        write_idx(raw / f"{part}-images-idx3-ubyte", arrays[part][0])
        write_idx(raw / f"{part}-labels-idx1-ubyte", arrays[part][1])
    return root, arrays


def test_fashion_mnist_is_read_from_torchvisions_files(tiny_fashion):
    root, arrays = tiny_fashion
    fashion = load_dataset(DataSpec(name="fashion_mnist", root=str(root)))
    assert np.array_equal(fashion.train_images.numpy()[:, 0], arrays["train"][0])
    assert np.array_equal(fashion.test_images.numpy()[:, 0], arrays["t10k"][0])
    assert fashion.train_labels.tolist() == arrays["train"][1].tolist()
    assert fashion.test_labels.tolist() == arrays["t10k"][1].tolist()


def test_a_part_of_the_training_images_keeps_images_and_labels_together(tiny_fashion):
    root, arrays = tiny_fashion
    part = load_dataset(DataSpec(name="fashion_mnist", root=str(root), train_samples=12, test_samples=5))
    assert part.train_images.shape == (12, 1, 28, 28) and part.test_images.shape == (5, 1, 28, 28)
    label_of = {image.tobytes(): label for image, label in zip(*arrays["train"], strict=True)}
    assert [label_of[image.tobytes()] for image in part.train_images.numpy()[:, 0]] == part.train_labels.tolist()


def test_more_training_samples_than_there_are_is_an_input_error(tiny_fashion):
    with pytest.raises(InputError, match=r"^data\.train_samples: 31 asked for, fashion_mnist has 30$"):
        load_dataset(DataSpec(name="fashion_mnist", root=str(tiny_fashion[0]), train_samples=31))


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_a_missing_root_is_an_input_error_that_names_it(name, tmp_path):
    with pytest.raises(InputError, match=r"^data\.root: "):
        load_dataset(DataSpec(name=name))
    with pytest.raises(InputError, match=r"^data\.root: .*data\.download: true fetches it$") as caught:
        load_dataset(DataSpec(name=name, root=str(tmp_path / "nowhere")))
    assert "nowhere" in str(caught.value) and "\n" not in str(caught.value)


def test_a_broken_file_is_an_input_error(tmp_path, tiny_fashion):
    shutil.copytree(tiny_fashion[0], tmp_path / "copy")
    images = tmp_path / "copy" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"^data\.root: "):
        load_dataset(DataSpec(name="fashion_mnist", root=str(tmp_path / "copy")))
