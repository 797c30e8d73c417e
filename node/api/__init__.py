"""The HTTP API, one file a noun; `ROUTERS` is all of them."""

from node.api import (
    audit,
    bundles,
    corrections,
    drafts,
    events,
    health,
    jobs,
    me,
    openapi,
    prompts,
    results,
    routes,
    studies,
    tokens,
    users,
    viewer,
)

ROUTERS = (
    health.router,
    me.router,
    studies.router,
    jobs.router,
    results.router,
    viewer.router,
    corrections.router,
    drafts.router,
    prompts.router,
    events.router,
    bundles.router,
    routes.router,
    users.router,
    tokens.router,
    audit.router,
    openapi.router,
)
