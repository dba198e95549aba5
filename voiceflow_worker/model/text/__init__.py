"""Values as people write and read them: durations, rates, times, addresses, printable text."""
