"""The graph of menus: its mistakes, and its picture."""
