"""How many drawn examples a test tries: some in every run, many where somebody explores."""

from hypothesis import HealthCheck, settings


def few_or_many(few: int, many: int) -> int:
    """Return `few`, or with ``--hypothesis-profile=explore`` `many`."""
    return many if settings.get_current_profile_name() == "explore" else few


def examples(few: int) -> settings:
    """Return settings with so many examples; a thousand where somebody explores.

    How long an example takes is not judged: machines are busy at times.
    """
    return settings(
        max_examples=few_or_many(few, 1000),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
