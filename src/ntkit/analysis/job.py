"""The main job: one table in, the whole course of training of an infinitely wide network out."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from ntkit.analysis.evaluate import baseline_rows, calibrate, score, sort_rows, truth_in_units
from ntkit.analysis.finite_networks import FiniteNetworks, train_finite_networks
from ntkit.analysis.noise import class_noise, evidence_noise
from ntkit.analysis.outlook import look_ahead
from ntkit.analysis.prepare import Prepared, prepare
from ntkit.analysis.results import Analysis, Learning, ScoreRow, SpectrumSummary
from ntkit.analysis.settings import Settings
from ntkit.analysis.stopping import Stopping, choose_stopping, training_times
from ntkit.dynamics import GradientFlow
from ntkit.inference.gaussian_process import Posterior
from ntkit.inference.selection import Selection, select
from ntkit.kernels import NNGP
from ntkit.model.network import network_from_json, network_to_json
from ntkit.model.predictions import Predictions
from ntkit.model.table_model import Distribution, TableModel

MOST_ROWS_OF_NNGP_SPECTRUM = 2000

MEANINGS: dict[Distribution, str] = {
    "posterior": "Bayesian posterior of the Gaussian process, observation noise learnt",
    "converged": "ensemble of networks trained by gradient flow until t = ∞",
    "stopped": "ensemble of networks trained by gradient flow, stopped early (time by cross-validation)",
}


def fit_table(
    frame: pl.DataFrame,
    target: str,
    *,
    test: pl.DataFrame | None = None,
    settings: Settings = Settings(),
    progress: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Fit an infinitely wide network to a table and find out everything the report shows.

    In order: encode; choose network, kernel and noise (`select`); condition the Gaussian process; solve
    gradient flow; choose the stopping time; predict the test rows from the three distributions; fit the
    baselines; train finite networks; say what the spectrum predicts.

    Args:
        frame: The table.
        target: The column to predict.
        test: A table of test rows; a random part of `frame` is held out by default.
        settings: All other choices.
        progress: Called with the name of each stage as it begins.

    Raises:
        TableError: for tables and settings that do not fit together.
    """
    seconds: dict[str, float] = {}
    stage = _Stages(progress, seconds)
    stage("reading and encoding the table")
    data = prepare(frame, target, test, settings)
    stage("choosing the network")
    selection = choose_network(data, settings)
    stage("conditioning the Gaussian process")
    model = _first_model(data, selection, settings)
    posterior = model.posterior()
    if data.encoder.schema.target.task == "classification":
        model = replace(model, score_noise=_class_score_noise(data, posterior))
    stage("solving gradient flow")
    flow = model.flow()
    times = training_times(flow)
    stage("choosing the stopping time")
    stopping = _stopping(data, model, times, settings)
    model = replace(
        model, stopping_time=stopping.best_time, times=stopping.noise_times, time_noises=stopping.noises
    )
    stage("predicting the test rows")
    predictions, rows = _predict(data, model, posterior, flow)
    rows += _nngp_row(data, model)
    if settings.baselines:
        stage("fitting the baselines")
        rows += baseline_rows(data, settings.seed, settings.level, lambda name: progress(f"baseline: {name}"))
    finite = None
    if settings.networks:
        stage("training finite networks")
        finite = _finite(data, model, flow, settings)
    stage("describing the course of training")
    learning, spectrum = _learning(data, flow, stopping, finite), _spectrum(data, model, flow)
    stage("predicting from the spectrum")
    outlook = look_ahead(model, data.rows, settings.seed)
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
        test_truth=data.test_frame[target],
        test_targets=truth_in_units(data),
        seconds=seconds,
    )


def choose_network(data: Prepared, settings: Settings) -> Selection:
    """Choose network, kernel and noise by the settings' criterion on the training rows."""
    return select(
        data.x,
        data.y,
        depths=settings.depths,
        activations=settings.activations,
        kernels=("nngp", "ntk") if settings.kernel == "auto" else (settings.kernel,),
        criterion=settings.criterion,
        ard=settings.ard,
        starts=settings.starts,
        time_limit=settings.time_limit,
        width=settings.width,
        seed=settings.seed,
    )


class _Stages:
    """Announces stages and measures them."""

    def __init__(self, progress: Callable[[str], None], seconds: dict[str, float]) -> None:
        self.progress, self.seconds = progress, seconds
        self.name, self.began = "", 0.0

    def __call__(self, name: str) -> None:
        self.finish()
        self.name, self.began = name, time.perf_counter()
        self.progress(name)

    def finish(self) -> None:
        if self.name:
            self.seconds[self.name] = time.perf_counter() - self.began


