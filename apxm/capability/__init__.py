"""What the world offers to a program: capabilities, their schemas, who may call them, and how they are run."""
