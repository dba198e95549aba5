"""IVR menus as code: an event of a call in, what to do next out. Pure: no store, no network, no clock of its own."""
