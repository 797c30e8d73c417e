"""The node's own pages, rendered here; `ROUTERS` is all of them."""

from node.pages import account, apidocs, custody, drawn, jobs, login, profiles, studies, worklist

ROUTERS = (
    login.router,
    studies.router,
    worklist.router,
    jobs.router,
    drawn.router,
    custody.router,
    profiles.router,
    account.router,
    apidocs.router,
)
