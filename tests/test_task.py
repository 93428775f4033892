import logging
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automl import BadInput, Data, Dataset, Task


@dataclass(kw_only=True)
class Given(Task):
    """A task of the data that it is given."""

    data: Data = field(repr=False, default=None)

    def load(self):
        return self.data


def pictures(numbers, size=4):
    """Return an image for each number, equal for equal numbers and different for others."""
    numbers = np.asarray(numbers, dtype=np.int64)
    return (
        np.stack([numbers % 256, numbers // 256], -1)
        .astype(np.uint8)
        .repeat(size * size // 2, 1)
        .reshape(-1, 1, size, size)
    )


def data(numbers, labels, classes=None, test=None, **more):
    labels = np.asarray(labels, dtype=np.int64)
    classes = classes or [f"class {label}" for label in range(max(labels) + 1)]
    return Data(pictures(numbers), labels, classes, test, **more)


def even(count, classes=2):
    return data(range(count), np.arange(count) % classes)


def contents(dataset):
    return {image.tobytes() for image in dataset.images}


def labelled(dataset):
    return sorted((image.tobytes(), label) for image, label in zip(dataset.images, dataset.labels, strict=True))


def splits(task, seed=0):
    test = task.prepare(seed)
    return task.train, task.held_out, test


@st.composite
def sets(draw):
    """Draw data with duplicates and conflicting labels, and a test set or none."""
    classes = draw(st.integers(2, 4))
    numbers = draw(st.lists(st.integers(0, 60), min_size=classes, max_size=80))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=len(numbers), max_size=len(numbers)))
    # most classes get images of their own, so that most examples can be split
    own = [(100 + 10 * label + k, label) for label in range(classes) for k in range(draw(st.integers(0, 5)))]
    numbers, labels = numbers + [n for n, _ in own], labels + [label for _, label in own]
    test = None
    if draw(st.booleans()):
        drawn = draw(st.lists(st.integers(0, 120), min_size=classes, max_size=20))
        test = Dataset(pictures(drawn), np.arange(len(drawn)) % classes)
    return data(numbers, labels, [f"class {label}" for label in range(classes)], test)


@settings(max_examples=200, deadline=None)
@given(sets(), st.integers(0, 2**32), st.none() | st.integers(8, 60))
def test_no_picture_is_in_two_splits_and_every_class_is_in_each(loaded, seed, limit):
    task = Given(data=loaded, images=limit)
    try:
        train, validation, test = splits(task, seed)
    except BadInput as error:
        assert "the least is" in str(error)  # too few of a class
        return
    assert contents(train).isdisjoint(contents(validation))
    assert contents(train).isdisjoint(contents(test))
    assert contents(validation).isdisjoint(contents(test))
    for split in (train, validation) if loaded.test else (train, validation, test):
        assert set(split.labels) == set(range(len(loaded.classes)))
    known = {(image.tobytes(), label) for image, label in zip(loaded.images, loaded.labels, strict=True)}
    for split in (train, validation):
        assert set(labelled(split)) <= known
    used = len(train) + len(validation) + (0 if loaded.test else len(test))
    assert used + task.notes["unused"] + task.notes["equal_to_test"] == len(loaded.labels)
    if limit is not None:
        assert len(train) + len(validation) <= limit
    assert sum(task.notes["train"]) == len(train)
    assert sum(task.notes["validation"]) == len(validation)
    assert sum(task.notes["test"]) == len(test)


@settings(max_examples=50, deadline=None)
@given(sets(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_splits_are_those_of_the_seed_whatever_the_order_of_the_files(loaded, seed, random):
    order = list(range(len(loaded.labels)))
    random.shuffle(order)
    shuffled = Data(loaded.images[order], loaded.labels[order], loaded.classes, loaded.test)
    try:
        found = [labelled(split) for split in splits(Given(data=loaded), seed)]
    except BadInput:
        return
    assert found == [labelled(split) for split in splits(Given(data=loaded), seed)]
    assert found == [labelled(split) for split in splits(Given(data=shuffled), seed)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(20, 90), min_size=2, max_size=5), st.sampled_from([0.1, 0.15, 0.25]), st.integers(0, 99))
def test_splits_have_nearly_the_same_share_of_every_class(sizes, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    task = Given(data=data(range(sum(sizes)), labels), validation=share, test=share)
    _, validation, test = splits(task, seed)
    assert len(test) == round(share * sum(sizes))
    assert len(validation) == round(share * sum(sizes))
    for split in (validation, test):
        assert (np.abs(np.bincount(split.labels) - share * np.array(sizes)) < 1).all()


def test_tasks_are_equal_by_their_fields_before_and_after_they_are_prepared():
    loaded = even(40)
    first, second = Given(data=loaded), Given(data=loaded)
    assert first == second
    first.prepare(0)
    assert first == second
    assert first != Given(data=loaded, crop=1)


def test_seeds_split_differently():
    assert contents(splits(Given(data=even(40)), 0)[2]) != contents(splits(Given(data=even(40)), 1)[2])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_class_too_small_is_refused_by_name_and_count(count):
    few = data(range(100 + count), [0] * 50 + [1] * 50 + [2] * count, ["cat", "dog", "owl"])
    with pytest.raises(BadInput, match=rf"class 'owl' has {count} images?; the least is 3"):
        Given(data=few).prepare(0)


@pytest.mark.parametrize("count", [3, 4])
def test_three_images_are_enough_for_a_class(count):
    for seed in range(20):
        for split in splits(Given(data=data(range(100 + count), [0] * 50 + [1] * 50 + [2] * count)), seed):
            assert (split.labels == 2).any()


def test_copies_do_not_make_a_class_larger():
    with pytest.raises(BadInput, match="class 'b' has 9 images, but only 2 that differ"):
        Given(data=data([*range(10), *[20] * 8, 21], [0] * 10 + [1] * 9, ["a", "b"])).prepare(0)


def test_two_hundred_classes_of_three_are_in_every_split():
    for split in splits(Given(data=even(600, 200))):
        assert np.bincount(split.labels).tolist() == [1] * 200


@pytest.mark.parametrize("classes", [[], ["only"]])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(BadInput, match="and the least is 2"):
        Given(data=data(range(5), [0] * 5, classes or None) if classes else data([], [], ["x"])).prepare(0)


def test_no_images_are_refused():
    with pytest.raises(BadInput, match="2 classes and no images"):
        Given(data=Data(np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, np.int64), ["a", "b"])).prepare(0)


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(BadInput, match="together they must be below 1"):
        Given(data=even(40), validation=0.5, test=0.5).prepare(0)


def test_copies_stay_together_and_conflicts_are_named(caplog):
    # two classes of 40, 10 of each there twice, and two pictures in both
    numbers = [*range(40), *range(10), *range(100, 140), *range(100, 110), 200, 201, 200, 201]
    labels = [0] * 50 + [1] * 50 + [0, 0, 1, 1]
    names = [f"{'ab'[label]}/{place}.png" for place, label in enumerate(labels)]
    for seed in range(50):
        caplog.clear()
        task = Given(data=data(numbers, labels, ["a", "b"], names=names))
        train, validation, test = (contents(split) for split in splits(task, seed))
        assert not (train & validation or train & test or validation & test)
        assert task.notes["duplicates"] == 22
        assert task.notes["conflicts"] == 2
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        for name in ("a/100.png", "b/102.png", "a/101.png", "b/103.png"):
            assert name in warning
        assert "22 copies of others; 2 with two labels" in task.describe()


def test_names_in_warnings_cannot_drive_a_terminal(caplog):
    Given(data=data([*range(20), 99, 99], [0, 1] * 10 + [0, 1], names=["\x1b[31m"] * 22)).prepare(0)
    assert "\x1b" not in caplog.text
    assert "\\x1b[31m" in caplog.text


def test_training_images_that_are_in_the_test_set_are_left_out():
    test = Dataset(pictures([0, 1, 2, 900]), np.array([0, 1, 0, 1]))
    task = Given(data=data([*range(40), 2], np.arange(41) % 2, test=test))
    train, validation, returned = splits(task)
    assert returned is test
    assert len(train) + len(validation) == 37
    assert task.notes["equal_to_test"] == 4
    assert len(validation) == round(0.15 * 37)


def test_a_test_set_without_a_class_is_warned_of(caplog):
    Given(data=data(range(40), np.arange(40) % 2, ["a", "b"], Dataset(pictures([900]), np.array([0])))).prepare(0)
    assert "1 of 2 classes have no image in the test set: b" in caplog.text


def test_the_task_keeps_no_test_image():
    for given_test in (None, Dataset(pictures([900, 901]), np.array([0, 1]))):
        task = Given(data=data(range(40), np.arange(40) % 2, test=given_test))
        test = task.prepare(0)
        kept = contents(task.train) | contents(task.held_out)
        assert kept.isdisjoint(contents(test))
        for name, value in vars(task).items():
            assert value is not test, name
            assert name == "data" or not np.shares_memory(getattr(value, "images", np.zeros(1)), test.images)


def test_images_limits_training_and_validation_but_not_the_test():
    whole, few = Given(data=even(1000, 4)), Given(data=even(1000, 4), images=100)
    test, same = whole.prepare(0), few.prepare(0)
    assert contents(test) == contents(same)
    assert len(few.train) + len(few.held_out) == 100
    assert np.bincount(few.train.labels).tolist() == few.notes["train"]
    assert max(few.notes["train"]) - min(few.notes["train"]) <= 1
    assert abs(len(few.held_out) / 100 - len(whole.held_out) / 850) < 0.01
    assert few.notes["unused"] == 750
    assert "750 not used" in few.describe()


def test_small_classes_get_their_least_from_the_large_ones():
    labels = [0] * 900 + [label for label in range(1, 10) for _ in range(4)]
    task = Given(data=data(range(936), labels), images=24)
    train, validation, _ = splits(task)
    assert len(train) + len(validation) == 24
    assert (np.bincount(train.labels) + np.bincount(validation.labels)).tolist() == [6] + [2] * 9


def test_too_few_images_for_the_classes_are_refused():
    with pytest.raises(BadInput, match=r"task.images=7 is too few for 4 classes.*the least is 8"):
        Given(data=even(100, 4), images=7).prepare(0)


def test_description_is_one_line_with_the_splits():
    task = Given(data=even(1797, 10))
    task.prepare(0)
    assert task.describe() == "Given (1,797 images, 10 classes; 1,257 train, 270 validation, 270 test kept aside)"


def test_input_outputs_and_moments_are_those_of_the_training_images():
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 5, 4), dtype=np.uint8)
    images[:, 1] = 51
    task = Given(data=Data(images, np.arange(60) % 3, ["a", "b", "c"]))
    task.prepare(0)
    assert task.input == (3, 5, 4)
    assert task.outputs == 3
    scaled = task.train.images / 255
    assert task.mean == pytest.approx(scaled.mean((0, 2, 3)))
    assert task.std[0] == pytest.approx(scaled[:, 0].std())
    assert task.std[1] == 1  # nothing is divided by zero


