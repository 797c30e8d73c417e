"""The learning loop: what people correct becomes a dataset, a training, a better version.

::

    frozen = freeze_dataset(school, material, rule, by="anna")
    order_training(school, dataset=frozen.dataset.identity, name="liver", asked_by="anna")
    ... the worker learns, makes a bundle and measures it (`Lessons`) ...
    promote(school, "liver@0.2.0", by="anna", why="better on thin slices")
    roll_back(school, "liver", by="anna", why="misses small lesions")

`school` has what all of it works with. `rules` say which corrections become a dataset; `gathering`,
`fusing`, `splitting`, `freezing` make it, and `asking` lets people ask for one. `ordering` asks for
trainings, `cascading` for two that belong together; `lessons` carries them out with what `means`
gives, `overseeing` looks on, `schedule` and `hours` say when. `candidates` are what comes of them:
`judging` and `promoting` say which version is current, `signing` what a registry is told of that,
`reporting` writes card and report, `drift` raises alarms, `tracking` tells MLflow of the curves.
"""

from models.learning.beginning import changed_plan
from pipelines.learning.asking import ask_dataset, learn_from_corrections
from pipelines.learning.cascading import order_cascade, plan_cascade
from pipelines.learning.drift import Lookout, find_drift
from pipelines.learning.freezing import Frozen, freeze_dataset, freeze_recent
from pipelines.learning.gathering import LeftOut, Material, fitting
from pipelines.learning.hours import Clock, QuietHours
from pipelines.learning.lessons import Lessons
from pipelines.learning.means import Means
from pipelines.learning.ordering import (
    cancel,
    check_model_name,
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
from pipelines.learning.rules import Fusion, LearningRule, Picked
from pipelines.learning.schedule import Schedule, graph_called, shadow_of
from pipelines.learning.school import School
from pipelines.learning.signing import Signer, standing_of

__all__ = [
    "Clock",
    "Frozen",
    "Fusion",
    "LearningRule",
    "LeftOut",
    "Lessons",
    "Lookout",
    "Material",
    "Means",
    "Picked",
    "Policy",
    "QuietHours",
    "Schedule",
    "School",
    "Signer",
    "ask_dataset",
    "cancel",
    "changed_plan",
    "check_model_name",
    "current_bundle",
    "find_drift",
    "fitting",
    "freeze_dataset",
    "freeze_recent",
    "graph_called",
    "know_dataset",
    "learn_from_corrections",
    "next_version",
    "order_cascade",
    "order_training",
    "plan_cascade",
    "plan_training",
    "promote",
    "promote_by_figures",
    "results_of",
    "roll_back",
    "shadow_of",
    "sign",
    "standing_of",
    "watch",
    "withdraw",
]
