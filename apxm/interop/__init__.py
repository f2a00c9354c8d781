"""Doors that other systems use: the protocols of others, in and out."""