def test_sixty_thousand_images_are_split_in_the_time_of_a_few_copies():
    import time

    def seconds(work):
        started = time.process_time()
        work()
        return time.process_time() - started

    images = np.random.default_rng(0).integers(0, 256, (60_000, 1, 28, 28), dtype=np.uint8)
    task = Given(data=Data(images, np.arange(60_000) % 10, [str(k) for k in range(10)]))
    order = np.random.default_rng(1).permutation(60_000)
    copying = seconds(lambda: images[order].astype(np.float32).std())
    assert seconds(lambda: task.prepare(0)) < 20 * copying


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def coordinates(count, height=6, width=5, channels=2):
    """Return images whose pixels are all different and none zero, the same in each image."""
    pixels = torch.arange(1, channels * height * width + 1).view(1, channels, height, width)
    return pixels.repeat(count, 1, 1, 1)


def test_shifts_are_bounded_and_all_of_them_occur():
    crop, images = 2, coordinates(2000)
    padded = torch.nn.functional.pad(images[0], [crop] * 4)
    candidates = {}
    for down in range(2 * crop + 1):
        for right in range(2 * crop + 1):
            window = padded[:, down : down + 6, right : right + 5]
            for mirrored in (False, True):
                seen = window.flip(2) if mirrored else window
                candidates[seen.numpy().tobytes()] = (down, right, mirrored)
    out = Given(crop=crop, flip=True).augment(images, generator())
    met = [candidates[image.numpy().tobytes()] for image in out]  # a KeyError is an image that is none of them
    assert set(met) == set(candidates.values())
    assert abs(sum(mirrored for *_, mirrored in met) / 2000 - 0.5) < 0.05
    for axis in (0, 1):
        assert abs(np.mean([shift[axis] for shift in met]) - crop) < 0.15


