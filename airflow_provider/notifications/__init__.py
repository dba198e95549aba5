"""Notifiers that phone people."""
