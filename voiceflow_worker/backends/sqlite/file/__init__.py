"""The file of a store: opening it, and checks that it is complete, undamaged and not replaced."""
