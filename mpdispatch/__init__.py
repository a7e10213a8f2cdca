"""Durable background jobs for one machine that just work."""
