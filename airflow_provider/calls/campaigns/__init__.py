"""Tasks that call a list of people."""
