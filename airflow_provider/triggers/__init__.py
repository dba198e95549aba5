"""Triggers that watch calls for deferred tasks."""
