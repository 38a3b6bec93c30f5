"""Images: what the data sets hold, how they are normalised and augmented, and how they are split."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
import torchvision.datasets
from PIL import Image

from rem_study.data.dataset import augment, batch_crop, batch_flip, load_dataset, report_half
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec.data import DataSpec


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


@pytest.mark.parametrize("value", range(0, 256, 5))
def test_a_channel_of_equal_pixels_is_normalised_to_zeros_and_leaves_the_others_alone(value):
    digits = load_dataset(DataSpec())
    images = digits.train_images.repeat(1, 3, 1, 1)
    images[:, 2] = value
    coloured = replace(digits, train_images=images)
    pixels = coloured.normalise(images)
    assert torch.equal(pixels[:, :2], digits.normalise(digits.train_images).expand(-1, 2, -1, -1))
    assert pixels[:, 2].abs().max() < 1e-6
    assert coloured.std[0, 2] == 1 and coloured.white.isfinite().all()


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


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "svhn"])
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


def test_svhn_is_read_from_its_matlab_files_and_never_flipped(tmp_path, monkeypatch):
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    arrays, official = {}, {}
    for part, count in (("train", 24), ("test", 12)):
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        digits = np.arange(count) % 10 + 1  # the files say 10 for the digit 0
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": digits[:, None].astype(np.uint8)})
        arrays[part] = (images, digits % 10)
        digest = hashlib.md5((tmp_path / f"{part}_32x32.mat").read_bytes()).hexdigest()
        official[part] = ["", f"{part}_32x32.mat", digest]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", official)  # checksums of these files
    svhn = load_dataset(DataSpec(name="svhn", root=str(tmp_path)))
    for part in ("train", "test"):
        images, labels = arrays[part]
        assert np.array_equal(getattr(svhn, f"{part}_images").numpy(), images.transpose(3, 2, 0, 1))
        assert getattr(svhn, f"{part}_labels").tolist() == labels.tolist()
    assert svhn.augmentation is not None and not svhn.augmentation.flip


# A user's own data: 14 training and 6 test images of 3 classes, the same in each format.


def own_arrays(channels: int = 3, size: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(channels)
    shape = (size, size) if channels == 1 else (size, size, channels)
    return {
        "train_images": rng.integers(0, 256, (14, *shape), dtype=np.uint8),
        "train_labels": np.arange(14) % 3,
        "test_images": rng.integers(0, 256, (6, *shape), dtype=np.uint8),
        "test_labels": np.arange(6) % 3,
    }


def tiff(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "TIFF")
    return content.getvalue()


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(root: Path, arrays: dict[str, np.ndarray]) -> str:
    for part in ("train", "test"):
        for index, (image, label) in enumerate(zip(arrays[f"{part}_images"], arrays[f"{part}_labels"], strict=True)):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:03}.png").write_bytes(png(image))
    return str(root)


def write_npz(root: Path, arrays: dict[str, Any]) -> str:
    np.savez(root / "own.npz", **arrays)
    return str(root / "own.npz")


def write_parquet(root: Path, arrays: dict[str, np.ndarray], struct: bool = False) -> str:
    for part in ("train", "test"):
        encoded: list[Any] = [png(image) for image in arrays[f"{part}_images"]]
        if struct:  # as Hugging Face writes it
            encoded = [{"bytes": content, "path": None} for content in encoded]
        pq.write_table(pa.table({"image": encoded, "label": arrays[f"{part}_labels"]}), root / f"{part}.parquet")
    return str(root)


WRITERS = {
    "folder": write_folder,
    "npz": write_npz,
    "parquet": write_parquet,
    "parquet as Hugging Face has it": lambda root, arrays: write_parquet(root, arrays, struct=True),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", WRITERS)
def test_a_users_own_images_and_labels_are_read_whatever_their_form(tmp_path, form, channels):
    arrays = own_arrays(channels)
    own = load_dataset(DataSpec(name=form.split()[0], root=WRITERS[form](tmp_path, arrays)))
    assert own.num_classes == 3 and own.augmentation is None
    for part in ("train", "test"):
        images, labels = getattr(own, f"{part}_images"), getattr(own, f"{part}_labels")
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        expected = arrays[f"{part}_images"]
        expected = expected[:, None] if channels == 1 else expected.transpose(0, 3, 1, 2)
        pairs = zip(expected, arrays[f"{part}_labels"].tolist(), strict=True)
        read = zip(images.numpy(), labels.tolist(), strict=True)
        assert sorted((y, x.tobytes()) for x, y in read) == sorted((y, x.tobytes()) for x, y in pairs)


@pytest.mark.parametrize("form", WRITERS)
def test_a_users_own_images_are_resized(tmp_path, form):
    arrays = own_arrays(size=20)
    own = load_dataset(DataSpec(name=form.split()[0], root=WRITERS[form](tmp_path, arrays), image_size=12))
    assert own.train_images.shape == (14, 3, 12, 12) and own.test_images.shape == (6, 3, 12, 12)
    whole = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2).float()
    expected = F.interpolate(whole, size=(12, 12), mode="bilinear", antialias=True).round().byte()
    assert sorted(x.tobytes() for x in own.test_images.numpy()) == sorted(x.tobytes() for x in expected.numpy())


def test_images_of_an_archive_may_have_their_channels_first_and_labels_in_a_column(tmp_path):
    arrays = own_arrays()
    last = load_dataset(DataSpec(name="npz", root=write_npz(tmp_path, arrays)))
    for part in ("train", "test"):
        arrays[f"{part}_images"] = arrays[f"{part}_images"].transpose(0, 3, 1, 2)
        arrays[f"{part}_labels"] = arrays[f"{part}_labels"][:, None]
    (tmp_path / "first").mkdir()
    first = load_dataset(DataSpec(name="npz", root=write_npz(tmp_path / "first", arrays)))
    assert first.fingerprint == last.fingerprint


def test_images_of_different_sizes_and_colours_are_read_once_the_study_gives_a_size(tmp_path):
    root = write_folder(tmp_path, own_arrays())
    extra = np.random.default_rng(9).integers(0, 256, (30, 18), dtype=np.uint8)
    (tmp_path / "train" / "class0" / "grey.png").write_bytes(png(extra))
    with pytest.raises(InputError, match=r"^data\.image_size: .*grey\.png: images differ in size"):
        load_dataset(DataSpec(name="folder", root=root))
    own = load_dataset(DataSpec(name="folder", root=root, image_size=16))
    assert own.train_images.shape == (15, 3, 16, 16)


@pytest.mark.parametrize("name", ["npz", "parquet"])
def test_a_file_that_was_written_anew_is_read_anew(tmp_path, name):
    arrays = own_arrays()
    spec = DataSpec(name=name, root=WRITERS[name](tmp_path, arrays))
    first = load_dataset(spec)
    assert load_dataset(spec) is first
    WRITERS[name](tmp_path, arrays | {"train_images": 255 - arrays["train_images"]})
    assert torch.equal(load_dataset(spec).train_images, 255 - first.train_images)


def test_own_images_are_augmented_when_asked_but_never_flipped(tmp_path):
    own = load_dataset(DataSpec(name="npz", root=write_npz(tmp_path, own_arrays()), augment=True))
    assert own.augmentation is not None
    assert (own.augmentation.padding, own.augmentation.flip) == (2, False)


def own_complaint(name: str, root: str | None, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(DataSpec(name=name, root=root, **fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["folder", "npz", "parquet"])
def test_own_data_that_are_not_there_are_one_line_that_names_the_root(tmp_path, name):
    assert own_complaint(name, None).startswith(f"data.root: {name} needs the ")
    assert own_complaint(name, str(tmp_path / "absent")) == f"data.root: {tmp_path / 'absent'}: is not there"
    if name == "npz":
        (tmp_path / "text.npz").write_text("no archive")
        root = str(tmp_path / "text.npz")
    else:
        root = str(tmp_path)  # an empty folder
    assert own_complaint(name, root).startswith(f"data.root: {root}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train_labels": None}, "has no train_labels"),
        ({"train_images": np.full((14, 16, 16, 3), -1.0)}, "train_images must have pixels in .* from -1 to -1"),
        (
            {"train_images": np.zeros((14, 16, 16, 3), "complex64")},
            "train_images must be uint8 .* not complex64 of shape 14x16x16x3",
        ),
        ({"train_images": np.zeros((14, 9), np.uint8)}, "train_images must be uint8"),
        ({"test_images": np.zeros((6, 16, 16, 2), np.uint8)}, "test_images must have 1 or 3 channels"),
        ({"test_images": np.zeros((6, 16, 16), np.uint8)}, "training images have 3 channels, test images 1"),
        ({"train_labels": np.arange(14) / 7}, "train_labels must be one whole number"),
        ({"train_labels": np.arange(14) - 1}, "train_labels must be one whole number"),
        ({"train_labels": np.arange(13) % 3}, "has 14 train images, but 13 labels"),
        ({"train_labels": np.zeros(14, int)}, "has only one class"),
        ({"test_labels": np.arange(6)}, "test label 5 is not among the training labels"),
        ({"train_labels": np.array([{}] * 14, dtype=object)}, "allow_pickle"),
    ],
)
def test_a_malformed_archive_is_one_line(tmp_path, change, reason):
    arrays = {name: array for name, array in (own_arrays() | change).items() if array is not None}
    with pytest.raises(InputError, match=rf"^data\.root: .*{reason}") as caught:
        load_dataset(DataSpec(name="npz", root=write_npz(tmp_path, arrays)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(14, 16, 20, 3), (14, 8, 8, 3)])
def test_an_archive_of_images_that_no_network_takes_asks_for_a_size(tmp_path, shape):
    root = write_npz(tmp_path, own_arrays() | {"train_images": np.zeros(shape, np.uint8)})
    assert own_complaint("npz", root).startswith("data.image_size: ")


def test_a_malformed_folder_is_one_line(tmp_path):
    root = write_folder(tmp_path, own_arrays())
    stray = tmp_path / "test" / "class9"
    stray.mkdir()
    (stray / "a.png").write_bytes(png(own_arrays()["test_images"][0]))
    assert own_complaint("folder", root) == f"data.root: {stray}: is a class without training images"
    shutil.rmtree(stray)
    broken = tmp_path / "train" / "class1" / "broken.png"
    broken.write_bytes(b"no image")
    assert own_complaint("folder", root).startswith(f"data.root: {broken}: ")
    broken.write_bytes(tiff(np.zeros((16, 16), dtype=np.float32)))
    assert own_complaint("folder", root) == (
        f"data.root: {broken}: has more than 16 bits a channel, or fractions; save it with 8 or 16"
    )
    broken.unlink()
    shutil.rmtree(tmp_path / "test")
    assert own_complaint("folder", root) == f"data.root: {tmp_path / 'test'}: is not a folder"


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"image": [b"x"]}, "has no column label"),
        ({"label": [0]}, "has no column image"),
        ({"image": [b"x", b"x"], "label": [0, 1]}, "row 0: cannot identify image file"),
        ({"image": [None, None], "label": [0, 1]}, "row 0: holds no encoded image"),
        ({"image": [{"path": "a.png"}, {"path": "b.png"}], "label": [0, 1]}, "row 0: holds no encoded image"),
        ({"image": [png(np.zeros((16, 16), np.uint8))], "label": [1.5]}, "label must be one whole number"),
        ({"image": [png(np.zeros((16, 16), np.uint8))], "label": [None]}, "label must be one whole number"),
    ],
)
def test_a_malformed_parquet_file_is_one_line(tmp_path, columns, reason):
    for part in ("train", "test"):
        pq.write_table(pa.table(columns), tmp_path / f"{part}.parquet")
    complaint = own_complaint("parquet", str(tmp_path))
    assert complaint.startswith(f"data.root: {tmp_path / 'train.parquet'}") and reason in complaint


def test_a_root_is_made_absolute_for_workers_whose_working_directory_is_another(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert DataSpec(name="npz", root="own.npz").root == str(tmp_path / "own.npz")
