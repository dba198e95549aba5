"""Menus over webhooks: call action events answered once, whichever receivers get them."""
