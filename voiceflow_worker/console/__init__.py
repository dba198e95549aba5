"""The pages for people under `/ui`, and their design."""
