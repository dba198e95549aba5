"""Jobs: the data of one call each, and its moves from state to state as pure functions."""
