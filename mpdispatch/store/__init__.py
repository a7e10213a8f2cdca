"""Persistence. `base` says what a store must do; `sqlite` does it."""
