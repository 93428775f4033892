import dataclasses
import gzip
import hashlib
import importlib
import io
import json
import os
import shutil
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import get_type_hints

import numpy as np
import pytest
import yaml
from PIL import Image
from pydantic import TypeAdapter, ValidationError

import automl_tasks
from automl import BadInput
from automl_tasks.cifar10 import CIFAR10
from automl_tasks.digits import Digits
from automl_tasks.image_folder import ImageFolder, natural
from automl_tasks.mnist import MNIST, FashionMNIST
from automl_tasks.synthetic import Synthetic

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "data" / "cases"
IDX_FILES = {
    "train images": "train-images-idx3-ubyte.gz",
    "train labels": "train-labels-idx1-ubyte.gz",
    "test images": "t10k-images-idx3-ubyte.gz",
    "test labels": "t10k-labels-idx1-ubyte.gz",
}
REGISTERED = {
    name: getattr(importlib.import_module(place.partition(":")[0]), place.partition(":")[2])
    for name, place in automl_tasks.automl_tasks().items()
}


@pytest.fixture(autouse=True)
def nothing_of_the_users(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTOML_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


def real(name):
    """Return the folder of a real data set, or skip."""
    shared = Path(SHARED or ROOT.parent / "shared" / "data") / name
    if not shared.is_dir():
        pytest.skip(f"no {name} in $AUTOML_DATA or ../shared/data")
    return shared


SHARED = os.environ.get("AUTOML_DATA")


class Server(ThreadingHTTPServer):
    def server_bind(self):  # without asking for the name of the machine, which can take ten seconds
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address


@contextmanager
def serve(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with Server(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


# every task


@pytest.mark.parametrize("name", REGISTERED)
def test_a_task_is_named_as_it_is_registered_and_configured(name):
    task = REGISTERED[name]
    assert task.name == name
    text = (ROOT / "conf" / "task" / f"{name}.yaml").read_text()
    config = yaml.safe_load(text)
    assert text.startswith("# automl +space=")
    assert f"task={name}" in text.splitlines()[0]
    fields = {field.name: field.default for field in dataclasses.fields(task) if field.init}
    assert list(config.items()) == [("name", name), *fields.items()]


@pytest.mark.parametrize(
    ("task", "field", "wrong"),
    [
        (Digits, "batch_size", 0),
        (Digits, "batch_size", 1),
        (Digits, "validation", 0.0),
        (Digits, "test", 1.0),
        (Digits, "images", 0),
        (CIFAR10, "crop", -1),
        (CIFAR10, "cutout", -1),
        (ImageFolder, "size", 0),
        (Synthetic, "labels", 1),
        (Synthetic, "noise", -0.1),
    ],
)
def test_values_out_of_range_are_told_by_the_annotations(task, field, wrong):
    adapter = TypeAdapter(get_type_hints(task, include_extras=True)[field])
    adapter.validate_python(getattr(task(), field))
    with pytest.raises(ValidationError):
        adapter.validate_python(wrong)


# digits and synthetic


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    task = Digits()
    loaded, expected = task.load(), load_digits()
    assert np.array_equal(np.round(loaded.images[:, 0] / 255 * 16), expected.images)
    assert np.array_equal(loaded.labels, expected.target)
    task.prepare(0)
    assert task.describe() == "digits (1,797 images, 10 classes; 1,257 train, 270 validation, 270 test kept aside)"
    assert task.input == (1, 8, 8)


def test_digits_do_without_the_file_in_the_package(monkeypatch, tmp_path):
    import sklearn.datasets  # noqa: F401 (found before its file is hidden)

    expected = Digits().load()
    monkeypatch.setattr("automl_tasks.digits.Path.exists", lambda path: False)
    loaded = Digits().load()
    assert np.array_equal(loaded.images, expected.images)
    assert np.array_equal(loaded.labels, expected.labels)


def test_synthetic_pictures_are_the_same_every_time_and_as_asked():
    first, second = Synthetic().load(), Synthetic().load()
    assert np.array_equal(first.images, second.images)
    assert not np.array_equal(first.images, Synthetic(data_seed=1).load().images)
    task = Synthetic(count=100, size=6, channels=2, labels=5)
    task.prepare(0)
    assert task.input == (2, 6, 6)
    assert task.outputs == 5
    assert task.notes["images"] == 100


def test_synthetic_pictures_are_told_apart_by_a_straight_line_fit():
    task = Synthetic()
    test = task.prepare(0)

    def features(dataset):
        spectrum = np.abs(np.fft.fft2(dataset.images[:, 0] / 255))  # where in the picture a bar is does not matter
        return np.column_stack([spectrum.reshape(len(dataset), -1), np.ones(len(dataset))])

    targets = np.eye(task.outputs)[task.train.labels]
    weights = np.linalg.lstsq(features(task.train), targets, rcond=1e-3)[0]
    assert ((features(test) @ weights).argmax(1) == test.labels).mean() > 0.9


# mnist and fashion_mnist


@pytest.fixture
def idx(tmp_path):
    return shutil.copytree(CASES / "idx" / "good", tmp_path / "idx")


def test_idx_files_load(idx):
    task = MNIST(root=str(idx))
    test = task.prepare(0)
    assert len(task.train) + len(task.held_out) == 100
    assert len(test) == 40
    assert task.input == (1, 28, 28)
    assert task.outputs == 10


@pytest.mark.parametrize("layout", ["plain", "dotted", "raw", "torchvision"])
def test_idx_files_load_from_where_they_usually_lie(idx, tmp_path, layout):
    expected = MNIST(root=str(idx)).load()
    place = {"raw": "raw", "torchvision": "MNIST/raw"}.get(layout, ".")
    folder = tmp_path / "other" / place
    folder.mkdir(parents=True)
    for path in idx.iterdir():
        name = path.name.removesuffix(".gz")
        name = name.replace("-idx", ".idx") if layout == "dotted" else name
        (folder / name).write_bytes(gzip.decompress(path.read_bytes()))
    found = MNIST(root=str(tmp_path / "other")).load()
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.test.labels, expected.test.labels)


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("train images", "cut_stream.gz", "expected a whole gzip file"),
        ("train images", "cut_data.gz", "expected 100 images of 28 x 28, as announced; found 60 present"),
        ("train images", "wrong_magic.gz", "expected the magic number 0x803; found 0x802"),
        ("train labels", "labels_99.gz", "expected a label for each of 100 images; found 99 labels"),
        ("train labels", "labels_ten.gz", "expected labels from 0 to 9; found a label 10"),
        ("test labels", "../images/empty.png", "expected the magic number 0x801; found nothing"),
        ("test images", "../images/error_page.jpg", "expected the magic number 0x803"),
    ],
)
def test_a_damaged_idx_file_is_refused(idx, file, damage, reason):
    shutil.copy(CASES / "idx" / damage, idx / IDX_FILES[file])
    with pytest.raises(BadInput, match=reason) as error:
        MNIST(root=str(idx)).prepare(0)
    assert str(idx / IDX_FILES[file]) in str(error.value)
    assert "task.download=true" in str(error.value)


