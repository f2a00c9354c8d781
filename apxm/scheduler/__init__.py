"""WHEN a node fires. Pure: no clock, no I/O, no asyncio, no Ray; engines and the simulator drive the same objects."""