def _first_model(data: Prepared, selection: Selection, settings: Settings) -> TableModel:
    """The model before stopping time and observation noises are known."""
    if selection.ending == "interrupted":
        raise KeyboardInterrupt
    # The network that will be saved is the network that is used, to the last digit.
    network = network_from_json(network_to_json(selection.network))
    return TableModel(
        encoder=data.encoder,
        network=network,
        kernel=selection.candidate.kernel,
        noise=float(selection.noise),
        score_noise=float(selection.noise),
        x=data.x,
        y=data.y,
        stopping_time=float("inf"),
        times=np.array([1.0, np.inf]),
        time_noises=np.array([float(selection.noise)] * 2),
        distribution=settings.distribution,
        level=settings.level,
    )


def _class_score_noise(data: Prepared, posterior: Posterior) -> float:
    """The scores' noise that makes leave-one-out class probabilities best; residual noise is part of neither."""
    held_out = posterior.leave_one_out()
    variance = np.maximum(np.asarray(held_out.variance) - posterior.noise, 0.0)
    return class_noise(data.codes, np.asarray(held_out.mean) + data.encoder.target_means[None, :], variance)


def _stopping(data: Prepared, model: TableModel, times: np.ndarray, settings: Settings) -> Stopping:
    classes = data.encoder.schema.target.task == "classification"
    return choose_stopping(
        model.network,
        data.x,
        data.y,
        times,
        class_frequencies=data.encoder.target_means if classes else None,
        folds=settings.folds,
        seed=settings.seed,
    )


def _predict(
    data: Prepared, model: TableModel, posterior: Posterior, flow: GradientFlow
) -> tuple[dict[Distribution, Predictions], list[ScoreRow]]:
    """Test predictions from the three distributions, and their scores."""
    predictions: dict[Distribution, Predictions] = {"posterior": model.from_posterior(posterior, data.x_test)}
    for name in ("stopped", "converged"):
        predictions[name] = model.from_flow(flow, data.x_test, model.time_of(name))
    rows = [
        ScoreRow(prediction.distribution, "ntkit", MEANINGS[name], score(data, prediction))
        for name, prediction in predictions.items()
        # Where cross-validation never stops training, both ensembles are one.
        if not (name == "stopped" and np.isinf(model.stopping_time))
    ]
    return predictions, rows


def _nngp_row(data: Prepared, model: TableModel) -> list[ScoreRow]:
    """Where the NTK was chosen: the posterior of the same network's NNGP, with its own noise."""
    if model.kernel == "nngp":
        return []
    noise = evidence_noise(np.asarray(NNGP(model.network)(data.x)), data.y)
    bayesian = replace(model, kernel="nngp", noise=noise, score_noise=noise)
    posterior = bayesian.posterior()
    if data.encoder.schema.target.task == "classification":
        bayesian = replace(bayesian, score_noise=_class_score_noise(data, posterior))
    predictions = bayesian.from_posterior(posterior, data.x_test)
    meaning = "Bayesian posterior of the same network's NNGP, noise learnt, scales chosen for the NTK"
    return [ScoreRow(predictions.distribution, "ntkit", meaning, score(data, predictions))]


def _finite(data: Prepared, model: TableModel, flow: GradientFlow, settings: Settings) -> FiniteNetworks:
    return train_finite_networks(
        model.network,
        flow,
        data.x,
        data.y,
        data.x_test,
        data.y_test,
        width=settings.width,
        networks=settings.networks,
        steps=settings.network_steps,
        seconds=settings.network_seconds,
        seed=settings.seed,
    )


def _learning(
    data: Prepared, flow: GradientFlow, stopping: Stopping, finite: FiniteNetworks | None
) -> Learning:
    times = stopping.times[:-1]
    path = flow.trajectory(times, data.x_test)
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


def _spectrum(data: Prepared, model: TableModel, flow: GradientFlow) -> SpectrumSummary:
    squares = np.sum(np.asarray(flow.training.error)[::-1] ** 2, axis=1)
    nngp = None
    if len(data.x) <= MOST_ROWS_OF_NNGP_SPECTRUM:
        nngp = np.clip(np.linalg.eigvalsh(NNGP(model.network)(data.x))[::-1] / len(data.x), 0.0, None)
    return SpectrumSummary(
        ntk=np.asarray(flow.eigenvalues) / len(data.x),
        nngp=nngp,
        timescales=np.asarray(flow.timescales),
        projections=squares / squares.sum(),
        rank=int(flow.rank),
    )