def test_bytes_after_the_images_do_not_matter(idx):
    expected = MNIST(root=str(idx)).load()
    shutil.copy(CASES / "idx" / "trailing_bytes.gz", idx / IDX_FILES["train images"])
    assert np.array_equal(MNIST(root=str(idx)).load().images, expected.images)


def test_content_decides_whether_a_file_is_in_gzip(idx):
    shutil.copy(CASES / "idx" / "not_gzip.gz", idx / IDX_FILES["train images"])
    with pytest.raises(BadInput, match="a label for each of 2 images; found 100 labels"):
        MNIST(root=str(idx)).load()


def test_a_wrong_checksum_of_gzip_is_found(idx):
    content = bytearray((idx / IDX_FILES["train images"]).read_bytes())
    content[-8] ^= 1
    (idx / IDX_FILES["train images"]).write_bytes(content)
    with pytest.raises(BadInput, match="expected a whole gzip file"):
        MNIST(root=str(idx)).load()


@pytest.mark.parametrize("shape", [(2**31, 2**15, 2**15), (0, 2**32 - 1, 2**32 - 1)])
def test_a_header_that_announces_too_much_takes_no_memory(idx, shape):
    header = np.array([0x803, *shape], ">u4").tobytes()
    (idx / IDX_FILES["train images"]).write_bytes(header)
    with pytest.raises(BadInput, match="at most 4,294,967,296 bytes"):
        MNIST(root=str(idx)).load()


def test_test_images_of_another_size_are_refused(idx):
    header = np.array([0x803, 40, 2, 2], ">u4").tobytes()
    (idx / IDX_FILES["test images"]).write_bytes(header + bytes(160))
    with pytest.raises(BadInput, match=r"expected images as large as those in train-images.*found 2 x 2"):
        MNIST(root=str(idx)).load()


