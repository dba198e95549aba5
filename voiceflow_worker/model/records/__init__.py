"""Jobs and outcomes as JSON, for programs and for stores."""
