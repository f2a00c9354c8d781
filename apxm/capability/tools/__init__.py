"""Capabilities that come with apxm. All of them need an explicit grant."""
