"""Jobs, their tasks, steps, results and deliveries.

The rows are the truth; the durable engine only carries work out. A job that the engine was not
given yet is found by :meth:`Jobs.not_handed_over`, so that a crash between the two loses nothing.

===============  ================================================================================
`scheduling`     jobs are made, handed over, asked to stop, scheduled again
`progress`       what a worker notes while it carries one out
`delivering`     results, and where they go
`looking`        jobs and tasks as they are shown
`rows`           what the four share: rows by id, and when a job has ended
===============  ================================================================================
"""

from pipelines.store.jobs.delivering import Delivering
from pipelines.store.jobs.looking import Looking
from pipelines.store.jobs.progress import Progress
from pipelines.store.jobs.scheduling import Scheduling

__all__ = ["Jobs"]


class Jobs(Scheduling, Progress, Delivering, Looking):
    """What is done, was done and has to be done with studies."""
