"""What all tests share."""

from hypothesis import settings

# The same examples in every run: a test that fails here fails for everybody. To look for new ones:
# pytest --hypothesis-profile=explore
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")
