"""Events of calls that go on: key presses, bridges, states of legs, recordings."""
