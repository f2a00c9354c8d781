"""What models are told before they are asked: the built-in texts, and the ones that a user puts in their place."""
