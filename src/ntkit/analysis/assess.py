"""What the main job does once the network is chosen: predict, compare, describe the course of training."""

from dataclasses import replace
from typing import Any

import numpy as np

from ntkit.analysis.evaluate import baseline_rows, calibrate, score, sort_rows, truth_in_units
from ntkit.analysis.finite_networks import FiniteNetworks, train_finite_networks
from ntkit.analysis.given_network import GivenNetwork
from ntkit.analysis.noise import class_noise, evidence_noise
from ntkit.analysis.outlook import look_ahead
from ntkit.analysis.prepare import Prepared
from ntkit.analysis.results import Analysis, Learning, ScoreRow, SpectrumSummary
from ntkit.analysis.settings import Settings
from ntkit.analysis.stages import Stages
from ntkit.analysis.stopping import Stopping, choose_stopping, training_times
from ntkit.dynamics import GradientFlow
from ntkit.inference.gaussian_process import Posterior
from ntkit.inference.selection import Selection
from ntkit.model.fitted import Distribution, FittedModel
from ntkit.model.image_model import ImageModel
from ntkit.model.network_kernels import NetworkKernels
from ntkit.model.predictions import Predictions

MOST_ROWS_OF_NNGP_SPECTRUM = 2000

MEANINGS: dict[Distribution, str] = {
    "posterior": "Bayesian posterior of the Gaussian process, observation noise learnt",
    "converged": "ensemble of networks trained by gradient flow until t = ∞",
    "stopped": "ensemble of networks trained by gradient flow, stopped early (time by cross-validation)",
}


def assess(
    data: Prepared,
    model: Any,
    kernels: NetworkKernels,
    selection: Selection | GivenNetwork,
    settings: Settings,
    stage: Stages,
) -> Analysis:
    """Find out everything the report shows about a network that is chosen.

    Args:
        data: Training and test rows.
        model: The model, a `TableModel` or `ImageModel`, before stopping time and observation noises are known.
        kernels: Those of the network, between all rows.
        selection: How the network was chosen.
        settings: All other choices.
        stage: Told of each stage as it begins.
    """
    stage("conditioning the Gaussian process")
    model, posterior = _conditioned(data, model, kernels)
    stage("solving gradient flow")
    flow = kernels.flow(data.y)
    times = training_times(flow)
    stage("choosing the stopping time")
    stopping = _stopping(data, kernels, times, settings)
    model = replace(
        model, stopping_time=stopping.best_time, times=stopping.noise_times, time_noises=stopping.noises
    )
    stage("predicting the test images" if isinstance(model, ImageModel) else "predicting the test rows")
    predictions, rows = _predict(data, model, kernels, posterior, flow)
    rows += _nngp_row(data, model, kernels)
    if settings.baselines:
        stage("fitting the baselines")
        rows += baseline_rows(
            data, settings.seed, settings.level, lambda name: stage.progress(f"baseline: {name}")
        )
    finite = None
    if settings.networks:
        stage("training finite networks")
        finite = _finite(data, model, kernels, flow, settings)
    stage("describing the course of training")
    learning, spectrum = _learning(data, kernels, flow, stopping, finite), _spectrum(kernels, flow)
    stage("predicting from the spectrum")
    outlook = look_ahead(model, kernels, data.rows, settings.seed)
    if outlook.curve.interrupted:
        raise KeyboardInterrupt
    stage.finish()
    return Analysis(
        model=model,
        settings=settings,
        data=data.summary,
        selection=selection,
        scores=sort_rows(rows),
        predictions=predictions,
        calibration={name: calibrate(data, prediction) for name, prediction in predictions.items()},
        learning=learning,
        spectrum=spectrum,
        outlook=outlook,
        test_rows=data.test_rows,
        test_truth=data.test_truth,
        test_targets=truth_in_units(data),
        seconds=stage.seconds,
        test_names=data.test_names,
    )


def _conditioned(data: Prepared, model: Any, kernels: NetworkKernels) -> tuple[Any, Posterior]:
    """The model with the noise of class scores that its posterior asks for, and that posterior."""
    posterior = kernels.posterior(model.kernel, model.noise, data.y)
    if data.encoder.target.task == "classification":
        model = replace(model, score_noise=_class_score_noise(data, posterior))
    return model, posterior


