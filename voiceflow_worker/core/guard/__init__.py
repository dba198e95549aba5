"""The rollback guard, which detects a store that has lost sent calls."""
