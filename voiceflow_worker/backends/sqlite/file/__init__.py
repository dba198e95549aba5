"""The file of a store: its address, opening it, and whether it is whole and still the same."""
