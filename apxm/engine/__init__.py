"""Joins WHEN (scheduler), HOW (executor) and WHERE (this process, later a cluster)."""