def test_an_idx_file_that_cannot_be_read_is_refused(idx, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("automl_tasks.idx._open", refuse)
    with pytest.raises(BadInput, match="could not be read: Permission denied"):
        MNIST(root=str(idx)).load()


@pytest.mark.parametrize("file", IDX_FILES.values())
def test_a_missing_idx_file_is_refused_with_the_way_to_get_it(idx, file):
    (idx / file).unlink()
    with pytest.raises(BadInput, match=rf"found no {file} in .*task.download=true .from https://"):
        MNIST(root=str(idx)).load()


def test_files_are_found_in_the_shared_folder_and_in_the_cache(idx, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="cache-home"):
        MNIST().load()
    shutil.copytree(idx, tmp_path / "cache-home" / "automl" / "mnist")
    assert len(MNIST().load().labels) == 100
    shutil.copytree(idx, tmp_path / "shared" / "fashion_mnist")
    monkeypatch.setenv("AUTOML_DATA", str(tmp_path / "shared"))
    assert len(FashionMNIST().load().labels) == 100
    assert len(FashionMNIST(download=True).load().labels) == 100  # it is there: nothing is fetched


def test_a_tilde_is_the_home(idx, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(MNIST(root="~/idx").load().labels) == 100


def test_downloads_are_verified_and_mend_what_is_damaged(idx, tmp_path, monkeypatch):
    sums = {name: hashlib.sha256((idx / name).read_bytes()).hexdigest() for name in IDX_FILES.values()}
    with serve(idx) as url:
        monkeypatch.setattr(MNIST, "sources", (url + "nowhere/", url))
        monkeypatch.setattr(MNIST, "sha256", sums)
        assert len(MNIST(download=True).load().labels) == 100
        assert sorted(path.name for path in (tmp_path / "cache-home" / "automl" / "mnist").iterdir()) == sorted(sums)
        target = tmp_path / "target"
        target.mkdir()
        shutil.copy(CASES / "idx" / "cut_stream.gz", target / IDX_FILES["train images"])
        assert len(MNIST(root=str(target), download=True).load().labels) == 100
        assert sorted(path.name for path in target.iterdir()) == sorted(sums)
    assert len(MNIST().load().labels) == 100  # without the server


def test_a_download_that_is_another_file_is_refused_and_leaves_nothing(idx, tmp_path, monkeypatch):
    with serve(idx) as url:
        monkeypatch.setattr(MNIST, "sources", (url,))
        with pytest.raises(BadInput, match="another file came"):
            MNIST(download=True).load()
    assert list((tmp_path / "cache-home" / "automl" / "mnist").iterdir()) == []


def test_fashion_mnist_is_real():
    task = FashionMNIST(root=str(real("fashion_mnist")))
    test = task.prepare(0)
    assert task.notes["test"] == [1000] * 10
    assert np.array(task.notes["train"]) + task.notes["validation"] == pytest.approx(6000)
    assert task.classes[int(test.labels[0])] == "Ankle boot"
    assert 0.28 < task.mean[0] < 0.29
    for name, checksum in FashionMNIST.sha256.items():
        with (Path(task.root) / name).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == checksum


# cifar10


def records(count, seed=0):
    """Return CIFAR-10 records, with labels in turn."""
    values = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    values[:, 0] = np.arange(count) % 10
    return values


@pytest.fixture
def batches(tmp_path):
    folder = tmp_path / "cifar" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for number in range(1, 6):
        records(20, number).tofile(folder / f"data_batch_{number}.bin")
    records(30, 6).tofile(folder / "test_batch.bin")
    return folder


@pytest.mark.parametrize("inside", [False, True])
def test_binary_batches_load(batches, inside):
    task = CIFAR10(root=str(batches if inside else batches.parent))
    loaded = task.load()
    assert loaded.images.shape == (100, 3, 32, 32)
    assert np.array_equal(loaded.images[20].ravel(), records(20, 2)[0, 1:])
    assert len(task.prepare(0)) == 30
    assert task.classes[3] == "cat"


def test_a_short_batch_is_refused(tmp_path):
    shutil.copy(CASES / "cifar" / "data_batch_1.bin", tmp_path)
    with pytest.raises(BadInput, match=r"data_batch_1.bin is damaged: 6,145 bytes are no multiple of 3,073"):
        CIFAR10(root=str(tmp_path)).prepare(0)


def test_a_wrong_label_in_a_batch_is_refused(batches):
    wrong = records(20)
    wrong[3, 0] = 10
    wrong.tofile(batches / "data_batch_4.bin")
    with pytest.raises(BadInput, match=r"data_batch_4.bin is damaged: a label is 10"):
        CIFAR10(root=str(batches)).load()


def test_a_missing_batch_is_refused(batches):
    (batches / "data_batch_3.bin").unlink()
    with pytest.raises(BadInput, match=r"lacks data_batch_3.bin"):
        CIFAR10(root=str(batches)).load()


def test_pickled_batches_are_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nmkdir\n(S'PICKLE_RAN'\ntR.")
    for root in (tmp_path, tmp_path / "cifar-10-batches-py"):
        with pytest.raises(BadInput, match=r"pickles, which may run code.*binary version with task.download=true"):
            CIFAR10(root=str(root)).load()


def test_a_missing_cifar_is_refused_with_the_way_to_get_it(tmp_path):
    with pytest.raises(BadInput, match=r"task.download=true \(from https://www.cs.toronto.edu/~kriz/cifar-10-binary"):
        CIFAR10(root=str(tmp_path / "nowhere")).load()


def test_an_archive_as_the_root_of_cifar_is_refused(tmp_path):
    with pytest.raises(BadInput, match="neither a folder nor an npz file"):
        CIFAR10(root=str(CASES / "security" / "climbs.zip")).load()


def test_cifar_is_fetched_and_unpacked(batches, tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(batches, "cifar-10-batches-bin")
    checksum = hashlib.sha256((served / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    with serve(served) as url:
        monkeypatch.setattr(CIFAR10, "sources", (url,))
        with pytest.raises(BadInput, match="another file came"):
            CIFAR10(download=True).load()
        monkeypatch.setattr(CIFAR10, "sha256", checksum)
        assert len(CIFAR10(download=True).load().labels) == 100
        assert len(CIFAR10().load().labels) == 100
        damaged = tmp_path / "cache-home" / "automl" / "cifar10" / "cifar-10-binary" / "cifar-10-batches-bin"
        (damaged / "data_batch_2.bin").write_bytes(b"")
        with pytest.raises(BadInput, match=r"fetch the data anew with task.download=true"):
            CIFAR10().load()
        assert len(CIFAR10(download=True).load().labels) == 100
    assert len(CIFAR10().load().labels) == 100  # without the server
    cache = tmp_path / "cache-home" / "automl" / "cifar10"
    assert sorted(path.name for path in cache.iterdir()) == ["cifar-10-binary", "cifar-10-binary.tar.gz"]


@pytest.mark.parametrize("name", ["climbs.tar.gz", "link_out.tar.gz"])
def test_a_fetched_archive_that_leaves_its_folder_is_refused(tmp_path, monkeypatch, name):
    served = tmp_path / "served"
    served.mkdir()
    shutil.copy(CASES / "security" / name, served / "cifar-10-binary.tar.gz")
    with serve(served) as url:
        monkeypatch.setattr(CIFAR10, "sources", (url,))
        monkeypatch.setattr(
            CIFAR10, "sha256", hashlib.sha256((served / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
        )
        with pytest.raises(BadInput, match="is not unpacked"):
            CIFAR10(download=True).load()
    assert not list(tmp_path.rglob("OUTSIDE.txt"))


PICTURES = np.random.default_rng(0).integers(0, 256, (60, 3, 6, 5), dtype=np.uint8)
NUMBERS = np.arange(60) % 10


def npz(folder, images, labels=NUMBERS, **more):
    np.savez(folder / "data.npz", x_train=images, y_train=labels, **more)
    return CIFAR10(root=str(folder / "data.npz"))


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: images.transpose(0, 2, 3, 1),
        lambda images: images.astype(np.int64),
        lambda images: images / 255,
        lambda images: (images / 255).astype(np.float32).transpose(0, 2, 3, 1),
        lambda images: images.astype(np.float64),
    ],
)
def test_one_picture_in_each_layout_and_type_is_one_tensor(tmp_path, change):
    loaded = npz(tmp_path, change(PICTURES)).load()
    assert np.array_equal(loaded.images, PICTURES)
    assert loaded.images.dtype == np.uint8
    assert loaded.notes["layout"] in ("N x C x H x W", "N x H x W x C")


def test_grey_arrays_have_one_channel(tmp_path):
    task = npz(tmp_path, PICTURES[:, 0])
    assert len(task.prepare(0)) == 10  # there is no test set in the file
    assert task.input == (1, 6, 5)
    assert task.notes["layout"] == "N x H x W"


@pytest.mark.parametrize(
    ("images", "labels", "more", "reason"),
    [
        (np.zeros((60, 3, 3, 3), np.uint8), NUMBERS, {}, "60 x 3 x 3 x 3, where channels may come first or last"),
        (np.zeros((60, 4, 6, 5), np.uint8), NUMBERS, {}, "as 60 x 4 x 6 x 5: save it as"),
        (np.zeros((60, 20), np.uint8), NUMBERS, {}, "as 60 x 20: save it as"),
        (PICTURES * 2.0, NUMBERS, {}, "pixels from 0 to 510"),
        (PICTURES - 1.0, NUMBERS, {}, "pixels from -1 to 254"),
        (PICTURES * np.nan, NUMBERS, {}, "pixels from nan to nan"),
        (PICTURES.astype(str), NUMBERS, {}, "save plain numbers"),
        (PICTURES, NUMBERS[:-1], {}, "60 images and 59 labels"),
        (PICTURES, NUMBERS + 1, {}, "from 1 to 10, expected 0 to 9"),
        (PICTURES, NUMBERS + 0.5, {}, "no whole numbers"),
        (
            PICTURES,
            NUMBERS,
            {"x_test": PICTURES[:9, :, :5], "y_test": NUMBERS[:9]},
            "3 x 6 x 5 and test images of 3 x 5 x 5",
        ),
        (PICTURES, NUMBERS, {"x_test": PICTURES[:9] / 255, "y_test": NUMBERS[:9]}, "whole numbers and floats"),
    ],
)
def test_arrays_that_cannot_be_images_are_refused(tmp_path, images, labels, more, reason):
    with pytest.raises(BadInput, match=reason) as error:
        npz(tmp_path, images, labels, **more).load()
    assert "data.npz" in str(error.value)


def test_labels_in_a_column_are_labels(tmp_path):
    assert np.array_equal(npz(tmp_path, PICTURES, NUMBERS[:, None]).load().labels, NUMBERS)


def test_pickled_labels_are_refused_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"Python objects under 'labels', which may run code.*x_train, y_train"):
        CIFAR10(root=str(CASES / "npz" / "pickled_labels.npz")).load()
    assert list(tmp_path.rglob("PICKLE_RAN")) == []


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 half a zip", b"\x80\x04\x95pickle"])
def test_a_damaged_npz_file_is_refused(tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    for root in (tmp_path, tmp_path / "data.npz"):
        with pytest.raises(BadInput, match="cannot be read as an npz file"):
            CIFAR10(root=str(root)).load()


def test_an_npz_file_that_announces_a_terabyte_is_refused(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }\n"
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as file:
        for name in ("x_train", "y_train"):
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BadInput, match=r"announces more than the memory holds|cannot be read as an npz file"):
        CIFAR10(root=str(tmp_path / "data.npz")).load()


def test_an_idx_header_of_half_a_number_is_refused(idx):
    (idx / IDX_FILES["train images"]).write_bytes(b"\x00\x00\x08\x03\x00")
    with pytest.raises(BadInput, match="is damaged"):
        MNIST(root=str(idx)).load()


def test_an_npz_file_cut_anywhere_is_refused(tmp_path):
    npz(tmp_path, PICTURES)
    whole = (tmp_path / "data.npz").read_bytes()
    for end in range(0, len(whole), 501):
        (tmp_path / "data.npz").write_bytes(whole[:end])
        with pytest.raises(BadInput, match="cannot be read"):
            CIFAR10(root=str(tmp_path)).load()


def test_an_npz_file_of_other_arrays_is_refused_with_the_names_to_use(tmp_path):
    np.savez(tmp_path / "data.npz", pictures=PICTURES)
    with pytest.raises(BadInput, match="holds pictures, but no images or labels: name its arrays x_train, y_train"):
        CIFAR10(root=str(tmp_path)).load()


def test_two_npz_files_are_refused_by_name(tmp_path):
    npz(tmp_path, PICTURES)
    shutil.copy(tmp_path / "data.npz", tmp_path / "more.npz")
    with pytest.raises(BadInput, match=r"holds data.npz and more.npz: name one"):
        CIFAR10(root=str(tmp_path)).load()


def test_the_subset_of_cifar10_is_real():
    task = CIFAR10(root=str(real("cifar10")))
    test = task.prepare(0)
    assert len(test) == 2000
    assert len(task.train) + len(task.held_out) + task.notes["equal_to_test"] == 10_000
    assert task.input == (3, 32, 32)
    assert task.notes["layout"] == "N x H x W x C"
    assert task.mean == pytest.approx((0.491, 0.482, 0.447), abs=0.01)


# image_folder


def picture(seed, size=(12, 10), mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def fill(folder, count, start=0, **more):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(start + number, **more).save(folder / f"{number}.png")


@pytest.fixture
def photos(tmp_path):
    fill(tmp_path / "photos" / "cat", 20)
    fill(tmp_path / "photos" / "dog", 20, 100)
    return tmp_path / "photos"


def folder(root, **more):
    task = ImageFolder(root=str(root), **more)
    return task, task.prepare(0)


def test_a_folder_of_images_loads(photos):
    task, test = folder(photos)
    assert task.classes == ("cat", "dog")
    assert task.input == (3, 12, 12)
    assert (len(task.train), len(task.held_out), len(test)) == (28, 6, 6)
    assert task.notes["size"] == 12
    assert task.describe().startswith("image_folder (40 images, 2 classes; 28 train, 6 validation, 6 test kept aside")


def test_what_was_found_can_be_written_as_json(photos):
    (photos / "cat" / os.fsdecode(b"broken\xe9.png")).write_bytes(b"")
    shutil.copy(photos / "cat" / "0.png", photos / "dog" / os.fsdecode(b"copy\xe9.png"))
    task, _ = folder(photos, skip_broken=True)
    assert json.loads(json.dumps(task.notes, allow_nan=False, ensure_ascii=False).encode()) == task.notes


def test_images_in_folders_of_a_class_are_of_that_class(photos):
    fill(photos / "dog" / "puppies" / "small", 5, 200)
    assert np.bincount(ImageFolder(root=str(photos)).load().labels).tolist() == [20, 25]


def test_one_number_of_channels_fits_all_modes(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(12):
            image = picture(number + ord(label) * 100)
            for mode in ("L", "RGB", "RGBA", "P", "1"):
                image.convert(mode).save(tmp_path / label / f"{mode}{number}.png")
            image.convert("CMYK").save(tmp_path / label / f"cmyk{number}.jpg")
        shutil.copy(CASES / "images" / "cmyk_red.jpg", tmp_path / label / f"red_{label}.jpg")
    loaded = ImageFolder(root=str(tmp_path)).load()
    assert loaded.images.shape[:2] == (146, 3)
    (red,) = (loaded.images[k] for k, name in enumerate(loaded.names) if name == "a/red_a.jpg")
    assert (red.mean((1, 2)) / 255 > [0.8, -1, -1]).all()
    assert (red.mean((1, 2)) / 255 < [2, 0.2, 0.2]).all()


def test_grey_files_alone_make_grey_images(tmp_path):
    for label in ("a", "b"):
        fill(tmp_path / label, 6, ord(label) * 100, mode="L")
        shutil.copy(CASES / "images" / "gray16.png", tmp_path / label)
        shutil.copy(CASES / "images" / "gray8.png", tmp_path / label)
        shutil.copy(CASES / "images" / "gray_alpha.png", tmp_path / label)
        shutil.copy(CASES / "images" / "one_bit.png", tmp_path / label)
    loaded = ImageFolder(root=str(tmp_path), size=16).load()
    assert loaded.images.shape[1:] == (1, 16, 16)
    by_name = dict(zip(loaded.names, loaded.images, strict=True))
    assert np.abs(by_name["a/gray8.png"].astype(int) - by_name["a/gray16.png"]).max() <= 1
    fill(tmp_path / "b", 7, 5000)
    assert ImageFolder(root=str(tmp_path)).load().images.shape[1] == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "it is damaged or cut off"),
        ("truncated.png", "it is damaged or cut off"),
        ("empty.png", "it is empty"),
        ("error_page.jpg", "it is a web page"),
        ("x.png", "it is a folder"),
    ],
)
def test_a_broken_file_is_refused_before_the_search_or_left_out(photos, name, reason, caplog):
    if name == "x.png":
        (photos / "dog" / name).mkdir()
    else:
        shutil.copy(CASES / "images" / name, photos / "dog")
    with pytest.raises(BadInput, match=rf"1 of 41 images in .* cannot be read .dog/{name}: {reason}.*skip_broken=true"):
        folder(photos)
    task, _ = folder(photos, skip_broken=True)
    assert task.notes["images"] == 40
    assert list(task.notes["broken"]) == [f"dog/{name}"]
    assert "1 of 41 images" in caplog.text


def test_a_file_that_may_not_be_read_is_refused(photos, monkeypatch):
    opened = Image.open

    def refuse(path, **more):  # since root, who may run the tests, reads every file
        if path.name == "3.png" and path.parent.name == "dog":
            raise PermissionError
        return opened(path, **more)

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(BadInput, match=r"dog/3.png: it may not be read"):
        folder(photos)


def test_all_broken_files_are_counted_and_the_first_named(photos):
    for number in range(8):
        (photos / "cat" / f"broken{number}.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match=r"8 of 48 images .*broken0.*broken4.jpg: it is empty; and 3 more"):
        folder(photos)


def test_a_class_of_broken_files_alone_is_refused_by_name(photos):
    (photos / "owl").mkdir()
    (photos / "owl" / "a.png").write_bytes(b"")
    with pytest.raises(BadInput, match="class 'owl' has 0 images; the least is 3"):
        folder(photos, skip_broken=True)


def test_hidden_and_system_folders_and_stray_files_are_no_classes(photos):
    for name in (".ipynb_checkpoints", ".git", "__MACOSX"):
        fill(photos / name, 2)
        fill(photos / "cat" / name, 2)
    (photos / "README.md").write_text("mine")
    picture(7).save(photos / "stray.png")
    for name in (".DS_Store", "Thumbs.db", "._0.png", "notes.txt"):
        (photos / "cat" / name).write_bytes(b"\0\1")
    loaded = ImageFolder(root=str(photos)).load()
    assert loaded.classes == ["cat", "dog"]
    assert len(loaded.labels) == 40


@pytest.mark.parametrize("stray", [None, "notes.txt", ".hidden.png"])
def test_an_empty_class_folder_is_refused_by_name(photos, stray):
    (photos / "cow").mkdir()
    if stray:
        (photos / "cow" / stray).write_bytes(b"x")
    with pytest.raises(BadInput, match=r"class folder .*cow holds no images"):
        folder(photos)


def test_a_root_without_folders_is_refused(tmp_path):
    picture(0).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=f"found no class folders in {tmp_path}"):
        folder(tmp_path)


def test_a_root_that_is_missing_or_a_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"needs task.root=DIR"):
        ImageFolder().prepare(0)
    with pytest.raises(BadInput, match="there is no such folder"):
        folder(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="is a file: if it is an archive, unpack it"):
        folder(CASES / "security" / "climbs.zip")


def test_classes_are_in_natural_order_however_the_file_system_lists_them(tmp_path, monkeypatch):
    names = ["10", "a", "2", "B", "1"]
    for place, name in enumerate(names):
        fill(tmp_path / name, 4, 100 * place)
    expected = ImageFolder(root=str(tmp_path)).load()
    assert expected.classes == ["1", "2", "10", "a", "B"]
    assert [
        expected.names[k].split("/")[0] for k in np.unique(expected.labels, return_index=True)[1]
    ] == expected.classes
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *args: sorted(listed(*args), reverse=True))
    backwards = ImageFolder(root=str(tmp_path)).load()
    assert backwards.classes == expected.classes
    assert np.array_equal(backwards.images, expected.images)


def test_natural_order_is_total():
    names = ["b", "a10", "a9", "A9", "a09", "é", "e\u0301", "z", "", "9", "10", "9a"]
    assert len({str(natural(name)) for name in names}) == len(names)
    sorted(names, key=natural)  # never compares a number with a word
    assert sorted(["a10", "a9", "B1"], key=natural) == ["a9", "a10", "B1"]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_tiny_classes_are_refused_or_in_every_split(tmp_path, count):
    for place, (name, images) in enumerate((("a", 50), ("b", 50), ("tiny", count))):
        fill(tmp_path / name, images, 100 * place, size=(8, 8))
    if count < 3:
        with pytest.raises(BadInput, match=rf"class 'tiny' has {count} image.*the least is 3"):
            folder(tmp_path)
        return
    task, test = folder(tmp_path)
    for split in (task.train, task.held_out, test):
        assert (split.labels == 2).sum() >= 1


def test_one_class_is_refused(tmp_path):
    fill(tmp_path / "only", 9)
    with pytest.raises(BadInput, match=r"1 class \('only'\), and the least is 2"):
        folder(tmp_path)


def test_copies_under_other_names_stay_on_one_side(tmp_path, caplog):
    for place, label in enumerate(("a", "b")):
        fill(tmp_path / label, 40, 1000 * place)
        for number in range(10):
            shutil.copy(tmp_path / label / f"{number}.png", tmp_path / label / f"copy{number}.png")
        for number in range(2):
            picture(5000 + number).save(tmp_path / label / f"both{number}.png")
    task = ImageFolder(root=str(tmp_path))
    loaded = task.load()
    task.load = lambda: loaded
    for seed in range(50):
        test = task.prepare(seed)
        sides = [{image.tobytes() for image in split.images} for split in (task.train, task.held_out, test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert task.notes["duplicates"] == 22
    assert task.notes["conflicts"] == 2
    for name in ("a/both0.png", "b/both0.png", "a/both1.png", "b/both1.png"):
        assert name in caplog.text


def test_images_of_any_size_get_one(tmp_path):
    for label in ("a", "b"):
        for number in range(10):
            fill(tmp_path / label / str(number), 1, number + ord(label) * 100, size=(10 + 3 * number, 40 - 2 * number))
        shutil.copy(CASES / "images" / "one_pixel.png", tmp_path / label)
        shutil.copy(CASES / "images" / "strip_1x200.png", tmp_path / label)
        fill(tmp_path / label / "wide", 1, ord(label), size=(4000, 3))
    task, _ = folder(tmp_path)
    assert task.input == (3, 20, 20)
    assert folder(tmp_path, size=7)[0].input == (3, 7, 7)


@pytest.mark.parametrize(("side", "size"), [(1, 8), (9, 8), (11, 12), (28, 28), (64, 64), (500, 64)])
def test_the_size_is_that_of_the_images_within_limits(tmp_path, side, size):
    for label in ("a", "b"):
        fill(tmp_path / label, 4, ord(label) * 100, size=(side, side + 5))
    assert folder(tmp_path)[0].input == (3, size, size)


def test_transparency_and_orientation_are_as_in_single_files(tmp_path):
    for label in ("a", "b"):
        fill(tmp_path / label, 4, ord(label) * 100)
    for name in ("hidden_red.png", "hidden_blue.png", "hidden_palette.png", "rotated_exif6.jpg", "upright.png"):
        shutil.copy(CASES / "images" / name, tmp_path / "a")
    task = ImageFolder(root=str(tmp_path), size=24)
    loaded = task.load()
    images = {name.removeprefix("a/"): image for name, image in zip(loaded.names, loaded.images, strict=True)}
    assert np.array_equal(images["hidden_red.png"], images["hidden_blue.png"])
    assert np.array_equal(images["hidden_red.png"], images["hidden_palette.png"])
    assert np.abs(images["rotated_exif6.jpg"].astype(int) - images["upright.png"]).mean() / 255 < 0.05
    task.prepare(0)
    for name in ("hidden_red.png", "rotated_exif6.jpg"):
        assert np.array_equal(task.read_image(tmp_path / "a" / name), images[name])


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)<",
        "{{7*7}}",
        "[red]",
        "\x1b[31m",
        "two\nlines",
        "café",
        "a,b=(c)",
    ],
)
def test_names_are_just_names(photos, name):
    fill(photos / name, 1, 900)
    with pytest.raises(BadInput, match="has 1 image; the least is 3") as error:
        folder(photos)
    assert str(error.value).isprintable()
    fill(photos / name, 6, 900)
    assert name in folder(photos)[0].classes


def test_bytes_that_are_no_text_become_a_name_that_can_be_written(photos):
    fill(photos / os.fsdecode(b"caf\xe9"), 6, 900)
    task, _ = folder(photos)
    assert "caf\ufffd" in task.classes
    "".join(task.classes).encode()


def test_a_tilde_in_the_root_of_images_is_the_home(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos.parent))
    assert folder("~/photos")[0].outputs == 2


def test_a_bomb_is_refused(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(BadInput, match="more than 50 pixels"):
        folder(photos)


def test_a_file_without_colours_of_its_own_is_read_by_content(photos):
    buffer = io.BytesIO()
    picture(77).save(buffer, "JPEG")
    (photos / "cat" / "really_a_jpeg.png").write_bytes(buffer.getvalue())
    assert folder(photos)[0].notes["images"] == 41
