"""Calls that earlier tries of a task made, and the instances of mapped tasks that made them."""
