"""Who a program runs for: agents with their flows, and the registry that finds a flow by (agent, flow)."""
