"""The rollback guard: detects a store that has lost calls which were sent."""
