"""How a program is stored: one file, one digest, nothing that runs when it is read."""

from apxm.artifact.format import Artifact

__all__ = ["Artifact"]
