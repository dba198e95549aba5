# The wheel has tests.contract under this name.
