"""The node's own pages, rendered here; `ROUTERS` is all of them."""

from node.pages import (
    account,
    apidocs,
    collect,
    custody,
    drawn,
    exports,
    freezing,
    frozen,
    jobs,
    learning,
    login,
    profiles,
    studies,
    teaching,
    worklist,
    workspaces,
)

ROUTERS = (
    login.router,
    studies.router,
    worklist.router,
    workspaces.router,
    jobs.router,
    drawn.router,
    collect.router,
    exports.router,
    freezing.router,
    frozen.router,
    learning.router,
    teaching.router,
    custody.router,
    profiles.router,
    account.router,
    apidocs.router,
)
