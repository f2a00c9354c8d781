"""What outlives one run and is shared: queues, checkpoints, messages to other agents."""
