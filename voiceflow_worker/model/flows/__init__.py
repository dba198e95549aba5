"""Call flows: the five actions, the rules of the 8x8 contract, and bodies to send and to compare."""
