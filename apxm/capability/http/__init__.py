"""The one way out over HTTP: which addresses may be reached, one exchange within limits, redirects."""
