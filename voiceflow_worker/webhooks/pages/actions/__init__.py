"""The actions of operators on the pages. A page asks before each action, and says which phones will ring."""
