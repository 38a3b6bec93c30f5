"""What a checkpoint of unknown origin may hold: plain numbers, as many as were agreed on."""

import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rem_study.errors import InputError
from rem_study.heal.foreign import GIB, check_size, check_tensors

MODEL = Path("model.pt")
TENSORS = {
    "int8": torch.zeros(2, dtype=torch.int8),
    "complex64": torch.zeros(2, dtype=torch.complex64),
    "uint8": torch.zeros(2, dtype=torch.uint8),
    "float8": torch.zeros(2).to(torch.float8_e4m3fn),
    "sparse": torch.eye(3).to_sparse(),
    "sparse_csr": torch.eye(3).to_sparse_csr(),
    "meta": torch.empty(3, device="meta"),
    "quint8": torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.quint8),
}


@pytest.mark.parametrize(("word", "tensor"), TENSORS.items(), ids=TENSORS)
def test_a_tensor_that_is_no_plain_array_of_weights_is_named(word, tensor):
    with pytest.raises(InputError, match=f"model.pt: 'head.weight' .*{word}"):
        check_tensors(MODEL, {"stem": torch.zeros(1), "head.weight": tensor}, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_what_networks_have_is_taken(dtype):
    check_tensors(MODEL, {"w": torch.zeros(2, dtype=dtype), "steps": torch.tensor(3)}, 1.0)


def test_one_number_that_stands_for_many_counts_as_many():
    with pytest.raises(InputError, match=r"4\.0 GiB, more than the 1 GiB of --max-size"):
        check_tensors(MODEL, {"w": torch.zeros(1).expand(GIB)}, 1.0)


@pytest.mark.parametrize("name", ["bomb.pt", "bomb.npz", "two.npz"])
def test_a_bomb_is_refused_by_its_directory_without_being_unpacked(tmp_path, name):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part in ("a.npy", "b.npy"):
            with archive.open(part, "w") as file:
                for _ in range(48):
                    file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"0\.1 GiB, more than the 0\.05 GiB of --max-size"):
        check_size(path, 0.05)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    check_size(path, 0.1)


def test_an_honest_file_and_a_folder_are_taken_and_a_torn_archive_named(tmp_path):
    np.savez(tmp_path / "data.npz", images=np.zeros((10, 8, 8), np.uint8))
    check_size(tmp_path / "data.npz", 1.0)
    check_size(tmp_path, 1e-9)
    check_size(tmp_path / "absent", 1e-9)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[-10:-6] = b"\xff\xff\xff\xff"
    (tmp_path / "torn.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"torn\.npz"):
        check_size(tmp_path / "torn.npz", 1.0)
