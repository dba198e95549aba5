"""Menus over webhooks: each call action event is answered once, by whichever receiver gets it."""
