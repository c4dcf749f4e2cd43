"""What the spectrum predicts, in words: the rows of one list on the page."""

from ntkit.analysis.depth import DepthLimit
from ntkit.analysis.outlook import Outlook
from ntkit.analysis.results import Analysis
from ntkit.report.text import fixed, number, percent, point_groups
from ntkit.theory.certificate import Certificate


def outlook_rows(analysis: Analysis) -> list[tuple[str, str]]:
    """Each prediction: what it is about, and what it says."""
    outlook, kernel = analysis.outlook, analysis.model.kernel
    spectral = outlook.spectral
    rows = "images, by number from 0" if analysis.of_images else "rows of the table, from 0"
    dimension = (
        f"{number(spectral.effective_dimension(kernel), 3)} of {outlook.rows} directions of the {kernel.upper()} stand "
        f"out from noise of variance {number(spectral.ridge, 3)}"
    )
    return [
        ("convergence", convergence(spectral.certificate, rows)),
        ("stable learning rates", f"up to {number(spectral.certificate.max_learning_rate(), 3)}"),
        ("decay of the spectrum", _decay(outlook)),
        ("effective dimension", dimension),
        ("alignment of NTK and targets", f"{fixed(spectral.target_alignment)}, centred; 1 is the most"),
        (
            "alignment of NTK and NNGP",
            f"{fixed(spectral.kernel_alignment)}, centred; 1 is the same up to scale",
        ),
        ("learning curve", _curve(outlook)),
        ("order and chaos", order_and_chaos(outlook.depth)),
    ]


def convergence(certificate: Certificate, rows: str = "rows of the table, from 0") -> str:
    """What the smallest eigenvalue proves."""
    smallest = f"smallest eigenvalue {eigenvalue(certificate)}"
    if certificate.is_positive_definite:
        return (
            f"proved: the NTK is positive definite, {smallest}; gradient flow reaches zero training loss, at least as "
            f"fast as exp(−{number(certificate.rate, 3)} t)"
        )
    if certificate.verdict == "singular":
        return (
            f"not to zero loss for all targets: the NTK is singular, {smallest}; {rows}: "
            f"{point_groups(certificate.singular_points)}"
        )
    return f"undecided: the NTK's {smallest}, cannot be told from zero"


def eigenvalue(certificate: Certificate) -> str:
    """The smallest eigenvalue with the proved bound of its error."""
    return f"{number(certificate.smallest_eigenvalue)} ± {number(certificate.error_bound, 1)}"


def order_and_chaos(limit: DepthLimit) -> str:
    """The phase, its scales, and how deep the network is beside them."""
    found = limit.phase
    if found is None:
        return f"not applicable: {limit.reason}"
    where = f"{found.label} at σ_w = {number(found.w_std, 3)}, σ_b = {number(found.b_std, 3)}"
    layers = f"this network has {limit.depth} hidden layer{'' if limit.depth == 1 else 's'}"
    if found.slope is None:
        return f"{where}: the variance of signals grows without bound with depth; {layers}"
    scales = (
        f"χ₁ = {number(found.slope, 3)}, correlation depth ξ_c = {number(found.correlation_depth, 3)} layers"
    )
    return f"{where}: {scales}, trainable to about {number(found.trainable_depth, 3)} layers; {layers}"


def _decay(outlook: Outlook) -> str:
    spectral = outlook.spectral
    if spectral.decay is None:
        return f"too few eigenvalues to fit: {spectral.rank} can be told from zero"
    first, last = spectral.decay_range
    return (
        f"eigenvalues {first} to {last} of the NTK fall like their number to the power "
        f"{fixed(spectral.decay.exponent, 2)} ± {number(spectral.decay.standard_error, 1)}"
    )


def _curve(outlook: Outlook) -> str:
    curve = outlook.curve
    deviation, size = float(curve.deviations[curve.worst]), curve.samples[curve.worst]
    return (
        f"the prediction deviates from the measured errors by at most {percent(abs(deviation))}, at {size:.0f} rows "
        f"({curve.repeats} random subsets of each size)"
    )
