"""Backups of a store: made while it is in use, and put in its place."""
