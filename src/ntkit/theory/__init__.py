"""What the spectrum predicts: Mercer spectra, alignment, learning curves, order and chaos, and experiments."""

from ntkit.theory.alignment import (
    Alignments,
    alignment,
    center_gram,
    centered_alignment,
    centered_target_alignment,
    compare_kernels,
    target_alignment,
)
from ntkit.theory.certificate import Certificate, DependentPoints, convergence_certificate
from ntkit.theory.circle_experiments import (
    FunctionsOnCircle,
    KernelOnCircle,
    functions_on_circle,
    kernel_on_circle,
)
from ntkit.theory.experiments import OutputDistribution, output_distribution
from ntkit.theory.kernel_track import KernelTrack
from ntkit.theory.learning_curve import LearningCurve, learning_curve, learning_curve_on
from ntkit.theory.linearization_gap import LinearizationGap, linearization_gap
from ntkit.theory.measured import MeasuredLearningCurve, measured_learning_curve
from ntkit.theory.phase import Phase, critical_line, critical_w_std, phase
from ntkit.theory.phase_diagram import PhaseDiagram, limiting_condition_number, phase_diagram
from ntkit.theory.power_law import PowerLaw, fit_power_law
from ntkit.theory.spectrum import Eigensystem, eigensystem
from ntkit.theory.sphere import SphereSpectrum, sphere_spectrum
from ntkit.theory.tangent_experiments import KernelDeviation, kernel_fluctuation, kernel_motion
from ntkit.theory.track import KernelTracker, track

__all__ = [
    "Alignments",
    "Certificate",
    "DependentPoints",
    "Eigensystem",
    "FunctionsOnCircle",
    "KernelDeviation",
    "KernelOnCircle",
    "KernelTrack",
    "KernelTracker",
    "LearningCurve",
    "LinearizationGap",
    "MeasuredLearningCurve",
    "OutputDistribution",
    "Phase",
    "PhaseDiagram",
    "PowerLaw",
    "SphereSpectrum",
    "alignment",
    "center_gram",
    "centered_alignment",
    "centered_target_alignment",
    "compare_kernels",
    "convergence_certificate",
    "critical_line",
    "critical_w_std",
    "eigensystem",
    "fit_power_law",
    "functions_on_circle",
    "kernel_fluctuation",
    "kernel_motion",
    "kernel_on_circle",
    "learning_curve",
    "learning_curve_on",
    "limiting_condition_number",
    "linearization_gap",
    "measured_learning_curve",
    "output_distribution",
    "phase",
    "phase_diagram",
    "sphere_spectrum",
    "target_alignment",
    "track",
]