def test_without_flip_none_is_mirrored():
    out = Given(crop=1).augment(coordinates(200), generator())
    rows = out[:, 0, 2]
    assert ((rows[:, 1:] > rows[:, :-1]) | (rows[:, 1:] == 0)).all()


def test_flip_alone_mirrors_half():
    images = coordinates(2000)
    out = Given(flip=True).augment(images, generator())
    mirrored = (out == images.flip(3)).all((1, 2, 3))
    assert (mirrored | (out == images).all((1, 2, 3))).all()
    assert abs(mirrored.float().mean() - 0.5) < 0.05


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_a_square_of_the_cutout_is_lost(side):
    images = torch.ones(3000, 2, 9, 7)
    lost = Given(cutout=side).augment(images, generator()) == 0
    assert (lost[:, 0] == lost[:, 1]).all()
    rows, columns = lost[:, 0].any(2).sum(1), lost[:, 0].any(1).sum(1)
    assert (lost[:, 0].sum((1, 2)) == rows * columns).all()  # a rectangle
    assert rows.max() == columns.max() == side
    assert rows.min() >= (side + 1) // 2  # a part of it outside
    assert (lost[:, 0].float().mean(0) > 0).all()  # anywhere


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("count", [1, 5])
def test_type_size_and_layout_stay_and_the_images_given_too(dtype, count):
    task = Given(crop=1, flip=True, cutout=2)
    images = coordinates(count, channels=3).to(dtype)
    before = images.clone()
    out = task.augment(images, generator())
    assert out.dtype == dtype
    assert out.shape == images.shape
    assert out.is_contiguous()
    assert torch.equal(images, before)
    last = task.augment(images.contiguous(memory_format=torch.channels_last), generator())
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, out)


