# The public names of this room, each with its module. A name is loaded when it is first used.
from .process import ProcessRate as ProcessRate
