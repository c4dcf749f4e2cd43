"""The softmax likelihood at given scores: log-likelihood, probabilities, curvature, and what uncertain scores predict.

A single column of scores is the logistic case: the probability of class 1 is `1 / (1 + exp(-score))`.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, log_expit, log_softmax, softmax


def as_labels(who: str, labels: Any, scores: Float[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
    """Class labels, one per row of scores: whole numbers from 0 to one less than the number of classes.

    Raises:
        ValueError: for anything else; the text names the first label out of range.
    """
    count, outputs = scores.shape
    classes = max(outputs, 2)
    given = np.asarray(labels)
    if given.dtype.kind not in "iub":
        raise ValueError(
            f"{who} needs labels as whole numbers, got {given.dtype}. Use labels.astype(int), or .argmax(axis=1) of "
            "one-hot rows."
        )
    if given.shape != (count,):
        raise ValueError(f"{who} needs one label per point, shape ({count},), got {given.shape}.")
    given = given.astype(np.int64)
    wrong = np.flatnonzero((given < 0) | (given >= classes))
    if len(wrong):
        raise ValueError(
            f"{who} needs labels from 0 to {classes - 1} for a model of {outputs} output{'s' * (outputs > 1)}, got "
            f"{given[wrong[0]]} at labels[{wrong[0]}]."
        )
    return given


def log_likelihood(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """`Σ_i log p(label_i | score_i)`."""
    if scores.shape[1] == 1:
        return float(np.sum(log_expit(np.where(labels == 1, scores[:, 0], -scores[:, 0]))))
    return float(np.sum(log_softmax(scores, axis=1)[np.arange(len(labels)), labels]))


def likelihood_probabilities(scores: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n c"]:
    """The probability of every class, if the scores are certain; two columns for a single score."""
    if scores.shape[-1] == 1:
        return np.concatenate([expit(-scores), expit(scores)], axis=-1)
    return softmax(scores, axis=-1)


def curvature_root(scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k r"]:
    """`B` with `B B^T = diag(p) - p p^T`, the negative second derivative of the log-likelihood by the scores.

    It has rank `r = k - 1`: `B = diag(√p) Q`, Q an orthonormal basis of what is orthogonal to the unit vector √p, from
    the Householder reflection that maps √p to its largest component: then no difference cancels, and nothing is divided
    by a probability. For a single score `B = √(p (1 - p))`.
    """
    if scores.shape[1] == 1:
        both = likelihood_probabilities(scores)
        return np.sqrt(both[:, :1] * both[:, 1:])[:, :, None]
    unit = np.exp(0.5 * log_softmax(scores, axis=1))
    points, largest = np.arange(len(unit)), unit.argmax(axis=1)
    normal = unit.copy()
    normal[points, largest] += 1.0
    # 1 - 2 v v^T / |v|² with v = √p + e_j has |v|² = 2 (1 + √p_j) and maps √p to -e_j, so its other columns are Q.
    scale = 1.0 + unit[points, largest]
    reflection = np.eye(unit.shape[1]) - normal[:, :, None] * normal[:, None, :] / scale[:, None, None]
    others = np.arange(unit.shape[1])[None, :] != largest[:, None]
    basis = reflection.transpose(0, 2, 1)[others].reshape(len(unit), -1, unit.shape[1]).transpose(0, 2, 1)
    return unit[:, :, None] * basis


def probit_probabilities(
    mean: Float[np.ndarray, "m k"], covariance: Float[np.ndarray, "m k k"]
) -> Float[np.ndarray, "m c"]:
    """The expected softmax of Gaussian scores, approximately: every difference of scores shrunk by its own variance.

    A logistic function is close to a scaled probit, so `E[1 / (1 + exp(-d))]` is close to
    `1 / (1 + exp(-d̄ / √(1 + π v / 8)))` for `d ~ N(d̄, v)` (MacKay 1992). For k classes, with `d_cj` the difference of
    the scores of c and j, `p_c ∝ 1 / Σ_j exp(-d̄_cj / √(1 + π v_cj / 8))`, `v_cj = Σ_cc + Σ_jj - 2 Σ_cj`: what all
    scores share drops out, as it does from the softmax, and two classes are MacKay's formula.

    Source:
        Lu, Ie & Sha (2020), "Mean-field approximation to Gaussian-softmax integral", the pairwise form.
    """
    if mean.shape[1] == 1:
        return likelihood_probabilities(mean / np.sqrt(1.0 + np.pi / 8.0 * covariance[:, :, 0].clip(0.0)))
    own = np.einsum("mcc->mc", covariance)
    variance = (own[:, :, None] + own[:, None, :] - 2.0 * covariance).clip(0.0)
    difference = (mean[:, :, None] - mean[:, None, :]) / np.sqrt(1.0 + np.pi / 8.0 * variance)
    exponents = -difference
    largest = exponents.max(axis=2, keepdims=True)
    log_sums = largest[:, :, 0] + np.log(np.exp(exponents - largest).sum(axis=2))
    return softmax(-log_sums, axis=1)
