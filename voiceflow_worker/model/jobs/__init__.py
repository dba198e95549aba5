"""Jobs: one call each, from queued to its end, as data and pure moves."""
