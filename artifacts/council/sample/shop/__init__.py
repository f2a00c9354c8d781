"""A small shop with mistakes, for the council to find."""
