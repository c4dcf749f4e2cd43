"""Finite networks tend to their limits: kernels at initialisation, the kernel in training, whole ensembles.

Monte-Carlo bounds are four or five standard errors; exponents come with the standard error of their fit. Seeds
are fixed, so a test that passes always passes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit import nn
from ntkit.dynamics import gradient_descent, gradient_flow, train, train_ensemble
from ntkit.empirical import EmpiricalNTK
from ntkit.kernels import NNGP, NTK

X = np.random.default_rng(0).normal(size=(4, 3))
Y = np.random.default_rng(1).normal(size=(4, 1))
WIDTHS = (64, 192, 576)


def two_hidden(width, activation, parametrization="ntk", outputs=1):
    def dense(units, w_std, b_std):
        return nn.Dense(units, w_std, b_std, parametrization)

    return nn.Serial(
        dense(width, 1.3, 0.5), activation, dense(width, 1.2, 0.5), activation, dense(outputs, 1.1, 0.6)
    )


def fitted_exponent(errors, widths=WIDTHS):
    """Slope of log RMS error against log width, and its standard error.

    `errors` is (widths, seeds), relative. The mean square of S independent values has a standard error found from
    their scatter; half its relative size is the standard error of the log RMS, which least squares carries over.
    """
    squares = errors**2
    log_rms = 0.5 * np.log(squares.mean(axis=1))
    log_error = 0.5 * squares.std(axis=1, ddof=1) / squares.mean(axis=1) / np.sqrt(errors.shape[1])
    centred = np.log(widths) - np.mean(np.log(widths))
    weights = centred / np.sum(centred**2)
    return float(weights @ log_rms), float(np.sqrt(np.sum((weights * log_error) ** 2)))


@pytest.mark.parametrize(
    ("activation", "parametrization"),
    [
        (nn.Relu(), "ntk"),
        pytest.param(nn.Erf(), "standard", marks=pytest.mark.slow),
        pytest.param(nn.Tanh(), "ntk", marks=pytest.mark.slow),
        pytest.param(nn.Gelu(), "standard", marks=pytest.mark.slow),
        pytest.param(nn.Sin(), "ntk", marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_the_covariance_of_outputs_over_initialisations_is_the_nngp(activation, parametrization):
    """E[f fᵀ] over 1000 networks of width 128: five standard errors of the mean over networks, and for the bias of
    a finite second layer, `C'' Var(q) / 2 = O(1/width)`, 4/width of the scale √(k(x,x) k(x',x')).
    """
    width, networks, outputs = 128, 1000, 64
    network = two_hidden(width, activation, parametrization, outputs)
    x = jnp.asarray(X, jnp.float32)

    @jax.jit
    def second_moments(keys):
        def second_moment(key):
            f = network.apply(network.init(key, x.shape), x)
            return f @ f.T / outputs

        return jax.lax.map(second_moment, keys, batch_size=20)

    samples = np.array(second_moments(jax.random.split(jax.random.key(1), networks)), np.float64)
    exact = NNGP(network)(X)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    bound = 5 * samples.std(axis=0, ddof=1) / np.sqrt(networks) + 4 / width * scale
    assert (
        bound < 0.1 * scale
    ).all()  # the last b_std² alone is 0.36 of less than 3: leaving it out would show
    assert (np.abs(samples.mean(axis=0) - exact) < bound).all()


def relative_ntk_errors(network, seeds):
    """‖Θ_empirical − Θ‖_F / ‖Θ‖_F at X, for each seed."""
    x = jnp.asarray(X, jnp.float32)

    @jax.jit
    def grams(keys):
        return jax.lax.map(lambda key: EmpiricalNTK(network.apply, network.init(key, x.shape))(x), keys)

    samples = np.array(grams(jax.random.split(jax.random.key(2), seeds)), np.float64)
    exact = NTK(network)(X)
    return np.linalg.norm(samples - exact, axis=(1, 2)) / np.linalg.norm(exact)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "parametrization", "outputs"),
    [
        pytest.param(nn.Relu(), "ntk", 1, marks=pytest.mark.slow),
        (nn.Erf(), "standard", 2),
    ],
    ids=repr,
)
def test_the_empirical_ntk_tends_to_the_ntk_at_the_rate_of_one_over_root_width(
    activation, parametrization, outputs
):
    """Measured exponent −½ within four standard errors and 0.05 for the next order, 1/width.

    At the smallest and the largest width, between which the third has next to no weight in a fit of a line.
    """
    widths = (WIDTHS[0], WIDTHS[-1])
    errors = np.stack(
        [relative_ntk_errors(two_hidden(width, activation, parametrization, outputs), 40) for width in widths]
    )
    slope, standard_error = fitted_exponent(errors, widths)
    tolerance = 4 * standard_error + 0.05
    assert tolerance < 0.35  # neither 0 (another limit) nor -1 would pass
    assert slope == pytest.approx(-0.5, abs=tolerance)
    assert errors[-1].mean() < 0.15


def relative_ntk_motion(network, seeds, rate):
    """‖Θ_T − Θ_0‖_F / ‖Θ_0‖_F at X after 60 steps that learn the data, for each seed."""
    motions = []
    draw = jax.jit(lambda key: network.init(key, X.shape))
    for key in jax.random.split(jax.random.key(3), seeds):
        params = draw(key)
        history = train(network.apply, params, X, Y, learning_rate=rate, steps=60, record=[0])
        assert history.loss[-1] < 0.1 * history.loss[0]
        before, after = EmpiricalNTK(network.apply, params)(X), EmpiricalNTK(network.apply, history.params)(X)
        motions.append(np.linalg.norm(after - before) / np.linalg.norm(before))
    return np.array(motions)


@pytest.mark.slow
def test_training_moves_the_empirical_ntk_by_no_more_than_one_over_root_width():
    """The theorem bounds the motion by O(1/√width) (Jacot et al. 2018; Lee et al. 2019). The exponent measured is
    near −1, which is what perturbation theory predicts for weights of mean zero (Dyer & Gur-Ari 2020, "Asymptotics
    of wide networks from Feynman diagrams"): the leading term cancels. Both are asserted.
    """
    network = two_hidden(WIDTHS[-1], nn.Erf())
    rate = 1.0 / np.linalg.eigvalsh(NTK(network)(X))[-1]
    motions = np.stack([relative_ntk_motion(two_hidden(width, nn.Erf()), 8, rate) for width in WIDTHS])
    slope, standard_error = fitted_exponent(motions)
    tolerance = 4 * standard_error + 0.1
    assert tolerance < 0.5  # -½ itself would not pass
    assert slope < -0.5
    assert slope == pytest.approx(-1.0, abs=tolerance)
    assert (np.sqrt(WIDTHS) * motions.max(axis=1) < 3.0).all()  # the bound itself, with one constant


def assert_ensemble_matches_its_limit(network, steps, step_in_units, records):
    """200 trained networks against `gradient_flow(NTK, prior=NNGP).at(t)`, at training and test points.

    Mean: 4 std/√200, std: 4/√(2·199) relative (the standard error of a Gaussian's sample deviation), and for both
    1/√width of the initial standard deviation, the order of the tangent kernel's fluctuation. The gap between the
    flow and its discretisation into steps is computed, and must be small beside these.
    """
    angles, others = np.array([-2.4, -1.3, 0.2, 1.2, 2.3]), np.linspace(-3.0, 3.0, 6)

    def on_circle(angle):
        return (np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)

    x, watch = on_circle(angles), on_circle(np.concatenate([angles, others]))
    y = np.array([[0.8], [-0.9], [0.6], [1.2], [-0.4]], dtype=np.float32)
    kernel, prior = NTK(network), NNGP(network)
    rate = step_in_units / float(np.linalg.eigvalsh(kernel(x))[-1])
    members = 200
    ensemble = train_ensemble(
        network.apply,
        lambda key: network.init(key, x.shape),
        jax.random.key(4),
        members,
        x,
        y,
        watch=watch,
        learning_rate=rate,
        steps=steps,
        record=records,
    )
    flow = gradient_flow(kernel, x, y, prior=prior, learning_rate=rate)
    descent = gradient_descent(kernel, x, y, prior=prior, learning_rate=rate)
    finite_width = prior.diag(watch) ** 0.5 / np.sqrt(network.layers[0].width)
    for row, count in enumerate(ensemble.steps):
        limit, stepwise = flow.at(float(count)), descent.after(int(count))
        mean, std = limit.mean(watch)[:, 0], limit.std(watch)
        mean_bound = 4 * std / np.sqrt(members) + finite_width
        std_bound = 4 * std / np.sqrt(2 * (members - 1)) + finite_width
        assert (np.abs(stepwise.mean(watch)[:, 0] - mean) < 0.5 * mean_bound).all()
        assert (np.abs(stepwise.std(watch) - std) < 0.5 * std_bound).all()
        assert (np.abs(ensemble.mean[row, :, 0] - mean) < mean_bound).all(), count
        assert (np.abs(ensemble.std[row, :, 0] - std) < std_bound).all(), count
    # training did something, and at the last moment the data are learnt
    assert np.abs(ensemble.mean[-1, :5, 0] - y[:, 0]).max() < 0.2
    assert np.abs(ensemble.mean[0, :5, 0] - y[:, 0]).max() > 0.5


@pytest.mark.slow
def test_two_hundred_trained_shallow_networks_match_the_flow():
    network = nn.Serial(nn.Dense(2048, 1.4, 0.3), nn.Relu(), nn.Dense(1, 1.4, 0.1))
    assert_ensemble_matches_its_limit(network, 200, 0.1, [0, 3, 30, 200])


@pytest.mark.slow
def test_two_hundred_trained_deep_networks_match_the_flow():
    """The proof: two hidden layers of 2048, four million weights, all of them trained, 200 times."""
    network = nn.Serial(
        nn.Dense(2048, 1.4, 0.3), nn.Relu(), nn.Dense(2048, 1.4, 0.3), nn.Relu(), nn.Dense(1, 1.0, 0.1)
    )
    assert_ensemble_matches_its_limit(network, 100, 0.2, [0, 2, 20, 100])
