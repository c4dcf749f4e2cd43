"""The main job: a table or images in, the whole course of training of an infinitely wide network out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from ntkit.analysis.assess import assess
from ntkit.analysis.given_network import GivenNetwork, choose_readout
from ntkit.analysis.kernel_time import kernel_time
from ntkit.analysis.prepare import Prepared, prepare
from ntkit.analysis.prepare_images import prepare_images
from ntkit.analysis.results import Analysis
from ntkit.analysis.settings import Settings
from ntkit.analysis.stages import Stages
from ntkit.errors import ImageError, TableError
from ntkit.images.image_set import ImageSet
from ntkit.inference.selection import Selection, select
from ntkit.model.image_model import ImageModel
from ntkit.model.network import network_from_json, network_to_json
from ntkit.model.network_kernels import KernelName, NetworkKernels
from ntkit.model.table_model import TableModel
from ntkit.nn.base import Layer
from ntkit.zoo import network_named

IMAGE_SETTINGS = Settings(network="myrtle5", networks=0)
"""Finite networks of convolutions take long to train on a CPU, so that none are, unless asked for."""


def fit_table(
    frame: pl.DataFrame,
    target: str,
    *,
    test: pl.DataFrame | None = None,
    settings: Settings = Settings(),
    progress: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Fit an infinitely wide network to a table and find out everything the report shows.

    In order: encode; choose network, kernel and noise (`select`), or take the named network; condition the Gaussian
    process; solve gradient flow; choose the stopping time; predict the test rows from the three distributions; fit
    the baselines; train finite networks; say what the spectrum predicts.

    Args:
        frame: The table.
        target: The column to predict.
        test: A table of test rows; a random part of `frame` is held out by default.
        settings: All other choices.
        progress: Called with the name of each stage as it begins.

    Raises:
        TableError: for tables and settings that do not fit together.
    """
    stage = Stages(progress)
    stage("reading and encoding the table")
    data = prepare(frame, target, test, settings)
    if settings.network is None:
        stage("choosing the network")
        selection: Selection | GivenNetwork = choose_network(data, settings)
        if selection.ending == "interrupted":
            raise KeyboardInterrupt
        # The network that will be saved is the network that is used, to the last digit.
        network = network_from_json(network_to_json(selection.network))
        kernels = NetworkKernels.on_demand(network, data.x, data.x_test)
        kernel, noise = selection.candidate.kernel, float(selection.noise)
    else:
        selection, kernels = _named_network(settings.network, data, settings, stage, TableError)
        network, kernel, noise = selection.network, selection.kernel, selection.noise
    model = TableModel(**_beginning(data, network, kernel, noise, settings))
    return assess(data, model, kernels, selection, settings, stage)


def fit_images(
    images: ImageSet,
    test: ImageSet | None = None,
    *,
    limit: int | None = None,
    resize: tuple[int, int] | None = None,
    settings: Settings = IMAGE_SETTINGS,
    progress: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Fit an infinitely wide network of `ntkit.zoo` to labelled images and find out everything the report shows.

    As `fit_table`, but the network is the one that `settings.network` names: only the scale of its readout, the noise
    and the kernel are chosen, by the log marginal likelihood. All kernels are computed once, before anything else.

    Args:
        images: Images with labels.
        test: Images for testing; a random part of `images` is held out by default.
        limit: At most so many training images, and so many test images, are used, drawn at random class by class.
        resize: What the images were resized to when they were read, which the model remembers for new ones.
        settings: All other choices; those that are about columns play no part.
        progress: Called with the name of each stage as it begins.

    Raises:
        ImageError: for images and settings that do not fit together.
    """
    if settings.network is None:
        raise ImageError("Fitting images needs the name of a network (--network), got none. Try myrtle5.")
    stage = Stages(progress)
    stage("encoding the images")
    data = prepare_images(images, test, settings, limit=limit, resize=resize)
    selection, kernels = _named_network(settings.network, data, settings, stage, ImageError)
    model = ImageModel(
        **_beginning(data, selection.network, selection.kernel, selection.noise, settings),
        nngp_gram=np.asarray(kernels.nngp(kernels.train)),
        ntk_gram=np.asarray(kernels.ntk(kernels.train)),
    )
    return assess(data, model, kernels, selection, settings, stage)


def choose_network(data: Prepared, settings: Settings) -> Selection:
    """Choose network, kernel and noise by the settings' criterion on the training rows."""
    return select(
        data.x,
        data.y,
        depths=settings.depths,
        activations=settings.activations,
        kernels=_kernel_names(settings),
        criterion=settings.criterion,
        ard=settings.ard,
        starts=settings.starts,
        time_limit=settings.time_limit,
        width=settings.width,
        seed=settings.seed,
    )


def _named_network(
    name: str, data: Prepared, settings: Settings, stage: Stages, error: type[TableError | ImageError]
) -> tuple[GivenNetwork, NetworkKernels]:
    """The network of that name for these data, its kernels, and the readout chosen for the targets."""
    network = network_named(name, data.y.shape[1])
    try:
        network.output_shape(data.x.shape)
    except ValueError as reason:
        remedy = (
            "Tables take mlp and residual_mlp."
            if data.x.ndim == 2
            else "Take another network, or images of more pixels (--resize)."
        )
        raise error(
            f"The network {name} (--network) cannot be used on inputs of shape {data.x.shape[1:]}. {reason} {remedy}"
        ) from reason
    stage("computing the kernels")
    stage.progress(kernel_time(network, data.x, len(data.x_test)))
    kernels = NetworkKernels.stored(network, data.x, data.x_test)
    stage("choosing the readout and the noise")
    return choose_readout(name, network, kernels, data.y, _kernel_names(settings))


def _kernel_names(settings: Settings) -> tuple[KernelName, ...]:
    return ("nngp", "ntk") if settings.kernel == "auto" else (settings.kernel,)


def _beginning(
    data: Prepared, network: Layer, kernel: KernelName, noise: float, settings: Settings
) -> dict[str, Any]:
    """What a model holds before stopping time and observation noises are known."""
    return {
        "encoder": data.encoder,
        "network": network,
        "kernel": kernel,
        "noise": noise,
        "score_noise": noise,
        "x": data.x,
        "y": data.y,
        "stopping_time": float("inf"),
        "times": np.array([1.0, np.inf]),
        "time_noises": np.array([noise] * 2),
        "distribution": settings.distribution,
        "level": settings.level,
    }
