"""The family `loading`: every image once with its label, and nothing left behind."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from bench.suite.loading import data, workers
from bench.suite.loading.workers import (
    START_METHODS,
    FirstBatch,
    delivers,
    loader_of,
    one_epoch,
    watched,
)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_images_spell_their_number_after_compression(kind):
    images = data.custom_images(kind)
    assert len(images) == data.IMAGES
    for index in range(0, data.IMAGES, 17):
        image, label = images[index]
        assert image.dtype == torch.uint8
        assert tuple(image.shape) == (3, data.SIDE, data.SIDE)
        assert data.number_of(image) == index
        assert data.number_of(image / 255) == index
        assert label == data.label_of(index)


def test_images_are_made_once():
    (first,) = {(data.image_folder("png") / "labels.csv").stat().st_mtime_ns for _ in range(2)}
    assert first


@pytest.mark.integration
@pytest.mark.parametrize(
    ("write", "make"),
    [("write_png", lambda: data.image_folder("png")), ("_write_idx", data.made_up_fashion_mnist)],
)
def test_two_that_begin_together_leave_what_the_first_has_made(monkeypatch, tmp_path, write, make):
    """The other one is done, and times its files, while this one still writes."""
    monkeypatch.setattr(data, "cache", lambda: tmp_path)
    monkeypatch.setattr(data, "IMAGES", 3)
    real, files = getattr(data, write), {}

    def writes(*args):
        if not files:
            monkeypatch.setattr(data, write, real)
            there = filter(Path.is_file, make().rglob("*"))
            files.update({path: path.stat().st_mtime_ns for path in there})
            time.sleep(0.05)
        real(*args)

    monkeypatch.setattr(data, write, writes)
    folder = make()
    assert files
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_images_are_made_again(monkeypatch, tmp_path, damage):
    """A file that another program has emptied or removed; a process looks once."""
    monkeypatch.setattr(data, "cache", lambda: tmp_path)
    monkeypatch.setattr(data, "IMAGES", 3)
    damage(data.image_folder("png") / "001.png")
    data._is_whole.cache_clear()
    assert [data.number_of(image) for image, _ in data.custom_images("png")] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["png"]


def test_what_could_not_be_finished_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "cache", lambda: tmp_path)
    monkeypatch.setattr(data, "IMAGES", 3)
    monkeypatch.setattr(data, "label_of", {0: 0}.__getitem__)
    with pytest.raises(KeyError):
        data.image_folder("png")
    assert list(tmp_path.iterdir()) == []


def test_made_up_images_have_the_format_of_fashion_mnist():
    from torchvision.datasets import FashionMNIST

    root = str(data.made_up_fashion_mnist())
    for train, count in ((True, 60_000), (False, 10_000)):
        images = FashionMNIST(root, train=train)
        assert tuple(images.data.shape) == (count, 28, 28)
        assert set(images.targets.tolist()) == set(range(10))


def test_one_hot_is_one_hot():
    assert data.one_hot(3).tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


@pytest.fixture
def children(monkeypatch):
    """The processes that a test starts, without those that other tests have left running."""
    before = set(psutil.Process().children(recursive=True))

    def started():
        return set(psutil.Process().children(recursive=True)) - before

    monkeypatch.setattr(workers, "_children", started)
    return lambda: workers._without_helpers(started())


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Generate few images: what is checked of each is the same. Return how many there are."""
    monkeypatch.setattr(data, "cache", lambda: tmp_path / "few")
    monkeypatch.setattr(data, "IMAGES", 40)
    return data.IMAGES


@pytest.mark.integration
@pytest.mark.parametrize(
    ("start", "count"),
    [(START_METHODS[0], 0), (START_METHODS[0], 2), *((start, 1) for start in START_METHODS[1:])],
)
def test_every_image_comes_once_with_its_label_and_the_workers_end(children, few, start, count):
    settings = {"multiprocessing_context": start, "persistent_workers": True}
    with loader_of(data.custom_images(), batch_size=8, num_workers=count, **settings) as loader:
        check = delivers(data.image_folder("jpeg"), few, 8, count)
        assert check(watched(one_epoch, loader)).fault == ""
        assert len(children()) == count
        assert bool(workers.memory_of_workers()) == (count > 0)
    assert children() == []


@pytest.mark.integration
def test_workers_end_where_the_cell_fails(children):
    def fail():
        with loader_of(data.custom_images(), num_workers=1, persistent_workers=True) as loader:
            next(iter(loader))
            raise RuntimeError("injected")

    with pytest.raises(RuntimeError, match="injected"):
        fail()
    assert children() == []


class Mislabelled(data.CustomImageDataset):
    """Image 9 has the label of another."""

    def __getitem__(self, idx):
        image, label = super().__getitem__(idx)
        return image, label + (idx == 9)


class Dimmed(data.CustomImageDataset):
    """One value of image 9 is another."""

    def __getitem__(self, idx):
        image, label = super().__getitem__(idx)
        image[2, -1, -1] += idx == 9
        return image, label


