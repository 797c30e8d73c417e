"""One study, from the archive to its results.

Three workflows: a *job* takes a study's identity off and finds its routes; each *task* runs one
model on one series and stores the result on the clinical study; each *delivery* sends one result
to one more destination. They wait in queues of their own, so that a STAT task overtakes routine
ones, and a destination that is down holds nothing else up.

`workflows` has the three and what follows a failure, `cleaning` the steps of a job that deal with
identity, `task` the steps of a task, `house` what all of them work with.
"""

from pipelines.inference.house import ARCHIVE, House
from pipelines.inference.workflows import Inference

__all__ = ["ARCHIVE", "House", "Inference"]
