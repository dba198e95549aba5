"""Menus as a graph: where they lead, what is wrong with them, pictures of them."""
