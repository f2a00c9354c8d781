"""What a person may set outside a program, and who has set it: files, environment, flags. Starts nothing."""

from apxm.settings.load import Settings, load

__all__ = ["Settings", "load"]
