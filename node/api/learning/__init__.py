"""Learning: datasets, plans, trainings, versions of models, alarms; a file a noun."""

from node.api.learning import alarms, cascades, datasets, freezings, models, plans, trainings

ROUTERS = (
    freezings.router,
    datasets.router,
    plans.router,
    trainings.router,
    cascades.router,
    models.router,
    alarms.router,
)
