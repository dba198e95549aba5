"""Sensors that wait for calls and for answers by key."""
