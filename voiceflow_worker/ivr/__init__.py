"""IVR menus as code: they answer an event of a call with a call flow, and need neither a store nor the network."""
