"""Who is there, and how far that person reaches: logins, API tokens, guards.

Passwords are kept as argon2id, session cookies and tokens as SHA-256 only: whoever reads the
database cannot log in. A session's cookie is sent by browsers on their own, so a write with it must
come from one of our own pages (:meth:`Auth.from_own_page`); STOW through the proxy too.

===============  ================================================================================
`callers`        who sends a request, and how far each role reaches
`guards`         dependencies of routes that let only some roles pass
`logins`         users, passwords, sessions, API tokens
`throttle`       guessing slowed down
===============  ================================================================================
"""

from node.auth.callers import (
    CLINICAL_ROLES,
    CUSTODY_ROLES,
    DATASET_ROLES,
    IMAGE_ROLES,
    LEARNING_ROLES,
    ROLES,
    Caller,
)
from node.auth.guards import (
    AdminCaller,
    AnyCaller,
    ClinicalCaller,
    CustodyCaller,
    DatasetCaller,
    Guard,
    LearningCaller,
    address_of,
    auth_of,
    guard,
)
from node.auth.logins import COOKIE, FIRST_ADMIN, SHORTEST_PASSWORD, TOKEN_PREFIX, Auth
from node.auth.throttle import Throttle

__all__ = [
    "CLINICAL_ROLES",
    "COOKIE",
    "CUSTODY_ROLES",
    "DATASET_ROLES",
    "FIRST_ADMIN",
    "IMAGE_ROLES",
    "LEARNING_ROLES",
    "ROLES",
    "SHORTEST_PASSWORD",
    "TOKEN_PREFIX",
    "AdminCaller",
    "AnyCaller",
    "Auth",
    "Caller",
    "ClinicalCaller",
    "CustodyCaller",
    "DatasetCaller",
    "Guard",
    "LearningCaller",
    "Throttle",
    "address_of",
    "auth_of",
    "guard",
]
