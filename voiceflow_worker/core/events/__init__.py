"""Events during calls: key presses, bridges, states of legs, recordings."""
