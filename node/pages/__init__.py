"""The node's own pages, rendered here; `ROUTERS` is all of them."""

from node.pages import account, apidocs, jobs, login, studies

ROUTERS = (login.router, studies.router, jobs.router, account.router, apidocs.router)
