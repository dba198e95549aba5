"""Calling hours: windows, public holidays, and the first moment at which a call may ring."""
