"""How histories look in a terminal, and in a pipe, without colour, or with ASCII alone."""