def test_what_an_epoch_must_not_deliver_is_seen(few):
    images = data.custom_images("png")
    folder = data.image_folder("png")

    def fault(dataset, batch=16, workers=0, shuffled=False, **settings):
        check = delivers(folder, few, 16, workers, shuffled)
        return check(watched(one_epoch, DataLoader(dataset, batch, **settings))).fault

    assert fault(images) == ""
    assert fault(images, shuffle=True, shuffled=True) == ""
    assert fault(Subset(images, range(39))) == "3 batches of [7, 16] images"
    assert fault(images, batch=8) == "5 batches of [8] images"
    assert fault(images, workers=2) == "0 workers, not 2"
    assert "in this place" in fault(Subset(images, [*range(39), 9]))
    assert "in this place" in fault(data.custom_images("png", Dimmed))
    assert "not each of them once" in fault(Subset(images, [*range(39), 3]), shuffled=True)
    assert "in another order" in fault(images, shuffled=True)
    assert fault(data.custom_images("png", Mislabelled)) == "image 9 came with label 4"
    wide = data.custom_images("png", target_transform=float)
    assert fault(wide) == "labels of {torch.float64}, not torch.int64"


def test_a_second_pass_has_the_promised_workers_and_another_order(few):
    passed = watched(one_epoch, DataLoader(data.custom_images("png", count=few), 16))
    mixed = watched(one_epoch, DataLoader(data.custom_images("png", count=few), 16, shuffle=True))

    def faults(one, workers, **facts):
        check = delivers(data.image_folder("png"), few, 16, len(workers[0]), **facts)
        found = []
        for one.workers in workers:
            found.append(check(one).fault)
        assert found[0] == ""
        return found[1]

    assert faults(passed, [{1}, {1}], kept=True) == ""
    assert faults(passed, [{1}, {2}]) == ""
    assert faults(passed, [{1}, {2}], kept=True) == "the workers ended"
    assert faults(passed, [{1}, {1}]) == "the workers are still the same"
    assert faults(mixed, [{}, {}], shuffled=True) == "the images are in the same order as before"


def test_an_order_that_is_hardly_random_is_no_shuffle(few):
    dataset = data.custom_images("png", count=few)
    for order in ([*range(1, few), 0], [*range(few)][::-1], [k ^ 1 for k in range(few)]):
        passed = watched(one_epoch, DataLoader(Subset(dataset, order), 16))
        check = delivers(data.image_folder("png"), few, 16, shuffled=True)
        assert check(passed).fault == "the order of the images is hardly random"


def test_a_data_set_is_watched_by_index(few):
    from bench.suite.loading import bench_dataset
    from bench.suite.loading.workers import one_by_one

    check = one_by_one(delivers(data.image_folder("png"), few, 1))
    for dataset, right in ((data.custom_images("png"), True), (Subset([], []), False)):
        assert (check(watched(bench_dataset.by_index, dataset)).fault == "") is right


def test_images_repeat_up_to_a_count(few):
    images = data.custom_images("png", count=few + 2)
    assert len(images) == few + 2
    assert data.number_of(images[few + 1][0]) == 1


@pytest.mark.integration
def test_the_workers_of_the_first_batch_end_before_the_next_call(children, few):
    settings = {"num_workers": 1, "batch_size": 4}
    first = FirstBatch(data.custom_images(), settings)
    for _ in range(2):
        images, labels = first()
        assert (len(images), labels.tolist()) == (4, [data.label_of(k) for k in range(4)])
        assert len(children()) == 1
        first.close()
        assert children() == []


@pytest.mark.usefixtures("few")
def test_a_batch_fetched_at_once_is_the_same():
    one = DataLoader(data.custom_images(), 16)
    at_once = DataLoader(data.custom_images(dataset=data.BatchedImageDataset), 16)
    for (a, b), (c, d) in zip(one, at_once, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_a_lambda_is_refused_with_the_remedy():
    from bench.suite.loading import bench_loader

    images = data.custom_images(target_transform=lambda label: label)
    settings = {"num_workers": 1, "multiprocessing_context": "spawn"}
    with pytest.raises(NotImplementedError, match="use a function of a module") as caught:
        bench_loader.take_first(FirstBatch(images, settings))
    assert isinstance(caught.value.__cause__, (AttributeError, TypeError, pickle.PicklingError))


def test_an_epoch_takes_every_batch():
    taken = []
    one_epoch(iter(map(taken.append, range(3))))
    assert taken == [0, 1, 2]


def shared_memory():
    folder = Path("/dev/shm")
    return set(folder.iterdir()) if folder.is_dir() else set()


@pytest.mark.integration
def test_a_worker_that_is_killed_does_not_replace_what_the_cell_raises(monkeypatch):
    monkeypatch.setattr(workers, "GRACE_S", 0)
    before = psutil.Process().children()
    held = []  # as a frame holds them after Ctrl-C while the workers start

    def interrupted():
        with loader_of(range(9), num_workers=2) as loader:
            held.append(iter(loader))
            next(held[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert psutil.Process().children() == before


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_no_worker_and_no_shared_memory(tmp_path):
    before = shared_memory()
    words = [
        "-m",
        "pytest",
        "bench/suite/loading",
        "--benchmark-only",
        "--benchmark-min-rounds=999",
    ]
    words += ["-k", "bench_loader_persistent_workers and yes", "--results", str(tmp_path)]
    running = subprocess.Popen(
        [sys.executable, *words],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # A shell that runs the tests in the background lets them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process = psutil.Process(running.pid)
    while running.poll() is None and len(process.children(recursive=True)) < 2:
        time.sleep(0.05)
    children = process.children(recursive=True)
    assert len(children) >= 2
    # To the whole group, as a terminal does.
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(timeout=120) == pytest.ExitCode.INTERRUPTED
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert shared_memory() <= before
