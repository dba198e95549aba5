"""Backups of a store: making one while the store is in use, and restoring one."""