def test_augmentation_is_drawn_from_the_generator_alone():
    task, images = Given(crop=2, flip=True, cutout=2), coordinates(50)
    state = torch.random.get_rng_state()
    first = task.augment(images, generator(1))
    assert torch.equal(first, task.augment(images, generator(1)))
    assert not torch.equal(first, task.augment(images, generator(2)))
    assert torch.equal(state, torch.random.get_rng_state())


def test_no_images_are_augmented_to_none():
    assert Given(crop=1, flip=True, cutout=2).augment(coordinates(0), generator()).shape == (0, 2, 6, 5)


def test_no_augmentation_gives_the_images_themselves():
    images = coordinates(3)
    assert Given().augment(images, generator()) is images


def test_a_crop_larger_than_the_image_works():
    out = Given(crop=9).augment(coordinates(50, 3, 3), generator())
    assert out.shape == (50, 2, 3, 3)


def test_loss_is_cross_entropy_in_single_precision():
    outputs = torch.randn(7, 4, generator=generator())
    labels = torch.arange(7) % 4
    task = Given()
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=smoothing)
        assert task.loss(outputs, labels, smoothing) == expected
    assert task.loss(outputs.bfloat16(), labels).dtype == torch.float32


def test_scores_of_batches_add_up_to_those_of_all():
    outputs, labels = torch.randn(11, 4, generator=generator()), torch.arange(11) % 4
    task = Given()
    batches = [task.score(outputs[k : k + 4], labels[k : k + 4]) for k in (0, 4, 8)]
    assert set(batches[0]) == set(task.metrics())
    accuracy, loss = (sum(batch[name] for batch in batches).item() / 11 for name in ("accuracy", "loss"))
    assert accuracy == pytest.approx((outputs.argmax(1) == labels).float().mean().item())
    assert loss == pytest.approx(task.loss(outputs, labels).item(), rel=1e-5)


def test_an_image_file_is_read_in_the_colours_and_size_of_the_task(tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "red.png")
    task = Given(data=even(40))
    task.prepare(0)
    image = task.read_image(tmp_path / "red.png")
    assert image.shape == (1, 4, 4)
    assert image.dtype == np.uint8
    assert (image == 76).all()


def test_light_things_are_imported_without_numpy_and_torch():
    import subprocess
    import sys

    code = "import sys, automl.task; sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