def _class_score_noise(data: Prepared, posterior: Posterior) -> float:
    """The scores' noise that makes leave-one-out class probabilities best; residual noise is part of neither."""
    held_out = posterior.leave_one_out()
    variance = np.maximum(np.asarray(held_out.variance) - posterior.noise, 0.0)
    return class_noise(data.codes, np.asarray(held_out.mean) + data.encoder.target_means[None, :], variance)


def _stopping(data: Prepared, kernels: NetworkKernels, times: np.ndarray, settings: Settings) -> Stopping:
    classes = data.encoder.target.task == "classification"
    return choose_stopping(
        kernels.ntk,
        kernels.nngp,
        kernels.train,
        data.y,
        times,
        class_frequencies=data.encoder.target_means if classes else None,
        folds=settings.folds,
        seed=settings.seed,
    )


def _predict(
    data: Prepared,
    model: FittedModel,
    kernels: NetworkKernels,
    posterior: Posterior,
    flow: GradientFlow,
) -> tuple[dict[Distribution, Predictions], list[ScoreRow]]:
    """Test predictions from the three distributions, and their scores."""
    predictions: dict[Distribution, Predictions] = {"posterior": model.from_posterior(posterior, kernels.new)}
    for name in ("stopped", "converged"):
        predictions[name] = model.from_flow(flow, kernels.new, model.time_of(name))
    rows = [
        ScoreRow(prediction.distribution, "ntkit", MEANINGS[name], score(data, prediction))
        for name, prediction in predictions.items()
        # Where cross-validation never stops training, both ensembles are one.
        if not (name == "stopped" and np.isinf(model.stopping_time))
    ]
    return predictions, rows


def _nngp_row(data: Prepared, model: FittedModel, kernels: NetworkKernels) -> list[ScoreRow]:
    """Where the NTK was chosen: the posterior of the same network's NNGP, with its own noise."""
    if model.kernel == "nngp":
        return []
    noise = evidence_noise(np.asarray(kernels.nngp(kernels.train)), data.y)
    bayesian = replace(model, kernel="nngp", noise=noise, score_noise=noise)
    bayesian, posterior = _conditioned(data, bayesian, kernels)
    predictions = bayesian.from_posterior(posterior, kernels.new)
    meaning = "Bayesian posterior of the same network's NNGP, noise learnt, scales chosen for the NTK"
    return [ScoreRow(predictions.distribution, "ntkit", meaning, score(data, predictions))]


def _finite(
    data: Prepared, model: FittedModel, kernels: NetworkKernels, flow: GradientFlow, settings: Settings
) -> FiniteNetworks:
    return train_finite_networks(
        model.network,
        flow,
        data.x,
        data.y,
        data.x_test,
        data.y_test,
        kernels.new,
        width=settings.width,
        networks=settings.networks,
        steps=settings.network_steps,
        seconds=settings.network_seconds,
        seed=settings.seed,
    )


def _learning(
    data: Prepared,
    kernels: NetworkKernels,
    flow: GradientFlow,
    stopping: Stopping,
    finite: FiniteNetworks | None,
) -> Learning:
    times = stopping.times[:-1]
    path = flow.trajectory(times, kernels.new)
    mean_loss = 0.5 * np.sum((np.asarray(path.mean) - data.y_test[None, :, :]) ** 2, axis=2).mean(axis=1)
    spread_loss = 0.5 * data.y_test.shape[1] * np.mean(np.asarray(path.variance), axis=1)
    return Learning(
        times=times,
        train_loss=np.asarray(flow.loss(times)),
        test_loss=mean_loss + spread_loss,
        mean_test_loss=mean_loss,
        stopping=stopping,
        finite=finite,
    )


def _spectrum(kernels: NetworkKernels, flow: GradientFlow) -> SpectrumSummary:
    squares = np.sum(np.asarray(flow.training.error)[::-1] ** 2, axis=1)
    nngp = None
    points = len(kernels.train)
    if points <= MOST_ROWS_OF_NNGP_SPECTRUM:
        gram = np.asarray(kernels.nngp(kernels.train))
        nngp = np.clip(np.linalg.eigvalsh(gram)[::-1] / points, 0.0, None)
    return SpectrumSummary(
        ntk=np.asarray(flow.eigenvalues) / points,
        nngp=nngp,
        timescales=np.asarray(flow.timescales),
        projections=squares / squares.sum(),
        rank=int(flow.rank),
    )
