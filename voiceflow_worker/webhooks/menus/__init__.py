"""Menus over webhooks. Every receiver gives the same answer to the same call action event."""
