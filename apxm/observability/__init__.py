"""What others may watch."""
