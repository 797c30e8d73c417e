"""Where trainings learn: on this machine, or as jobs of a Slurm cluster.

One protocol (:class:`Launcher`), two ways that keep it: :class:`Local` attends a child,
:class:`Slurm` sends arrays, submits a job, brings back what was learnt, and lets the child make
the bundle of it. Whatever is killed on the way, the next call with the same folder goes on.
"""

from pipelines.launching.attending import Local, attend
from pipelines.launching.cluster import Cluster
from pipelines.launching.launcher import Attended, Ending, Launcher, Place, Watch
from pipelines.launching.login import Login
from pipelines.launching.slurm import Slurm

__all__ = [
    "Attended",
    "Cluster",
    "Ending",
    "Launcher",
    "Local",
    "Login",
    "Place",
    "Slurm",
    "Watch",
    "attend",
]
