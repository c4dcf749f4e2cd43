"""The tangent kernel of a real trained classifier: what it is, how training moved it, what it predicts, how sure it is.

Run it as `python trained_classifier.py`; it takes well under a minute. It trains a small convolutional network on
scikit-learn's 8 x 8 digits, in plain JAX and optax, and draws `trained_kernel.png` and `trained_classifier.png`.
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
from sklearn.model_selection import train_test_split

from ntkit import EmpiricalNTK, GaussianProcess, KernelTracker, NTKOperator, linearized_laplace
from ntkit.plotting import plot_kernel_track
from ntkit.theory import centered_target_alignment

# 1. Data: 1,797 images of ten digits, 1,000 of them to learn from.

images, digits = load_digits(return_X_y=True)
raw_train, raw_test, digits_train, digits_test = train_test_split(
    images, digits, train_size=1000, stratify=digits, random_state=0
)
middle = raw_train.mean(axis=0)


def scaled(raw: np.ndarray) -> np.ndarray:
    """Pixels from 0 to 16 in rows of 64, as centred images (n, 8, 8, 1)."""
    return ((raw - middle[None, :]) / 8.0).reshape(-1, 8, 8, 1).astype(np.float32)


x_train, x_test = scaled(raw_train), scaled(raw_test)
one_hot = np.eye(10, dtype=np.float32)[digits_train]

# 2. A network: any function of parameters and inputs. Two convolutions and two dense layers, 11,938 parameters.


def convolve(layer: dict, x: jax.Array, stride: int) -> jax.Array:
    """A convolution with 3 x 3 pixels, and its biases."""
    out = jax.lax.conv_general_dilated(
        x, layer["w"], (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out + layer["b"][None, None, None, :]


def f(params: dict, x: jax.Array) -> jax.Array:
    """Images (n, 8, 8, 1) to the scores of ten digits (n, 10)."""
    x = jax.nn.relu(convolve(params["conv1"], x, stride=1))
    x = jax.nn.relu(convolve(params["conv2"], x, stride=2))
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(x @ params["dense"]["w"] + params["dense"]["b"][None, :])
    return x @ params["head"]["w"] + params["head"]["b"][None, :]


def initial(key: jax.Array) -> dict:
    """Weights of variance 2 / (number of inputs), biases zero."""
    shapes = {"conv1": (3, 3, 1, 8), "conv2": (3, 3, 8, 16), "dense": (256, 40), "head": (40, 10)}
    normal = jax.nn.initializers.he_normal()
    return {
        name: {"w": normal(part, shape), "b": jnp.zeros(shape[-1])}
        for part, (name, shape) in zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True)
    }


# 3. Training, with the kernel recorded on the way. Three lines do that: make the tracker, call it, ask for the result.

STEPS = 1000
DECAY = 1.0  # a normal prior with precision 1 on every weight: the loss below is then minus a log posterior, over n
optimizer = optax.adam(2e-3)
start = params = initial(jax.random.key(0))
state = optimizer.init(params)


@jax.jit
def update(params: dict, state: optax.OptState, x: jax.Array, labels: jax.Array) -> tuple[dict, optax.OptState]:
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


def accuracy(scores: np.ndarray) -> float:
    """The share of test digits whose score is the largest."""
    return float(np.mean(np.argmax(scores, axis=1) == digits_test))


print(f"The trained network is right on {accuracy(f(params, x_test)):.1%} of the test digits.")

# 4. The kernel of the trained network, and how it is computed.

before, after = EmpiricalNTK(f, start), EmpiricalNTK(f, params)
print(f"\n{after}, between all training digits:\n{after.plan(x_train)}")

# 5. How training moved it. Growth is counted in the relative change, not in the distance (one less the cosine).

print(f"\nIn {STEPS} steps the kernel moved by {track.relative_change[-1]:.1f} times its norm;")
print(f"its kernel distance to the start is {track.distance[0, -1]:.3f}, half of it reached by step ", end="")
print(f"{track.steps[np.argmax(track.distance[0] > track.distance[0, -1] / 2)]:.0f}.")
print(f"Alignment with the labels: {track.alignment[0]:.2f} at the start, {track.alignment[-1]:.2f} at the end.")
print(f"Effective rank: {track.effective_rank[0]:.1f} at the start, {track.effective_rank[-1]:.1f} at the end.")

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

# 8. Without the matrix. On all training points the full kernel is 10,000 x 10,000; its largest eigenvalues need products.

operator = NTKOperator(f, params, few)
found = operator.eigenvalues(10)
print(f"\n{operator}: after {found.products} products its largest eigenvalues are")
print("  " + "  ".join(f"{value:.3g}" for value in found.values))
print(f"with errors below {found.bounds.max() / found.values[0]:.0e} of the largest;")
trace = operator.estimate_trace(jax.random.key(1))
print(f"all eigenvalues sum to {trace.value:.4g} ± {trace.standard_error:.1g}, so these ten hold ", end="")
print(f"{found.values.sum() / trace.value:.0%}.")

# 9. How sure it is. The linearised-Laplace posterior has the network's scores as its mean and takes their variance from
# the tangent kernel; its one number, the prior precision, maximises the marginal likelihood. Here on images like those
# of training, and on images that are not: rotated further and further.

posterior = linearized_laplace(f, params, outputs="independent").classification(x_train, digits_train)
print(f"\n{posterior.effective_parameters:.0f} effective parameters; ", end="")
print(f"prior precision {posterior.prior_precision:.3g}, that of the training was {DECAY}.")


def judged(probabilities: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, mean probability of the predicted class, and mean negative log-likelihood of the true one."""
    likelihood = probabilities[np.arange(len(probabilities)), digits_test]
    nll = -np.mean(np.log(likelihood.clip(1e-12)))
    return accuracy(probabilities), float(probabilities.max(axis=1).mean()), float(nll)


angles = [0, 15, 30, 45, 60, 75, 90]
print("\nrotated by   right    mean confidence       negative log-likelihood")
print("                      network  Laplace      network  Laplace")
plain, averaged = [], []
for angle in angles:
    turned = rotate(raw_test.reshape(-1, 8, 8), angle, axes=(1, 2), reshape=False, order=1)
    x_turned = scaled(turned.reshape(-1, 64))
    plain.append(judged(np.asarray(jax.nn.softmax(f(params, x_turned)))))
    averaged.append(judged(posterior.class_probabilities(x_turned)))
    (right, sure, nll), (_, cautious, averaged_nll) = plain[-1], averaged[-1]
    print(f"   {angle:3}°     {right:6.1%}    {sure:6.1%}   {cautious:6.1%}       {nll:6.3f}   {averaged_nll:6.3f}")

# 10. The pictures.

track_figure = plot_kernel_track(track)
track_figure.savefig("trained_kernel.png", dpi=110)
figure, (left, middle_panel, right_panel) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for name, kernel in (("at the start", before), ("at the end", after)):
    eigenvalues = np.linalg.eigvalsh(kernel(few).astype(np.float64))[::-1]
    left.loglog(np.arange(1, len(eigenvalues) + 1), eigenvalues / len(eigenvalues), label=name)
left.set_xlabel("number of the eigenvalue")
left.set_ylabel("eigenvalue / n")
left.legend(frameon=False)
