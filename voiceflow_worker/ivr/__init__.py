"""IVR menus as code: they answer an event of a call with a call flow. No store, no network, no clock."""
