"""The tangent kernel of a real trained classifier: what it is, how training moved it, what it predicts, how sure it is.

Run it as `python trained_classifier.py`; it takes well under a minute. It trains a small network on scikit-learn's
8 x 8 digits, in plain JAX and optax, and draws `trained_kernel.png` and `trained_classifier.png`.
Nothing here needs a network made by ntkit: any `f(params, x)` will do, and at the end a PyTorch module.
"""

import importlib.util

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

from ntkit import EmpiricalNTK, GaussianProcess, KernelTracker, NTKOperator, linearized_laplace
from ntkit.plotting import plot_kernel_track
from ntkit.theory import centered_target_alignment

# 1. Data: 1,797 images of ten digits. 500 to learn from, 300 to choose a number by, the others to test on.

images, digits = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(digits))
train, validation, test = np.split(order, [500, 800])
middle = images[train].mean(axis=0)


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Pixels from 0 to 16, centred and of the order of 1."""
    return ((pixels - middle[None, :]) / 8.0).astype(np.float32)


x_train, x_test, digits_train, digits_test = (
    scaled(images[train]),
    scaled(images[test]),
    digits[train],
    digits[test],
)
one_hot = np.eye(10, dtype=np.float32)[digits_train]

# 2. A network: any function of parameters and inputs. Three dense layers, 17,610 parameters.


def f(params: dict, x: jax.Array) -> jax.Array:
    """Images (n, 64) to the scores of ten digits (n, 10)."""
    for layer in ("first", "second"):
        x = jax.nn.relu(x @ params[layer]["w"] + params[layer]["b"][None, :])
    return x @ params["head"]["w"] + params["head"]["b"][None, :]


def initial(key: jax.Array) -> dict:
    """Weights of variance 2 / (number of inputs), biases zero."""
    shapes = {"first": (64, 100), "second": (100, 100), "head": (100, 10)}
    normal = jax.nn.initializers.he_normal()
    return {
        name: {"w": normal(part, shape), "b": jnp.zeros(shape[-1])}
        for part, (name, shape) in zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True)
    }


# 3. Training, with the kernel recorded on the way. Three lines do that: make the tracker, call it, ask for the result.

STEPS = 1000
DECAY = 1.0  # a normal prior with precision 1 on every weight: the loss below is then minus a log posterior, over n
optimizer = optax.adam(1e-3)
start = params = initial(jax.random.key(0))
state = optimizer.init(params)


@jax.jit
def update(
    params: dict, state: optax.OptState, x: jax.Array, labels: jax.Array
) -> tuple[dict, optax.OptState]:
    """One step on one batch."""

    def loss(params: dict) -> jax.Array:
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(f(params, x), labels).mean()
        return cross_entropy + 0.5 * DECAY * optax.tree.norm(params, squared=True) / len(x_train)

    changes, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, changes), state


tracker = KernelTracker(f, x_train[:200], one_hot[:200], every=[0, *np.geomspace(1, STEPS, 16)])
batches = np.random.default_rng(0)
for step in range(STEPS + 1):
    tracker(step, params)
    batch = batches.choice(len(x_train), 100, replace=False)
    params, state = update(params, state, x_train[batch], digits_train[batch])
track = tracker.result()


def accuracy(outputs: np.ndarray | jax.Array) -> float:
    """The share of test digits whose output is the largest."""
    return float(np.mean(np.argmax(outputs, axis=1) == digits_test))


print(f"The trained network is right on {accuracy(f(params, x_test)):.1%} of the test digits.")

# 4. The kernel of the trained network, and how it is computed.

before, after = EmpiricalNTK(f, start), EmpiricalNTK(f, params)
print(f"\n{after}, between all training digits:\n{after.plan(x_train)}")

# 5. How training moved it. Growth is counted in the relative change, not in the distance (one less the cosine).

print(f"\nIn {STEPS} steps the kernel moved by {track.relative_change[-1]:.1f} times its norm;")
print(f"its kernel distance to the start is {track.distance[0, -1]:.3f}, half of it reached by step ", end="")
print(f"{track.steps[np.argmax(track.distance[0] > track.distance[0, -1] / 2)]:.0f}.")
print(
    f"Alignment with the labels: {track.alignment[0]:.2f} at the start, {track.alignment[-1]:.2f} at the end."
)
print(
    f"Effective rank: {track.effective_rank[0]:.1f} at the start, {track.effective_rank[-1]:.1f} at the end."
)

# 6. Which layers it is made of: one kernel for each block of parameters, whose sum is the kernel.

few, labels = x_train[:200], one_hot[:200]
print("\n          share of the trace   alignment with the labels")
print("          start  end           start  end")
by_layer = [kernel.blocks(few, by=lambda name: name.split("/")[0]) for kernel in (before, after)]
totals = [sum(np.trace(gram) for gram in blocks.values()) for blocks in by_layer]
for layer in by_layer[0]:
    shares = [np.trace(blocks[layer]) / total for blocks, total in zip(by_layer, totals, strict=True)]
    alignments = [centered_target_alignment(blocks[layer], labels) for blocks in by_layer]
    print(f"  {layer:7} {shares[0]:5.0%} {shares[1]:5.0%}          {alignments[0]:5.2f} {alignments[1]:5.2f}")

# 7. What the kernel alone predicts: regression on the labels, with the kernel at the start and the kernel at the end.

print("\nRight on test digits:")
for name, kernel in (("kernel at the start", before), ("kernel at the end", after)):
    noise = 1e-3 * float(kernel.diag(x_train).mean())
    regression = GaussianProcess(kernel, noise=noise).condition(x_train, one_hot - 0.1)
    print(f"  regression with the {name:20} {accuracy(regression.mean(x_test)):.1%}")
print(f"  the network                              {accuracy(f(params, x_test)):.1%}")

# 8. Without the matrix. On all training points the full kernel is 5,000 x 5,000; its largest eigenvalues need products.

operator = NTKOperator(f, params, x_train)
found = operator.eigenvalues(10)
print(f"\n{operator}: after {found.products} products its largest eigenvalues are")
print("  " + "  ".join(f"{value:.3g}" for value in found.values))
print(f"with errors below {found.bounds.max() / found.values[0]:.0e} of the largest;")
trace = operator.estimate_trace(jax.random.key(1))
print(f"all eigenvalues sum to {trace.value:.4g} ± {trace.standard_error:.1g}, so these ten hold ", end="")
print(f"{found.values.sum() / trace.value:.0%}.")

# 9. How sure it is. The linearised-Laplace posterior has the network's scores as its mean and takes their variance from
# the tangent kernel. Its one number, the prior precision, is chosen twice: by the marginal likelihood of the training
# data, and by the likelihood of the 300 digits kept for that, rotated by random angles since rotations are expected.
# Judged on 400 images like those of training, and on the same images rotated further and further.


def judged(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, mean probability of the predicted class, and mean negative log-likelihood of the true one."""
    right = np.mean(probabilities.argmax(axis=1) == labels)
    likelihood = probabilities[np.arange(len(labels)), labels]
    return (
        float(right),
        float(probabilities.max(axis=1).mean()),
        float(-np.log(likelihood.clip(1e-30)).mean()),
    )


