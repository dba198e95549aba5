"""Triggers that watch calls for deferred tasks and asset watchers."""
