"""One file a probe: what is measured at one trained model, or at a pair.

A probe is a function ``name(model, loss, batches, *, …)`` in the file ``name.py``, beside
``passes(…)``, its cost in forward-and-backward passes. It returns a ``Measurement``. ``early`` and
``Dynamics`` look at a network in training.
"""

from landscape_sweep.probes.connectivity import connectivity
from landscape_sweep.probes.dynamics import Dynamics
from landscape_sweep.probes.early import early
from landscape_sweep.probes.gradient_noise import gradient_noise
from landscape_sweep.probes.hessian import hessian
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, loss_and_accuracy
from landscape_sweep.probes.planes import networks_plane
from landscape_sweep.probes.profile import profile
from landscape_sweep.probes.sharpness import sharpness
from landscape_sweep.probes.surface import surface

__all__ = [
    "Batches",
    "Dynamics",
    "Loss",
    "Measurement",
    "connectivity",
    "early",
    "gradient_noise",
    "hessian",
    "loss_and_accuracy",
    "networks_plane",
    "profile",
    "sharpness",
    "surface",
]
