"""First steps: from a table of numbers to the whole course of training, without training a network.

Run it as `python first_steps.py`; it takes well under a minute. It predicts how far diabetes has progressed in 442
patients from ten measurements (a data set bundled with scikit-learn), and draws `first_steps.png`.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from ntkit import NNGP, NTK, EmpiricalNTK, GaussianProcess, gradient_flow
from ntkit.nn import Dense, Relu, Serial

# 1. Data. ntkit takes inputs as they are, so standardise them first; targets are always (points, outputs).

x, y = load_diabetes(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y[:, None], test_size=0.3, random_state=0)
input_scaler, target_scaler = StandardScaler().fit(x_train), StandardScaler().fit(y_train)
x_train, x_test = input_scaler.transform(x_train), input_scaler.transform(x_test)
y_train, y_test = target_scaler.transform(y_train), target_scaler.transform(y_test)


def rmse(prediction: np.ndarray) -> float:
    """The root mean squared error, in the units of the table."""
    return float(np.sqrt(np.mean((prediction - y_test) ** 2)) * target_scaler.scale_[0])


# 2. A network is a value. It describes a finite network (the widths matter) and its infinite limit (they do not).

net = Serial(
    Dense(512, w_std=1.4, b_std=0.3),
    Relu(),
    Dense(512, w_std=1.4, b_std=0.3),
    Relu(),
    Dense(1, w_std=1.0),
)
print(net)

# 3. Its two kernels: functions of two sets of points, whatever lies behind them.

sigma, theta = NNGP(net), NTK(net)
print(f"\nNNGP and NTK of the training points: {sigma(x_train).shape} and {theta(x_train).shape}.")
print(f"Mean of their diagonals: {sigma.diag(x_train).mean():.2f} and {theta.diag(x_train).mean():.2f}.")

# 4. A Bayesian whose prior is the random network. `noise` is the variance of what the measurements do not explain.

posterior = GaussianProcess(sigma, noise=0.6).condition(x_train, y_train)
mean = posterior.mean(x_test)
std = posterior.with_noise().std(x_test)[:, None]
covered = np.mean(np.abs(y_test - mean) <= 1.96 * std)
evidence = posterior.log_marginal_likelihood()
print(f"\nThe NNGP posterior: test RMSE {rmse(mean):.1f}; its 95 % intervals hold {covered:.0%} of patients.")
print(f"The log marginal likelihood, by which networks are compared, is {evidence:.1f}.")

# 5. The trained network. One eigendecomposition gives the distribution of networks at every time of training.

flow = gradient_flow(theta, x_train, y_train, prior=sigma)
fastest, slowest = flow.timescales[0], flow.timescales[-1]
times = np.concatenate([[0.0], np.geomspace(0.3 * fastest, 3.0 * slowest, 40)])
errors = [rmse(prediction) for prediction in flow.trajectory(times, x_test).mean]
best = int(np.argmin(errors))
converged = rmse(flow.at(np.inf).mean(x_test))
print(f"\nThe slowest direction takes {slowest / fastest:,.0f} times as long to learn as the fastest.")
print(f"Trained to convergence: test RMSE {converged:.1f}; it fits the noise.")
print(f"Stopped at t = {times[best]:.3g}: test RMSE {errors[best]:.1f} (found by looking at the test set).")

# 6. A finite network is the same value, drawn. Its tangent kernel is random, and close to the infinite one.

params = net.init(jax.random.key(0), x_train.shape)
few = x_train[:50]
finite, infinite = EmpiricalNTK(net.apply, params)(few), theta(few)
difference = np.linalg.norm(finite - infinite) / np.linalg.norm(infinite)
print(f"\nThe tangent kernel of one network of width 512 differs from the limit by {difference:.0%}.")

# 7. And an honest comparison.

ridge = RidgeCV(np.logspace(-3, 3, 20)).fit(x_train, y_train[:, 0])
scores = {
    "always the mean": rmse(np.zeros_like(y_test)),
    "ridge regression": rmse(ridge.predict(x_test)[:, None]),
    "NNGP posterior": rmse(mean),
    "trained ensemble, stopped early": errors[best],
}
print("\nTest RMSE:")
for name, score in scores.items():
    print(f"  {name:32} {score:.1f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.loglog(times[1:], flow.loss(times[1:]), label="training loss, ½ Σ ‖f − y‖²")
left.loglog(times[1:], flow.test_loss(times[1:], x_test, y_test), label="test loss")
left.set_xlabel("training time")
left.legend(frameon=False)
right.errorbar(mean[:, 0], y_test[:, 0], xerr=1.96 * std[:, 0], fmt=".", alpha=0.35)
right.axline((0.0, 0.0), slope=1.0, color="black", linewidth=0.8)
right.set_xlabel("predicted (standardised), with its 95 % interval")
right.set_ylabel("measured")
figure.savefig("first_steps.png", dpi=150)
print("\nThe picture is first_steps.png.")
