"""The pages under `/ui`, and their design."""
