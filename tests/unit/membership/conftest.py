"""Few examples and no deadline: the machine may be busy, and a rule is no race."""

from hypothesis import settings

settings.register_profile("quick", deadline=None, max_examples=50)
settings.load_profile("quick")
