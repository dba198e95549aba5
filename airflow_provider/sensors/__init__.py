"""Sensors that wait for calls and for key presses."""
