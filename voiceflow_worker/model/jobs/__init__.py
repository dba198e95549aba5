"""Jobs: each is the data of one call. Pure functions move a job from state to state."""
