"""Links from task instances to the pages of their calls."""
