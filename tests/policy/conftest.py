from hypothesis import settings

# No deadline: a loaded machine is slow, not wrong.
settings.register_profile("policy", deadline=None)
settings.load_profile("policy")