evidence = linearized_laplace(f, params, outputs="independent").classification(x_train, digits_train)


def rotated(pixels: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Images turned by an angle each, in degrees, as the network takes them."""
    pairs = zip(pixels.reshape(-1, 8, 8), angles, strict=True)
    return scaled(
        np.stack([rotate(image, angle, reshape=False, order=1) for image, angle in pairs]).reshape(-1, 64)
    )


x_validation = rotated(images[validation], np.random.default_rng(1).uniform(-45, 45, len(validation)))
candidates = [evidence.with_hyperparameters(prior_precision=10.0**power) for power in (1.5, 2, 2.5, 3)]
held_out = min(
    candidates, key=lambda each: judged(each.class_probabilities(x_validation), digits[validation])[2]
)
print(
    f"\nPrior precision: {DECAY:.3g} in training, {evidence.prior_precision:.3g} by the marginal likelihood, ",
    end="",
)
print(f"{held_out.prior_precision:.3g} by rotated held-out digits.")

predictions = {
    "network": lambda x: np.asarray(jax.nn.softmax(f(params, x))),
    "marginal likelihood": evidence.class_probabilities,
    "rotated held-out digits": held_out.class_probabilities,
}
angles = (0, 15, 30, 45, 90)
scores = np.zeros((len(angles), len(predictions), 3))
print("\nrotated by                  right   mean confidence   negative log-likelihood")
for row, angle in enumerate(angles):
    turned, labels = rotated(images[test[:400]], np.full(400, angle)), digits_test[:400]
    for column, (name, predict) in enumerate(predictions.items()):
        scores[row, column] = right, confidence, nll = judged(predict(turned), labels)
        print(f"  {angle:2}° {name:23} {right:5.1%}    {confidence:5.1%}             {nll:6.3f}")

# 10. The same in PyTorch: `ntkit.torch` takes a module. Here with the same weights, so that the kernels must agree.

if importlib.util.find_spec("torch"):
    import torch

    from ntkit.torch import EmpiricalNTK as TorchNTK

    linear = {name: torch.nn.Linear(*layer["w"].shape) for name, layer in params.items()}
    for name, layer in linear.items():
        layer.weight.data = torch.tensor(np.asarray(params[name]["w"].T))
        layer.bias.data = torch.tensor(np.asarray(params[name]["b"]))
    relu = torch.nn.ReLU()
    module = torch.nn.Sequential(linear["first"], relu, linear["second"], relu, linear["head"])
    gram = TorchNTK(module)(x_train[:200])  # NumPy in, NumPy out; tensors in, tensors out
    difference = np.linalg.norm(gram - after(few)) / np.linalg.norm(gram)
    print(f"\nThe kernel of the same network in PyTorch differs by {difference:.0e}.")

# 11. The pictures.

plot_kernel_track(track).savefig("trained_kernel.png", dpi=110)

figure, (left, center, right_panel) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for name, kernel in (("at the start", before), ("at the end", after)):
    eigenvalues = np.linalg.eigvalsh(kernel(few).astype(np.float64))[::-1]
    left.loglog(np.arange(1, len(few) + 1), eigenvalues, label=name)
left.set_xlabel("number of the eigenvalue, 200 digits")
left.set_ylabel("eigenvalue of the kernel")
left.legend(frameon=False)
center.plot(angles, scores[:, 0, 0], "k--", label="share right (network)")
for column, (name, mark) in enumerate(zip(predictions, "os^", strict=True)):
    center.plot(angles, scores[:, column, 1], f"{mark}-", label=f"confidence, {name}")
    right_panel.plot(angles, scores[:, column, 2], f"{mark}-", label=name)
center.set_ylim(0.0, 1.0)
right_panel.set_yscale("log")
right_panel.set_ylabel("negative log-likelihood")
for panel in (center, right_panel):
    panel.set_xlabel("rotation in degrees")
figure.legend(*center.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
figure.savefig("trained_classifier.png", dpi=130)
print("\nThe pictures are trained_kernel.png and trained_classifier.png.")
