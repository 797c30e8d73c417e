"""The learning loop: what people correct becomes a dataset, a training, a better version.

::

    frozen = freeze_dataset(school, material, rule, by="anna")
    order_training(school, dataset=frozen.dataset.identity, name="liver", asked_by="anna")
    ... the worker learns, makes a bundle and measures it (`Lessons`) ...
    promote(school, "liver@0.2.0", by="anna", why="better on thin slices")
    roll_back(school, "liver", by="anna", why="misses small lesions")

`school` has what all of it works with; `ordering` asks for trainings, `promoting` says which
version is current, `signing` what a registry is told of that.
"""

from pipelines.learning.ordering import (
    cancel,
    changed_plan,
    know_dataset,
    next_version,
    order_training,
    plan_training,
    watch,
)
from pipelines.learning.promoting import (
    Policy,
    current_bundle,
    promote,
    promote_by_figures,
    results_of,
    roll_back,
    sign,
    withdraw,
)
from pipelines.learning.school import School
from pipelines.learning.signing import Signer, standing_of

__all__ = [
    "Policy",
    "School",
    "Signer",
    "cancel",
    "changed_plan",
    "current_bundle",
    "know_dataset",
    "next_version",
    "order_training",
    "plan_training",
    "promote",
    "promote_by_figures",
    "results_of",
    "roll_back",
    "sign",
    "standing_of",
    "watch",
    "withdraw",
]
